import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import { load } from "./closing.mjs";

test("the backoff doubles up to its bound, with full jitter", async (t) => {
  const { backoff } = await load("backoff");
  const random = t.mock.method(Math, "random");
  for (const [attempt, part, want] of [[0, 0, 0], [0, 1, 500], [1, 1, 1000], [3, 0.5, 2000], [5, 1, 16_000], [6, 1, 30_000], [900, 1, 30_000]]) {
    random.mock.mockImplementation(() => part);
    assert.equal(backoff(attempt, 500, 30_000), want);
  }
});

test("both kinds of module", async () => {
  const required = createRequire(import.meta.url)("@pushd/client");
  const imported = await import("@pushd/client");
  for (const { Pushd, PushdError } of [required, imported]) {
    const push = new Pushd("wss://push.example.com/ws");
    push.close();
    assert.equal(push.state, "closed");
    assert.ok(new PushdError("closed") instanceof Error);
  }
});
