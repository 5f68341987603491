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
