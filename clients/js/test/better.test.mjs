// A link that is to take the place of another leaves it what it has, until it is open.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, listen, numbers, token, until } from "./client.mjs";
import { startProxy } from "./proxy.mjs";
import { startServer } from "./server.mjs";

const secret = "0123456789abcdef0123456789abcdef";

/** How often a stream of events has been asked for. */
const streams = (proxy) => proxy.asked.filter((head) => head.startsWith("GET /sse")).length;

/** Publishes on two topics, one without history, and wants each message, once, and no gap. */
async function wantAll(got, publish, first, last) {
  for (const n of numbers(first, last)) await Promise.all([publish("scores.a", n), publish("chat.a", n)]);
  await until(`numbers to ${last}`, () => got.every(({ data }) => data.at(-1) === last));
  for (const { data, gaps } of got) assert.deepEqual([data, gaps], [numbers(1, last), []]);
}

test("a better transport that does not open", async (t) => {
  const server = await startServer(t);
  const proxy = await startProxy(t, server.port);
  proxy.hold(/^GET \/sse/);
  const push = connect(t, proxy.url, { transports: ["sse", "poll"], timeout: 500, retryBetter: 50 });
  const got = [await listen(push, "scores.a"), await listen(push, "chat.a")];
  assert.equal(push.transport, "poll");
  for (const round of numbers(0, 2)) {
    const before = streams(proxy);
    await until("another try", () => streams(proxy) > before); // the last one has failed
    await wantAll(got, server.publish, 10 * round + 1, 10 * round + 10);
    assert.equal(push.transport, "poll");
  }
  proxy.hold(/^$/);
  await until("it opens", () => push.transport === "sse");
  await until("the streams", () => got.every(({ infos }) => infos.length > 1));
  assert.deepEqual(got.map(({ gaps }) => gaps.map(({ reason }) => reason)), [[], ["disconnected"]], "what has no history is told");
  await server.publish("scores.a", 31);
  await until("it", () => got[0].data.length === 31);
});

test("a token that is renewed while no other stream opens", async (t) => {
  const server = await startServer(t, { flags: ["--token-leeway", "0s"], env: { PUSHD_TOKEN_SECRET: secret } });
  const proxy = await startProxy(t, server.port);
  let fetched = 0;
  const all = { subscribe: [">"], publish: [">"] };
  const push = connect(t, proxy.url, { transports: ["sse"], timeout: 500, token: () => token(secret, fetched++ ? 300 : 10, all) }); // asked for again when half of that is left
  const got = [await listen(push, "scores.a"), await listen(push, "chat.a")];
  const before = streams(proxy);
  proxy.mute(/^GET \/sse/); // new ones
  await until("another token", () => fetched > 1);
  await until("another stream", () => streams(proxy) > before);
  const publish = (topic, n) => server.publish(topic, n, { Authorization: `Bearer ${token(secret, 300, all)}` });
  await wantAll(got, publish, 1, 10);
});
