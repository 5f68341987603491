import type { Context, Gap, Message, PushdError, SubscribeOptions, Subscribed, Subscription } from "./pushd.js";
import type { Route } from "./router.js";

type Handler = (message: Message<any>, context: Context<any>) => void;

/** What a subscription needs of its client. */
export interface Owner {
  _left(sub: Sub): void;
  _emit(event: "gap", gap: Gap, sub: Sub): void;
  _trouble(error: PushdError, sub: Sub): void;
}

/** Run calls a function of the program. What that throws is told as of any callback, and stops nothing here. */
export function run<A extends unknown[]>(fn: ((...args: A) => void) | undefined, ...args: A): void {
  try {
    fn?.(...args);
  } catch (e) {
    setTimeout(() => {
      throw e;
    });
  }
}

/** Sub is one call of subscribe. Those of one topic share a route. */
export class Sub implements Subscription<any> {
  private _queue: Message<any>[] | undefined; // for `for await`
  private _wake: (() => void) | undefined; // of a next that waits
  private _full?: boolean; // and told so
  private _over?: boolean;
  private _error: PushdError | undefined;

  constructor(
    private readonly _owner: Owner,
    readonly _route: Route,
    private readonly _handler: Handler | undefined,
    private readonly _options: SubscribeOptions<any>,
  ) {
    if (!_handler) this._queue = [];
  }

  get topic(): string {
    return this._route._topic;
  }

  get cursor(): string | undefined {
    return this._route._cursor;
  }

  _deliver(message: Message<any>, skipped: number): void {
    run(this._handler, message, { subscription: this, skipped });
    const queue = this._queue;
    if (!queue || this._over) return;
    queue.push(message);
    if (queue.length > (this._options.buffer ?? 1000)) {
      const { cursor } = queue.shift()!;
      if (!this._full) this._gap({ topic: this.topic, reason: "buffer", to: cursor });
      this._full = true;
    }
    this._wake?.();
  }

  _gap(gap: Gap): void {
    run(this._options.onGap, gap, this);
    this._owner._emit("gap", gap, this);
  }

  _subscribed(info: Subscribed): void {
    run(this._options.onSubscribed, info, this);
  }

  unsubscribe(): void {
    this._end();
  }

  /** The end, with an error where the program did not ask for it. */
  _end(error?: PushdError): void {
    if (this._over) return;
    this._over = true;
    this._error = error;
    this._owner._left(this);
    this._wake?.();
    const told = this._options.onError ?? (this._queue ? undefined : this._owner._trouble); // a loop throws it
    if (error) run(told, error, this);
  }

  /** Ends with the subscription, and ends it when the loop is left. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Message<any>, void> {
    const queue = (this._queue ??= []);
    try {
      for (;;) {
        const message = queue.shift();
        this._full = false;
        if (message) yield message;
        else if (this._error) throw this._error;
        else if (this._over) return;
        else await new Promise<void>((wake) => (this._wake = wake));
      }
    } finally {
      this.unsubscribe();
    }
  }
}
