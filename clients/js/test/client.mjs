// What tests share on the client's side.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import WebSocket from "ws";
import { Pushd } from "../dist/pushd.mjs";

/** How long anything may take that has to come. It is no expectation. */
const patience = 30_000;

/** A client that ends with the test. In Node 20 it needs a WebSocket class. */
export function connect(t, url, options = {}) {
  const push = new Pushd(url, { WebSocket, backoff: { min: 20, max: 200 }, ...options });
  t.after(() => push.close());
  return push;
}

/** Waits until something is true. */
export async function until(what, condition) {
  const end = Date.now() + patience;
  while (!condition()) {
    assert.ok(Date.now() < end, `never came: ${what}`);
    await new Promise((wake) => setTimeout(wake, 5));
  }
}

/** Does something, and waits until the client has been in a state since. */
export async function untilState(push, state, act = () => {}) {
  const states = [push.state];
  const stop = push.on("state", (state) => states.push(state));
  await act();
  await until(state, () => states.includes(state));
  stop();
}

/** Numbers from first to last. */
export const numbers = (first, last) => Array.from({ length: last - first + 1 }, (_, n) => first + n);

/** Subscribes, waits until the server has taken it, and keeps what comes. */
export async function listen(push, topic, options = {}) {
  const got = { data: [], messages: [], infos: [], gaps: [] };
  got.sub = push.subscribe(
    topic,
    (message, { skipped }) => {
      got.data.push(message.data);
      got.messages.push({ ...message, skipped });
    },
    { onSubscribed: (info) => got.infos.push(info), onGap: (gap) => got.gaps.push(gap), ...options },
  );
  await until(`subscribed to ${topic}`, () => got.infos.length);
  return got;
}

/** A token of an issuer whose secret the server knows. */
export function token(secret, seconds, may = { subscribe: ["scores.>"], publish: ["scores.>"] }) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: "alice", exp: now + seconds, pushd: may })}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}
