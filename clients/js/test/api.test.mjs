// What a program asks for, and what it is told.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, listen, numbers, until, untilState } from "./client.mjs";
import { startProxy } from "./proxy.mjs";
import { startServer } from "./server.mjs";

test("publishing, presence and refusals", async (t) => {
  const server = await startServer(t);
  const push = connect(t, server.url);
  const got = await listen(push, "scores.a");
  const bytes = Uint8Array.of(255, 0, 1);
  const first = await push.publish("scores.a", { x: 1 }, { id: "once" });
  assert.deepEqual(await push.publish("scores.a", { x: 2 }, { id: "once" }), first);
  await push.publish("scores.a", bytes);
  assert.equal((await push.publish("chat.a", "hi")).cursor, undefined);
  await until("both", () => got.data.length === 2);
  assert.deepEqual(got.data, [{ x: 1 }, bytes]);
  assert.equal(await push.presence("scores.a"), 1);

  await assert.rejects(push.publish("scores.*", 1), { name: "PushdError", code: "invalid_topic" });
  await assert.rejects(push.publish("scores.a", "x".repeat(70_000)), { code: "message_too_large" });
  assert.equal(push.state, "open");

  const errors = [];
  push.on("error", (error, sub) => errors.push([error.code, sub.topic]));
  push.subscribe("*.a", () => {}, { onError: (error, sub) => errors.push([error.code, "own " + sub.topic]) });
  push.subscribe("*.b", () => {});
  await until("the refusals", () => errors.length === 2);
  assert.deepEqual(errors, [["invalid_topic", "own *.a"], ["invalid_topic", "*.b"]]);
  await assert.rejects(push.subscribe("*.b")[Symbol.asyncIterator]().next(), { code: "invalid_topic" });

  // The last handler takes the subscription with it.
  const second = await listen(push, "scores.a");
  got.sub.unsubscribe();
  assert.equal(await push.presence("scores.a"), 1);
  second.sub.unsubscribe();
  assert.equal(await push.presence("scores.a"), 0);

  const late = push.publish("scores.a", 1);
  push.close();
  await assert.rejects(late, { code: /closed|disconnected/ });
  await assert.rejects(push.publish("scores.a", 1), { code: "closed" });
  assert.throws(() => push.subscribe("scores.a"), { code: "closed" });
});

test("for await, and a program that does not keep up", async (t) => {
  const server = await startServer(t);
  const push = connect(t, server.url);
  const gaps = [];
  const sub = push.subscribe("scores.a", { buffer: 3, onGap: (gap) => gaps.push(gap.reason) });
  const all = await listen(push, "scores.*");
  for (const n of numbers(1, 5)) await server.publish("scores.a", n);
  await until("all", () => all.data.length === 5);
  const got = [];
  for await (const { data } of sub) {
    got.push(data);
    if (data === 5) setTimeout(() => push.publish("scores.a", 6));
    if (data === 6) break;
  }
  assert.deepEqual(got, [3, 4, 5, 6]);
  assert.deepEqual(gaps, ["buffer"]);
  assert.equal(await push.presence("scores.a"), 0, "who leaves the loop has unsubscribed");
});

test("the newest values, at a rate", async (t) => {
  const server = await startServer(t);
  const push = connect(t, server.url);
  await server.publish("stocks.a", 0);
  const got = await listen(push, "stocks.*", { mode: "latest", maxRate: 2 });
  await until("the value that was there", () => got.data.length === 1);
  for (const n of numbers(1, 100)) await server.publish("stocks.a", n);
  await until("the last", () => got.data.at(-1) === 100);
  assert.ok(got.data.length < 50, `${got.data.length} updates`);
  assert.ok(got.messages.some((m) => m.skipped > 0));
});

