// Where tokens come from, and when.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { WebSocketServer } from "ws";
import { connect, listen, token, until } from "./client.mjs";
import { startServer } from "./server.mjs";

const secret = "0123456789abcdef0123456789abcdef";

for (const transport of ["websocket", "sse", "poll"]) {
  test(`tokens, by ${transport}`, async (t) => {
    const server = await startServer(t, { flags: ["--token-leeway", "0s"], env: { PUSHD_TOKEN_SECRET: secret } });
    let fetched = 0;
    const push = connect(t, server.url, { transports: [transport], token: () => token(secret, fetched++ ? 300 : 3) });
    const states = [];
    push.on("state", (state) => states.push(state));
    const got = await listen(push, "scores.a");
    await push.publish("scores.a", 1);
    await until("another token", () => fetched > 1);
    if (transport === "websocket") assert.ok(!states.includes("waiting"), `${states}`);
    await push.publish("scores.a", 2);
    await until("both", () => got.data.length === 2);
    assert.deepEqual(got.data, [1, 2]);
    assert.deepEqual(got.gaps, []);

    let refused;
    push.subscribe("chat.a", () => {}, { onError: (error) => (refused = error.code) });
    await until("the refusal", () => refused);
    assert.equal(refused, "forbidden");

    let asked = 0;
    const renewed = connect(t, server.url, { transports: [transport], token: () => token(secret, asked++ ? 300 : -10) });
    await listen(renewed, "scores.a");
    assert.equal(asked, 2);

    let why;
    const stale = connect(t, server.url, { transports: [transport], token: token(secret, -10) });
    stale.on("close", (error) => (why = error?.code));
    stale.on("error", () => {});
    stale.subscribe("scores.a", () => {});
    if (transport !== "websocket") {
      await until("the end", () => why);
      assert.equal(why, "close_401");
      assert.equal(stale.state, "closed");
    }
  });
}

/** A function whose answers are those of the list, and then the last of them. */
function answers(...list) {
  const give = () => list[Math.min(give.asked++, list.length - 1)]();
  give.asked = 0;
  return give;
}
const never = () => new Promise(() => {});

test("a token that never comes", async (t) => {
  const server = await startServer(t, { flags: ["--token-leeway", "0s"], env: { PUSHD_TOKEN_SECRET: secret } });
  const good = () => token(secret, 300);
  const soon = () => token(secret, 2);
  const fails = () => {
    throw new Error("no");
  };
  for (const [name, ask, errors] of [
    ["at first", answers(never, never, good), 2],
    ["at first, and an error", answers(fails, never, () => Promise.reject("no"), good), 3],
    ["on an open connection", answers(soon, never, never, good), 2],
  ]) {
    const push = connect(t, server.url, { token: ask, timeout: 300, transports: ["websocket"] });
    const told = [];
    push.on("error", ({ code }) => told.push(code));
    const got = await listen(push, "scores.a");
    await until(`the last answer, ${name}`, () => ask.asked === errors + (ask.asked && name.startsWith("on") ? 2 : 1) && push.state === "open");
    await server.publish("scores.a", 1, { Authorization: `Bearer ${good()}` });
    await until("it", () => got.data.length);
    assert.deepEqual(told, Array(errors).fill("token"), name);
    push.close();
  }
});

test("nobody is told of a token that came to nothing after the end", async (t) => {
  const push = connect(t, "http://127.0.0.1:9", { token: never, timeout: 50 });
  const told = [];
  push.on("error", ({ code }) => told.push(code));
  await until("the first", () => told.length);
  await until("another attempt", () => push.state === "connecting");
  push.close();
  await new Promise((wake) => setTimeout(wake, 150));
  assert.deepEqual(told, ["token"]);
});

/** A server made for the test, which keeps each connection's token and what it says. */
async function startFake(t) {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await once(server, "listening");
  t.after(() => server.close());
  const fake = { url: `ws://127.0.0.1:${server.address().port}`, sockets: [], tokens: [], said: [] };
  server.on("connection", (socket, { headers }) => {
    fake.sockets.push(socket);
    fake.tokens.push(/pushd\.token\.(\w+)/.exec(headers["sec-websocket-protocol"])?.[1]);
    socket.on("message", (text) => fake.said.push(JSON.parse(text)));
    socket.send('{"type":"welcome","protocol":1,"client":"c_1","heartbeat":25000,"max_message":65536}');
  });
  return fake;
}

test("a renewal that failed is tried again when the server says so again", async (t) => {
  const fake = await startFake(t);
  const ask = answers(() => "first", () => Promise.reject("no"), () => "second");
  const push = connect(t, fake.url, { transports: ["websocket"], token: ask });
  const told = [];
  push.on("error", ({ code }) => told.push(code));
  await until("a connection", () => push.state === "open");
  fake.sockets[0].send('{"type":"token_expires"}');
  await until("the failure", () => told.length);
  fake.sockets[0].send('{"type":"token_expires"}');
  await until("the renewal", () => fake.said.length);
  assert.deepEqual(fake.said.map(({ type, token }) => [type, token]), [["auth", "second"]]);
  assert.deepEqual([told, fake.tokens], [["token"], ["first"]]);
});

test("a token that comes when its attempt is over is not used", async (t) => {
  const fake = await startFake(t);
  let answer;
  const push = connect(t, fake.url, { transports: ["websocket"], token: answers(() => new Promise((give) => (answer = give)), () => "good") });
  await until("the question", () => answer);
  push.pause();
  push.resume();
  await until("a connection", () => push.state === "open");
  answer("old");
  await new Promise((wake) => setTimeout(wake));
  fake.sockets[0].terminate();
  await until("another connection", () => fake.tokens.length > 1);
  assert.deepEqual(fake.tokens, ["good", "good"]);
});
