// A server that drains says how long each client may stay, and the client goes by that.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, listen, numbers, until } from "./client.mjs";
import { startProxy } from "./proxy.mjs";
import { startServer } from "./server.mjs";

/** Two servers on one NATS, and what stands before them: it sends everybody to the first until it is told otherwise. */
async function startTwo(t) {
  const first = await startServer(t);
  const second = await startServer(t, { nats: first.nats });
  return { first, second, front: await startProxy(t, first.port) };
}

/** How many clients a server has. */
const clients = async (server) => (await server.operate("GET", "/connections")).connections.length;

for (const transport of ["websocket", "sse", "poll"]) {
  test(`a server that drains, by ${transport}`, async (t) => {
    const { first, second, front } = await startTwo(t);
    const all = [];
    for (const n of numbers(1, 5)) {
      const push = connect(t, front.url, { transports: [transport] });
      const left = [];
      push.on("state", (state, { code }) => state === "waiting" && left.push(code));
      all.push({ left, got: await listen(push, "scores.a") });
    }
    front.to(second.port);
    await first.operate("POST", "/drain?grace=0&window=1");
    let published = 0;
    while ((await first.operate("GET", "/drain")).state !== "drained") await second.publish("scores.a", ++published);
    await second.publish("scores.a", ++published);
    await until("all of it", () => all.every(({ got }) => got.data.at(-1) === published));
    for (const { left, got } of all) {
      assert.deepEqual(got.data, numbers(1, published));
      assert.deepEqual(got.gaps, []);
      // Once; but fetch keeps connections for all who poll here, and the next poll may have one to the same server, whose window may be over.
      if (transport === "poll") assert.ok(left[0] === 1012 && left.every((code) => code === 1012 || code === 503), `left for ${left}`);
      else assert.deepEqual(left, [1012], "left once, for the advice");
    }
    assert.equal(await clients(first), 0);
  });

  test(`advice outlives the connection, by ${transport}`, async (t) => {
    const { first, second, front } = await startTwo(t);
    const push = connect(t, front.url, { transports: [transport] });
    const waits = [];
    push.on("state", (state, { retryIn }) => state === "waiting" && waits.push(retryIn));
    const got = await listen(push, "scores.a");
    while (!(await clients(first))) await new Promise((wake) => setTimeout(wake, 10)); // a poll may be between two
    await first.operate("POST", "/drain?grace=0&window=3600");
    front.to(second.port);
    await until("the advice", () => front.passed.includes('"reconnect"'));
    await second.publish("scores.a", 1);
    await until("that the client has it", () => got.data.length || waits.length); // what is behind it has come, or a poll has left
    front.reset();
    await second.publish("scores.a", 2);
    await until("the end", () => waits.length);
    assert.ok(waits[0] > 1_000_000, `comes back after ${waits[0]} ms, and was asked to after an hour`);
    assert.equal(push.state, "waiting");
    await until("what came meanwhile", () => {
      if (push.state === "waiting") push.resume(); // tries now; again, where that went over a connection that the reset has taken
      return got.data.length === 2;
    });
    assert.deepEqual(got.data, [1, 2]);
    assert.deepEqual(got.gaps, []);
  });
}
