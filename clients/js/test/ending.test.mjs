// What the client does after each close code, as the protocol's page has it: against a real server that is
// given a reason for it, and for what a healthy one never says against one that is made for it.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import WebSocket, { WebSocketServer } from "ws";
import { connect, listen, token, until } from "./client.mjs";
import { startServer } from "./server.mjs";

const secret = "0123456789abcdef0123456789abcdef";

/** A WebSocket class whose last instance a test may misuse. */
function spied() {
  return class Spied extends WebSocket {
    static made = 0;
    constructor(...args) {
      super(...args);
      Spied.made++;
      Spied.last = this;
    }
  };
}

/** Keeps what a client tells of itself. */
function watch(push) {
  const seen = { states: [], infos: [], errors: [], closed: undefined };
  push.on("state", (state, info) => {
    seen.states.push(state);
    if (state === "waiting") seen.infos.push(info);
  });
  push.on("error", (error) => seen.errors.push(error.code));
  push.on("close", (error) => (seen.closed = error?.code));
  return seen;
}

/** Wants the end for good. */
async function wantClosed(push, seen, code, connections) {
  await until(`close_${code}`, () => seen.closed);
  assert.equal(seen.closed, `close_${code}`);
  assert.equal(push.state, "closed");
  assert.deepEqual(seen.infos, [], "it wanted to come back");
  const before = connections();
  await new Promise((wake) => setTimeout(wake, 100));
  assert.equal(connections(), before, "it came back");
}

const flood = (socket) => {
  for (let n = 0; n < 300; n++) socket.send('{"type":"nonsense"}');
};

for (const { code, cause, act, after, flags } of [
  { code: 1000, cause: "a goodbye", act: (socket) => socket.close(1000), after: "closed" },
  { code: 1002, cause: "a frame without a mask", act: (socket) => socket._socket.write(Buffer.from([0x81, 1, 0x31])), after: "closed" },
  { code: 1003, cause: "a binary message", act: (socket) => socket.send(Buffer.from([1])), after: "closed" },
  { code: 1007, cause: "text that is not UTF-8", act: (socket) => socket.send(Buffer.from([0xff]), { binary: false }), after: "closed" },
  { code: 1009, cause: "a message that is too big", act: (socket) => socket.send("x".repeat(70_000)), after: "closed" },
  { code: 1008, cause: "commands too often", act: flood, after: 10_000, flags: ["--max-command-rate", "1", "--unlimited", "none"] },
  { code: 1006, cause: "a broken connection", act: (socket) => socket._socket.destroy(), after: 0 },
]) {
  test(`${code}, after ${cause}`, async (t) => {
    const server = await startServer(t, { flags });
    const Spied = spied();
    const push = connect(t, server.url, { WebSocket: Spied, transports: ["websocket"] });
    const seen = watch(push);
    const got = await listen(push, "scores.a");
    act(Spied.last);
    if (after === "closed") return wantClosed(push, seen, code, () => Spied.made);
    await until("the end", () => seen.infos.length);
    const [info] = seen.infos;
    assert.equal(info.code, code);
    assert.ok(info.retryIn >= after, `comes back after ${info.retryIn} ms`);
    await server.publish("scores.a", 1);
    push.resume(); // tries now
    await until("what came meanwhile", () => got.data.length === 1);
  });
}

