// What a program sees of this package: written by hand, and held to the code
// by the compiler (see index.ts). It becomes dist/pushd.d.ts as it is.

/** How messages come. */
export type Transport = "websocket" | "sse" | "poll";

/**
 * - `connecting`: on the way, by any transport
 * - `open`: connected
 * - `waiting`: not connected; the next attempt comes by itself
 * - `paused`: by `pause()`, or since the page is hidden (`pauseHidden`)
 * - `closed`: for good, by `close()` or by an error that no new attempt can cure
 */
export type State = "connecting" | "open" | "waiting" | "paused" | "closed";

/** How much of a topic is delivered; each can only be less than what the namespace delivers. */
export type Mode = "all" | "latest" | "live";

export interface Options {
  /**
   * A token or API key, or what fetches one. The function is called again when
   * the token is about to end or was refused; a string cannot be renewed. An
   * error that it throws, or no answer within `timeout`, is told by `error`, and it is asked again later.
   * Nothing (`undefined`, `null`, `""`) means to go without.
   */
  token?: string | null | (() => string | null | undefined | Promise<string | null | undefined>);
  /** Which transports may be used, best first. Default: `["websocket", "sse", "poll"]`. */
  transports?: Transport[];
  /** The client pauses while the page is hidden: `true` at once, a number after so many ms. Default: `false`. */
  pauseHidden?: boolean | number;
  /** Bounds of the time before a new attempt, in ms. Default: `{min: 500, max: 30000}`. */
  backoff?: { min?: number; max?: number };
  /** How long an answer may take, of the server, the network and `token`, in ms. Default: 10,000. */
  timeout?: number;
  /** While on a lesser transport: how often a better one is tried, in ms. Default: 60,000; each time is 0.5 to 1.5 of it. */
  retryBetter?: number;
  /** The WebSocket class, where there is no global one (Node before 22). */
  WebSocket?: unknown;
  /** The fetch function. Default: the global one. */
  fetch?: typeof fetch;
}

export interface SubscribeOptions<T = unknown> {
  /** Default: what the namespace delivers. */
  mode?: Mode;
  /** At most so many updates a second of each topic; needs mode `latest`. */
  maxRate?: number;
  /** Go on behind this message: its `cursor`. Default: from now on. */
  cursor?: string;
  /** The server has taken the subscription, for the first time or again. */
  onSubscribed?: (info: Subscribed, subscription: Subscription<T>) => void;
  /** Messages are missing. */
  onGap?: (gap: Gap, subscription: Subscription<T>) => void;
  /** The subscription has ended, and this is why. Without it, the event `error` tells. */
  onError?: (error: PushdError, subscription: Subscription<T>) => void;
  /** How many messages wait for a `for await` at most; the oldest give way, told by a gap. Default: 1,000. */
  buffer?: number;
}

export interface Message<T = unknown> {
  /** The concrete topic, also where the subscription is to a pattern. */
  topic: string;
  /** JSON as a value, other text as a string, anything else as a `Uint8Array`. */
  data: T;
  /** When the message was taken, in ms since the epoch. */
  time: number;
  /** The message's place in the history; absent where none is kept. */
  cursor?: string;
}

export interface Context<T = unknown> {
  subscription: Subscription<T>;
  /** How many older values of this topic were skipped before this one (mode `latest`); 0 also where the number is not known. */
  skipped: number;
}

export interface Subscribed {
  topic: string;
  /** Where the subscription begins; absent where no history is kept. */
  cursor?: string;
  /** Whether all that was missed will come; absent where nothing was to be resumed. */
  recovered?: boolean;
}

export interface Gap {
  /** The topic or pattern as subscribed. */
  topic: string;
  /**
   * - `slow`, `expired`, `upstream`, `restarted`: as the server tells it
   * - `disconnected`: there was no connection, and no history to make up for it
   * - `buffer`: the program did not take its messages
   */
  reason: "slow" | "expired" | "upstream" | "restarted" | "disconnected" | "buffer" | (string & {});
  /** The place before what is missing, where places are known. */
  from?: string;
  /** The place of the last that is missing, where places are known. */
  to?: string;
}

export interface StateInfo {
  transport?: Transport;
  /** In state `waiting`: ms until the next attempt. */
  retryIn?: number;
  /** Why the last connection ended: a close code of the protocol, or an HTTP status. */
  code?: number;
  reason?: string;
}

export interface Published {
  topic: string;
  /** The message's place; absent where no history is kept. */
  cursor?: string;
}

export interface Events {
  state: (state: State, info: StateInfo) => void;
  gap: (gap: Gap, subscription: Subscription) => void;
  /** Of the connection, or of a subscription that has ended by it and has neither an `onError` nor a `for await`. Without a listener it goes to the console. */
  error: (error: PushdError, subscription?: Subscription) => void;
  /** For good; with an error unless by `close()`. */
  close: (error?: PushdError) => void;
}

/**
 * `code` is one of the protocol's error codes (`forbidden`, `rate_limited`, …), or one of
 * - `close_4003` and the like: the server has closed the connection for good with this close code
 *   of the protocol, or has answered with this HTTP status
 * - `timeout`: no answer in time
 * - `disconnected`: the connection was lost before the answer, so that it is not known what became of it
 * - `closed`: by `close()`
 * - `token`: `token` failed
 * - `unsupported`: not over this transport
 */
export class PushdError extends Error {
  constructor(code: string, message?: string);
  readonly code: string;
}

export interface Subscription<T = unknown> extends AsyncIterable<Message<T>> {
  readonly topic: string;
  /** The place of the last message that came, or where the subscription began. */
  readonly cursor: string | undefined;
  /** Ends it; `for await` ends too. */
  unsubscribe(): void;
}

/** A connection to pushd that comes back by itself, and its subscriptions. */
export class Pushd {
  /** `url` is the server's, as http(s) or ws(s), with the path that is in front of pushd's own, if any. Default in a page: its own server. */
  constructor(url?: string | URL, options?: Options);
  readonly state: State;
  /** The transport in use, while open. */
  readonly transport: Transport | undefined;
  subscribe<T = unknown>(topic: string, handler?: (message: Message<T>, context: Context<T>) => void, options?: SubscribeOptions<T>): Subscription<T>;
  subscribe<T = unknown>(topic: string, options: SubscribeOptions<T>): Subscription<T>;
  /**
   * Publishes a JSON value, or bytes. Waits for a connection. With an `id` a
   * publication is repeated when its answer was lost, and stored once where history is kept.
   */
  publish(topic: string, data: unknown, options?: { id?: string }): Promise<Published>;
  /** How many connections are subscribed to exactly this topic. Over WebSockets alone. */
  presence(topic: string): Promise<number>;
  /** Returns what removes the listener again. */
  on<E extends keyof Events>(event: E, listener: Events[E]): () => void;
  /** Disconnects, and keeps the subscriptions and their places. */
  pause(): void;
  /** Ends a pause; while waiting, tries now. */
  resume(): void;
  /** Disconnects for good. */
  close(): void;
}
