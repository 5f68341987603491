// Answers that come late, and servers that want to be left alone for a while: by a fetch that is made for it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, until } from "./client.mjs";

/** Long enough for all that has come to be taken, and whatever is due at once. */
const moment = () => new Promise((wake) => setTimeout(wake, 20));

test("an answer that comes after pause", async (t) => {
  const answers = [];
  const push = connect(t, "http://push.example.com", { transports: ["sse"], fetch: () => new Promise((give) => answers.push(give)) });
  await until("the question", () => answers.length);
  const states = [];
  push.on("state", (state) => states.push(state));
  push.pause();
  answers[0](new Response());
  await moment();
  assert.deepEqual(states, ["paused"]);
  push.resume();
  await until("another", () => answers.length > 1);
  answers[1](new Response());
  await until("a connection", () => push.state === "open");
});

/** A fetch that answers with what is set, and keeps what it was asked for. */
function answering(status, headers = {}) {
  const fetch = async (url) => {
    fetch.asked.push(new URL(url).pathname);
    return new Response("{}", { status: fetch.status, headers: fetch.headers });
  };
  return Object.assign(fetch, { asked: [], status, headers });
}

for (const status of [429, 503]) {
  test(`a server that says when to come back, by ${status}`, async (t) => {
    t.mock.method(Math, "random", () => 1);
    const fetch = answering(status, { "Retry-After": "700" });
    const push = connect(t, "http://push.example.com", { transports: ["sse", "poll"], backoff: { min: 5000, max: 80_000 }, fetch });
    const waits = [];
    push.on("state", (state, { retryIn, code }) => state === "waiting" && waits.push([Math.round(retryIn / 100), code]));
    push.subscribe("scores.a", () => {});
    for (let n = 1; n <= 4; n++) {
      await until(`refusal ${n}`, () => waits.length === n);
      push.resume();
    }
    await until("the last", () => waits.length === 5);
    assert.deepEqual(waits, Array(5).fill([7010, status]), "after that time and a second");
    assert.deepEqual(fetch.asked, Array(5).fill("/sse"));

    fetch.headers = {};
    const now = Date.now() + 3_600_000; // when the last of these times has passed
    t.mock.method(Date, "now", () => now);
    push.resume();
    await until("one without a time", () => waits.length === 6);
    assert.deepEqual(waits[5], [50, status], "the backoff has not grown");
  });
}

/** A page whose events a test makes. */
function startPage(t) {
  const page = new EventTarget();
  page.hidden = false;
  globalThis.document = page;
  globalThis.addEventListener = page.addEventListener.bind(page);
  t.after(() => {
    delete globalThis.document;
    delete globalThis.addEventListener;
  });
  return {
    show(visible) {
      page.hidden = !visible;
      page.dispatchEvent(new Event("visibilitychange"));
    },
    online: () => page.dispatchEvent(new Event("online")),
  };
}

test("what the page sees does not shorten the time that the server named, and resume does", async (t) => {
  const page = startPage(t);
  const fetch = answering(503, { "Retry-After": "700" });
  const push = connect(t, "http://push.example.com", { transports: ["sse"], pauseHidden: true, fetch });
  const waits = [];
  push.on("state", (state, { retryIn }) => state === "waiting" && waits.push(retryIn));
  push.subscribe("scores.a", () => {});
  await until("the refusal", () => waits.length === 1);
  page.online();
  page.show(false);
  await until("the pause", () => push.state === "paused");
  page.show(true);
  await moment();
  assert.equal(push.state, "waiting");
  assert.equal(fetch.asked.length, 1);
  for (const wait of waits) assert.ok(wait > 600_000 && wait <= 701_000, `comes back after ${wait} ms`);

  push.resume();
  await until("another attempt", () => fetch.asked.length === 2);
  await until("the refusal", () => push.state === "waiting");
});

test("what the page sees shortens a backoff", async (t) => {
  const page = startPage(t);
  const fetch = answering(500);
  const push = connect(t, "http://push.example.com", { transports: ["sse"], backoff: { min: 1e9, max: 1e9 }, fetch });
  push.subscribe("scores.a", () => {});
  await until("the refusal", () => push.state === "waiting");
  page.online();
  await until("another attempt", () => fetch.asked.length === 2);
});