for (const transport of ["websocket", "sse", "poll"]) {
  test(`what an operator does, by ${transport}`, async (t) => {
    const server = await startServer(t);
    const push = connect(t, server.url, { transports: [transport] });
    const seen = watch(push);
    const got = await listen(push, "scores.a");
    for (const [n, [reason, code]] of [["draining", 1012], ["overloaded", 1013], ["policy", 1008]].entries()) {
      await until("a connection", () => push.state === "open");
      seen.infos.length = 0;
      await server.disconnect(reason, () => seen.infos.length);
      assert.equal(seen.infos[0].code, code);
      await server.publish("scores.a", n);
      if (code !== 1008) {
        await until("what came meanwhile", () => got.data.length === n + 1);
        continue;
      }
      assert.ok(seen.infos[0].retryIn >= 10_000, `comes back after ${seen.infos[0].retryIn} ms`);
      push.resume();
      await until("what came meanwhile", () => got.data.length === n + 1);
    }
    assert.deepEqual([got.data, got.gaps, seen.errors], [[0, 1, 2], [], []]);

    seen.infos.length = 0;
    await until("a connection", () => push.state === "open");
    await server.disconnect("kicked", () => seen.closed);
    await wantClosed(push, seen, 4003, () => seen.states.length);
  });
}

test("a server that stops, and one that is killed", async (t) => {
  const server = await startServer(t);
  for (const [signal, code] of [["SIGINT", 1001], ["SIGKILL", 1006]]) {
    const push = connect(t, server.url, { transports: ["websocket"] });
    const seen = watch(push);
    await listen(push, "scores.a");
    await server.kill(signal);
    await until("the end", () => seen.infos.length);
    assert.equal(seen.infos[0].code, code);
    await server.start();
    await until("it back", () => push.state === "open");
    assert.deepEqual(seen.errors, []);
  }
});

test("4001 and 4002: by a token that can be had anew, and by one that cannot", async (t) => {
  const server = await startServer(t, { flags: ["--auth-timeout", "100ms", "--token-leeway", "0s"], env: { PUSHD_TOKEN_SECRET: secret } });
  const begin = (token) => {
    const push = connect(t, server.url, { transports: ["websocket"], token });
    const seen = watch(push);
    push.subscribe("scores.a", () => {}, { onError: () => {} });
    return [push, seen];
  };
  let asked = 0;
  const [none, noneSeen] = begin(undefined);
  const [late, lateSeen] = begin(() => (asked++ ? token(secret, 300) : undefined));
  const [never, neverSeen] = begin(() => "");
  await wantClosed(none, noneSeen, 4001, () => 0);
  await until("the end", () => neverSeen.closed);
  assert.equal(neverSeen.closed, "close_4001");
  assert.deepEqual(neverSeen.infos.map(({ code }) => code), [4001], "asked for another, once");
  await until("it back", () => lateSeen.states.filter((state) => state === "open").length === 2);
  assert.deepEqual([lateSeen.infos.length, lateSeen.infos[0].code, lateSeen.closed, asked], [1, 4001, undefined, 2]);

  const [short, shortSeen] = begin(token(secret, 2));
  await wantClosed(short, shortSeen, 4002, () => 0);
  let fetched = 0;
  const [renewed, renewedSeen] = begin(() => (fetched++, token(secret, 300)));
  await until("a connection", () => renewed.state === "open");
  await server.disconnect("token_expired", () => renewedSeen.infos.length);
  await until("it back", () => renewedSeen.states.filter((state) => state === "open").length === 2);
  assert.deepEqual([renewedSeen.infos[0].code, fetched, renewedSeen.closed], [4002, 2, undefined]);
  [late, never, renewed].forEach((push) => push.close());
});

test("codes that a server in health does not send", async (t) => {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await once(server, "listening");
  t.after(() => server.close());
  let code;
  server.on("connection", (socket) => {
    socket.send('{"type":"welcome","protocol":1,"client":"c_1","heartbeat":25000,"max_message":65536}');
    socket.on("message", () => code && socket.close(code));
  });
  for (code of [1011, 1013, 4008, 4999]) {
    const push = connect(t, `ws://127.0.0.1:${server.address().port}`, { transports: ["websocket"] });
    const seen = watch(push);
    push.subscribe("scores.a", () => {});
    await until("an attempt more", () => seen.states.filter((state) => state === "open").length > 1);
    assert.equal(seen.infos[0].code, code);
    assert.deepEqual(seen.errors, []);
    push.close();
  }
});
