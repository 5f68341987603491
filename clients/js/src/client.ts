import type * as api from "./pushd.js";
import { encode } from "./binary.js";
import { command, type Command } from "./command.js";
import { keepConnected, type Connection, type Watcher } from "./connection.js";
import { PushdError } from "./error.js";
import type { Link } from "./link.js";
import { watchPage } from "./page.js";
import { Router, type Route, type Told } from "./router.js";
import { run, Sub, type Owner } from "./subscription.js";

type Handler = (message: api.Message<any>, context: api.Context<any>) => void;

export class Pushd implements api.Pushd, Watcher, Owner {
  state: api.State = "connecting";
  transport: api.Transport | undefined;

  // Static.
  readonly _base: string;
  readonly _timeout: number;
  readonly _fetch: typeof fetch;
  readonly _WebSocket: typeof WebSocket | undefined;
  readonly _router = new Router();
  readonly _connection: Connection;
  private readonly _watching = new AbortController();
  private readonly _listeners = new Set<[event: string, listener: (...args: any[]) => void]>();

  _token: string | null | undefined;
  private _pending: Command[] = []; // without a connection
  private _hidden?: boolean; // and paused for that
  private _paused?: boolean; // by the program

  constructor(url: string | URL = "/", options: api.Options = {}) {
    this._base = new URL(url, globalThis.location?.href).href.replace(/^ws/, "http").replace(/(\/ws)?\/*$/, "");
    this._timeout = options.timeout ?? 10_000;
    this._WebSocket = (options.WebSocket ?? globalThis.WebSocket) as typeof WebSocket | undefined;
    this._fetch = options.fetch ?? fetch;
    this._connection = keepConnected(this, options);
    setTimeout(watchPage, 0, this._look, this._watching.signal, options.pauseHidden); // once there can be listeners
  }

  // Subscriptions.

  subscribe(topic: string, handler?: Handler | api.SubscribeOptions<any>, options: api.SubscribeOptions<any> = {}): Sub {
    if (this.state === "closed") throw new PushdError("closed");
    if (typeof handler === "object") {
      options = handler;
      handler = undefined;
    }
    const route = this._router._route(topic, options);
    const sub = new Sub(this, route, handler, options);
    route._subs.add(sub);
    if (route._on) setTimeout(() => sub._subscribed({ topic, cursor: route._cursor }));
    else this._connection._link()?._sync();
    return sub;
  }

  _left(sub: Sub): void {
    const route = sub._route;
    route._subs.delete(sub);
    if (route._subs.size) return;
    this._router._routes.delete(route._topic);
    this._connection._link()?._sync(route);
  }

  _refused(route: Route, error?: PushdError): void {
    route._link = undefined; // there is nothing to unsubscribe from
    route._each((sub) => sub._end(error));
  }

  // Commands.

  publish(topic: string, data: unknown, { id }: { id?: string } = {}): Promise<api.Published> {
    const bytes = data instanceof Uint8Array;
    const body = { type: "publish", topic, data: bytes ? encode(data) : data, encoding: bytes ? "base64" : undefined, idempotency_key: id };
    return this._ask(body, id, ({ topic, cursor }) => ({ topic, cursor }));
  }

  presence(topic: string): Promise<number> {
    return this._ask({ type: "presence", topic }, true, ({ connections }) => connections);
  }

  private _ask<T>(body: Command["_body"], repeat: unknown, answer: (told: Told) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this._again(command(body, repeat, (told) => resolve(answer(told)), reject, this._timeout));
    });
  }

  _again = (command: Command): void => {
    const link = this._connection._link();
    if (!command._lasting || command._done) return;
    if (this.state === "closed") command._answer({ code: "closed" });
    else if (link) link._send(command);
    else if (!command._sent || command._answer({ code: "disconnected" })) this._pending.push(command);
  };

  // Events.

  on<E extends keyof api.Events>(event: E, listener: api.Events[E]): () => void {
    const entry: [string, typeof listener] = [event, listener];
    this._listeners.add(entry);
    return () => this._listeners.delete(entry);
  }

  /** Returns whether there was a listener. */
  _emit(event: keyof api.Events, ...args: unknown[]): unknown {
    let heard;
    for (const [of, listener] of [...this._listeners]) {
      if (of !== event) continue;
      run(listener, ...args);
      heard = true;
    }
    return heard;
  }

  /** An error that nobody listens to goes to the console. */
  _trouble = (error: unknown, sub?: Sub): void => {
    if (!this._emit("error", error, sub)) console.warn(error);
  };

  // The connection.

  _is(state: api.State, info: api.StateInfo = {}): void {
    this.state = state;
    this.transport = info.transport;
    this._emit("state", state, info);
    this._connection._link()?._sync();
    this._pending.splice(0).forEach(this._again);
  }

  _told(told: Told, link: Link, source: unknown = link): void {
    const { type, reason } = told;
    const route = this._router._routes.get(told.topic);
    if (type === "message") this._router._message(told, source);
    else if (type === "gap") route?._gap(reason, told.from, told.to);
    else if (type === "skipped") this._router._skipped.set(told.topic, told.count);
    else if (type === "close") this._connection._ended(link, { _code: told.code, _reason: reason });
    else if (reason === "forbidden" && route) this._refused(route, new PushdError(reason)); // "unsubscribed"
    else if (type === "token_expires") this._connection._renew();
    else if (type === "reconnect") this._connection._advise(told, link);
    else if (type === "error") this._trouble(new PushdError(told.code, told.message));
  }

  /** The end for good. */
  _finish(error?: PushdError, info?: api.StateInfo): void {
    if (this.state === "closed") return;
    this.state = "closed"; // from here nothing is taken any more
    this._connection._stop();
    this._watching.abort();
    for (const route of this._router._routes.values()) this._refused(route, error);
    if (error) this._trouble(error);
    this._is("closed", info);
    this._emit("close", error);
  }

  close(): void {
    this._finish();
  }

  // Pauses, by the program and by the page.

  pause(): void {
    this._paused = true;
    this._go();
  }

  resume(): void {
    this._paused = false;
    this._go(true);
  }

  /** The page was shown or hidden (for as long as that may be), or its network has changed. */
  private _look = (visible: boolean): void => {
    this._hidden = !visible;
    this._connection._link()?._check();
    this._go();
  };

  private _go(now?: boolean): void {
    if (this.state === "closed") return;
    if (!this._paused && !this._hidden) this._connection._go(now);
    else if (this.state !== "paused") {
      this._connection._stop();
      this._is("paused");
    }
  }
}
