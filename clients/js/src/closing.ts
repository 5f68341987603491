// What a client does after each close code: the table of the protocol's page.

const words: Record<number, string> = {
  1000: "normal",
  1001: "going_away",
  1002: "protocol_error",
  1003: "unsupported_data",
  1007: "bad_utf8",
  1008: "policy",
  1009: "message_too_big",
  1011: "internal",
  1012: "draining",
  1013: "overloaded",
  4001: "no_token",
  4002: "token_expired",
  4003: "kicked",
  4008: "too_slow",
};

const forGood = [1000, 1002, 1003, 1007, 1009, 4001, 4003];

/** The word for a close code: the log word and metric label of the server. */
export const word = (code: number) => words[code] ?? "other";

/** Whether a client comes back by itself. After 4001 it does with another token, and only then. */
export const comesBack = (code: number) => !forGood.includes(code);

/** The least time before it does, in ms. */
export const leastWait = (code: number) => (code === 1008 ? 10_000 : 0);
