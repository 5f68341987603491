// Nothing is lost and nothing comes twice, whatever ends the connection.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, listen, numbers, until, untilState } from "./client.mjs";
import { startProxy } from "./proxy.mjs";
import { startServer } from "./server.mjs";

for (const transport of ["websocket", "sse", "poll"]) {
  test(`a killed server, by ${transport}`, async (t) => {
    const server = await startServer(t);
    const push = connect(t, server.url, { transports: [transport] });
    const all = await listen(push, "scores.>");
    const one = await listen(push, "scores.b");
    const live = await listen(push, "chat.a");
    for (const n of numbers(1, 10)) await server.publish(n % 2 ? "scores.a" : "scores.b", n);
    await until("the first", () => all.data.length === 10);
    await untilState(push, "waiting", server.kill);
    await server.start();
    for (const n of numbers(11, 300)) await server.publish(n % 2 ? "scores.a" : "scores.b", n);
    await until("the rest", () => all.data.length >= 300 && one.data.length >= 150);
    await server.publish("scores.b", 302);
    await until("the last", () => all.data.at(-1) === 302 && one.data.at(-1) === 302);
    assert.deepEqual(all.data, [...numbers(1, 300), 302]);
    assert.deepEqual(one.data, all.data.filter((n) => n % 2 === 0));
    assert.deepEqual(all.gaps, []);
    assert.equal(all.sub.cursor, one.sub.cursor);
    assert.equal(push.transport, transport);
    if (transport !== "poll") assert.deepEqual(live.gaps.map((g) => g.reason), ["disconnected"], "what has no history is told");
  });
}

test("a network that resets, and one that falls silent", async (t) => {
  const server = await startServer(t, { flags: ["--heartbeat", "1s"] });
  const proxy = await startProxy(t, server.port);
  const push = connect(t, proxy.url, { timeout: 300, transports: ["websocket"] });
  const got = await listen(push, "scores.a");
  await server.publish("scores.a", 1);
  await until("the first", () => got.data.length === 1);

  await untilState(push, "waiting", proxy.reset);
  await server.publish("scores.a", 2);
  await until("the second", () => got.data.length === 2);

  await untilState(push, "waiting", async () => {
    proxy.freeze();
    await server.publish("scores.a", 3);
  });
  proxy.reset();
  proxy.thaw();
  await until("the third", () => got.data.length === 3);
  assert.deepEqual(got.data, [1, 2, 3]);
});

test("history that has gone is told as a gap", async (t) => {
  const server = await startServer(t);
  const push = connect(t, server.url);
  const told = [];
  push.on("gap", (gap, sub) => told.push([gap.reason, sub.topic]));
  const got = await listen(push, "few.a");
  await server.publish("few.a", 1);
  await until("the first", () => got.data.length === 1);
  push.pause();
  assert.equal(push.state, "paused");
  for (const n of numbers(2, 9)) await server.publish("few.a", n);
  await server.kill(); // it has them in memory else
  await server.start();
  push.resume();
  await until("the rest", () => got.data.length === 3);
  assert.deepEqual(got.data, [1, 8, 9]);
  assert.deepEqual(told[0], ["expired", "few.a"]);
  assert.deepEqual(got.infos.map((i) => i.recovered), [undefined, false]);
  assert.equal(got.gaps[0].from, got.messages[0].cursor);
});

test("a cursor from elsewhere, beside a subscription that overlaps", async (t) => {
  const server = await startServer(t);
  const push = connect(t, server.url);
  const first = await server.publish("scores.b", 0);
  const all = await listen(push, "scores.*");
  for (const n of numbers(1, 50)) await server.publish("scores.b", n);
  await until("all", () => all.data.length === 50);
  const again = await listen(push, "scores.b", { cursor: first.cursor });
  await until("those since the cursor", () => again.data.length === 50);
  await server.publish("scores.b", 51);
  await until("the last", () => all.data.length + again.data.length >= 102);
  assert.deepEqual(again.data, numbers(1, 51));
  assert.deepEqual(all.data, numbers(1, 51), "a replay for another repeats nothing");
  assert.throws(() => push.subscribe("scores.b", { mode: "latest" }), TypeError);
});

test("requests of their own for subscriptions that overlap", async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server.port);
  const push = connect(t, proxy.url, { transports: ["poll"] });
  const all = await listen(push, "scores.*");
  const one = await listen(push, "scores.b"); // by a request of its own
  proxy.hold(/topic=scores\.\*/);
  await server.publish("scores.a", 1);
  await server.publish("scores.b", 2);
  await until("the answer of one", () => one.data.length === 1);
  assert.deepEqual(all.data, [], "what came for another is not ahead of what is to come");
  await untilState(push, "waiting", proxy.reset);
  proxy.hold(/^$/);
  await until("both", () => all.data.length === 2);
  assert.deepEqual([all.data, one.data, all.gaps], [[1, 2], [2], []]);
});
