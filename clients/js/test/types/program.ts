// A program that has to compile.

import { Pushd, PushdError, type Gap, type Message } from "@pushd/client";

interface Price {
  price: number;
}

const push = new Pushd("https://push.example.com", { token: async () => "token", transports: ["websocket", "poll"], backoff: { max: 1000 } });
const prices: number[] = [];
const sub = push.subscribe<Price>("stocks.*", ({ data, cursor }, { skipped, subscription }) => {
  prices.push(data.price, skipped, (cursor ?? subscription.cursor ?? "").length);
});
const gaps: Gap[] = [];
const off: () => void = push.on("gap", (gap) => gaps.push(gap));
push.on("state", (state, { retryIn = 0 }) => (state === "waiting" ? retryIn : 0));
// @ts-expect-error: no such event
push.on("message", () => {});
// @ts-expect-error: no such mode
push.subscribe("a", () => {}, { mode: "some" });

export async function main(): Promise<Message<string> | undefined> {
  const { cursor } = await push.publish("chat.lobby", { text: "hi" }, { id: "1" });
  const connections: number = await push.presence("chat.lobby");
  off();
  sub.unsubscribe();
  try {
    for await (const message of push.subscribe<string>("chat.*", cursor === undefined ? {} : { cursor })) if (connections) return message;
  } catch (e) {
    if (e instanceof PushdError && e.code === "forbidden") push.close();
  }
  return undefined;
}