test("more commands than the rate allows", async (t) => {
  const server = await startServer(t, { flags: ["--max-command-rate", "20", "--unlimited", "none"] });
  const push = connect(t, server.url, { timeout: 30_000 });
  const infos = new Set();
  for (const n of numbers(1, 230)) push.subscribe(`chat.t${n}`, () => {}, { onSubscribed: ({ topic }) => infos.add(topic) });
  await until("all subscriptions", () => infos.size === 230);
  assert.equal(await push.presence("chat.t230"), 1);
});

test("where WebSockets are blocked, and then are not", async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server.port);
  proxy.block(/^GET \/ws /);
  const push = connect(t, proxy.url, { retryBetter: 100 });
  const got = await listen(push, "scores.a");
  assert.equal(push.transport, "sse");
  await push.publish("scores.a", 1);
  proxy.block(/^GET \/(ws|sse\?)/);
  await untilState(push, "waiting", proxy.reset).catch(() => {});
  await until("polling", () => push.transport === "poll");
  await push.publish("scores.a", 2);
  await until("both", () => got.data.length === 2);
  proxy.block(/^$/);
  await until("the best again", () => push.transport === "websocket");
  await push.publish("scores.a", 3);
  await until("all", () => got.data.length === 3);
  assert.deepEqual(got.data, [1, 2, 3]);
  assert.deepEqual(got.gaps, []);
});

test("a WebSocket that opens, and says nothing", async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server.port);
  proxy.mute(/^GET \/ws /);
  const push = connect(t, proxy.url, { timeout: 200 });
  const got = await listen(push, "scores.a");
  assert.equal(push.transport, "sse", "there was another way");
  await server.publish("scores.a", 1);
  await until("it", () => got.data.length === 1);

  const alone = connect(t, proxy.url, { timeout: 200, transports: ["websocket"] });
  const states = [];
  alone.on("state", (state) => states.push(state));
  alone.subscribe("scores.a", () => {});
  await until("an attempt more", () => states.filter((state) => state === "connecting").length > 1);
  assert.ok(!states.includes("open"));
  proxy.mute(/^$/);
  await until("a connection", () => alone.state === "open");
});

test("a Node without a WebSocket class, and a constructor that is no use", async (t) => {
  const server = await startServer(t);
  let tried = 0;
  const WebSocket = class {
    constructor() {
      tried++;
      throw new Error("no");
    }
  };
  const push = connect(t, server.url, { WebSocket, retryBetter: 20 });
  const got = await listen(push, "chat.a");
  await until("another try", () => tried > 1);
  assert.equal(push.transport, "sse");
  await server.publish("chat.a", 1);
  await until("it", () => got.data.length);
});

test("as long as Retry-After says, at least", async (t) => {
  const server = await startServer(t);
  for (const [transport, status] of [["sse", 429], ["poll", 503]]) {
    let refusals = 1;
    const refuse = async (url, init) => {
      if (!/healthz/.test(url) && refusals-- > 0) return Response.json({ code: "unavailable", message: "later" }, { status, headers: { "Retry-After": "3" } });
      return fetch(url, init);
    };
    const setTimeout = globalThis.setTimeout; // of what waits so long, we only want to know that it does
    const waits = [];
    t.mock.method(globalThis, "setTimeout", (call, ms, ...args) => {
      if (ms >= 3000 && ms < 3400) waits.push(ms);
      return setTimeout(call, ms >= 3000 && ms < 3400 ? 0 : ms, ...args);
    });
    const push = connect(t, server.url, { transports: [transport], fetch: refuse });
    const asked = [];
    push.on("state", (state, info) => state === "waiting" && asked.push(info));
    const got = await listen(push, "chat.a");
    assert.equal(asked.length, 1);
    assert.equal(asked[0].code, status);
    assert.ok(asked[0].retryIn >= 3000, `comes back after ${asked[0].retryIn} ms`);
    refusals = 1;
    const publishing = connect(t, server.url, { transports: [transport], fetch: refuse });
    waits.length = 0;
    await publishing.publish("chat.a", 1, { id: transport });
    assert.deepEqual(waits, [3000]);
    await until("it", () => got.data.length);
    t.mock.restoreAll();
  }
});
