import type * as api from "./pushd.js";
import { backoff } from "./backoff.js";
import { bytesOf, encode } from "./binary.js";
import { comesBack, leastWait, word } from "./closing.js";
import { Command } from "./command.js";
import { PushdError } from "./error.js";
import type { End, Host, Link } from "./link.js";
import { watchPage } from "./page.js";
import { PollLink } from "./poll.js";
import { Router, type Route, type Told } from "./router.js";
import { SseLink } from "./sse.js";
import { run, Sub, type Owner } from "./subscription.js";
import { Tokens } from "./token.js";
import { WebSocketLink } from "./websocket.js";

/** How long a connection must last, in ms, for the next loss to be the first again. */
const steady = 10_000;

const links = { websocket: WebSocketLink, sse: SseLink, poll: PollLink };

type Handler = (message: api.Message<any>, context: api.Context<any>) => void;
type Timer = ReturnType<typeof setTimeout> | undefined;

export class Pushd implements api.Pushd, Host, Owner {
  state: api.State = "connecting";

  // Static.
  readonly _base: string;
  readonly _timeout: number;
  readonly _fetch: typeof fetch;
  readonly _WebSocket: typeof WebSocket | undefined;
  readonly _router = new Router();
  private readonly _tokens: Tokens;
  private readonly _transports: api.Transport[];
  private readonly _unwatch: () => void;
  private readonly _listeners: { [event: string]: Set<(...args: any[]) => void> } = {};

  // The connection.
  private _link: Link | undefined;
  private _better: Link | undefined; // on the way, to take its place
  _token: string | null | undefined;
  private _turn = 0; // which attempt it is: what an earlier one still brings is void
  private _index = 0; // of the transport to try
  private _attempt = 0; // since the last connection that lasted
  private _openedAt = 0;
  private _worked = false; // the best transport, once
  private _refusals = 0; // of tokens, in a row
  private _adviceAt = 0; // when the server wants to be asked again
  private _pending: Command[] = []; // without a connection
  private _reasons = 0; // for a pause: see pausedBy
  private _timer: Timer; // of the next attempt
  private _advised: Timer;
  private _seeking: Timer;
  private _hiding: Timer;

  constructor(
    url: string | URL = location.origin,
    private readonly _options: api.Options = {},
  ) {
    const base = new URL(url, typeof location === "undefined" ? undefined : location.href);
    this._base = base.origin.replace("null", "") || `${base.protocol}//${base.host}`;
    this._base = (this._base + base.pathname).replace(/^ws/, "http").replace(/(\/ws)?\/*$/, "");
    this._timeout = _options.timeout ?? 10_000;
    this._WebSocket = (_options.WebSocket ?? globalThis.WebSocket) as typeof WebSocket | undefined;
    this._fetch = _options.fetch ?? ((...args) => fetch(...args));
    this._tokens = new Tokens(_options.token, this._timeout);
    this._transports = (_options.transports ?? ["websocket", "sse", "poll"]).filter((t) => t !== "websocket" || this._WebSocket);
    if (!this._transports.length) throw new TypeError("no transport: give a WebSocket class, or allow sse or poll");
    this._unwatch = watchPage(this);
    this._timer = setTimeout(() => this._connect()); // so that there can be listeners before
  }

  get transport(): api.Transport | undefined {
    return this.state === "open" ? this._link?._transport : undefined;
  }

  // Subscriptions.

  subscribe(topic: string, handler?: Handler | api.SubscribeOptions<any>, options?: api.SubscribeOptions<any>): Sub {
    if (this.state === "closed") throw new PushdError("closed");
    if (typeof handler === "object") [handler, options] = [undefined, handler];
    options ??= {};
    const route = this._router._route(topic, options);
    const sub = new Sub(this, route, handler, options);
    route._subs.add(sub);
    if (route._on) setTimeout(() => sub._subscribed({ topic, cursor: route._cursor }));
    else if (this._link?._open) this._link._sync();
    return sub;
  }

  _left(sub: Sub): void {
    const route = sub._route;
    if (!route._subs.delete(sub) || route._subs.size) return;
    this._router._remove(route);
    if (this._link?._open) this._link._sync(route);
  }

  _refused(route: Route, error: PushdError): void {
    route._link = undefined; // there is nothing to unsubscribe from
    route._each((sub) => sub._end(error));
  }

  // Commands.

  publish(topic: string, data: unknown, { id }: { id?: string } = {}): Promise<api.Published> {
    const bytes = bytesOf(data);
    const body = { type: "publish", topic, data: bytes ? encode(bytes) : data, encoding: bytes && "base64", idempotency_key: id };
    return this._ask(body, !!id, ({ topic, cursor }) => (cursor ? { topic, cursor } : { topic }));
  }

  presence(topic: string): Promise<number> {
    return this._ask({ type: "presence", topic }, true, ({ connections }) => connections);
  }

  private _ask<T>(body: Command["_body"], repeat: boolean, answer: (told: Told) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const command = new Command(body, repeat, (told) => resolve(answer(told)), reject, this._timeout);
      if (this.state === "closed") command._fail("closed");
      else this._again(command);
    });
  }

  _again(command: Command): void {
    if (command._done || !command._lasting) return;
    if (command._sent && !command._repeat) command._fail("disconnected");
    else if (this._link?._open) this._link._send(command);
    else this._pending.push(command);
  }

  // Events.

  on<E extends keyof api.Events>(event: E, listener: api.Events[E]): () => void {
    const all = (this._listeners[event] ??= new Set());
    all.add(listener);
    return () => void all.delete(listener);
  }

  /** Returns whether there was a listener. */
  _emit(event: keyof api.Events, ...args: unknown[]): boolean {
    const all = [...(this._listeners[event] ?? [])];
    for (const listener of all) run(listener, ...args);
    return all.length > 0;
  }

  private _set(state: api.State, info: api.StateInfo = {}): void {
    this.state = state;
    this._emit("state", state, info);
  }

  _trouble(error: PushdError): void {
    if (!this._emit("error", error)) console.warn(`pushd: ${error}`);
  }

  // The connection: begin, go on, end.

  private async _connect(): Promise<void> {
    clearTimeout(this._timer);
    const turn = ++this._turn;
    this._set("connecting");
    try {
      this._token = await this._tokens._get();
    } catch (e) {
      if (turn === this._turn) {
        this._trouble(e as PushdError);
        this._wait({});
      }
      return;
    }
    if (turn === this._turn) this._link = this._make(this._index);
  }

  private _make(index: number): Link | undefined {
    return new links[this._transports[index]!](this);
  }

  _welcome(link: Link): void {
    if (link === this._better) {
      const old = this._link;
      this._link = link;
      this._better = undefined;
      old?._close();
      this._index = this._transports.indexOf(link._transport);
    }
    if (!this._index) this._worked = true;
    this._openedAt = Date.now();
    this._seek();
    this._set("open", { transport: link._transport });
    if (link !== this._link) return; // a listener has paused or closed
    link._sync();
    for (const command of this._pending.splice(0)) this._again(command);
  }

  /** While on a lesser transport, tries the best now and then. */
  private _seek(): void {
    clearTimeout(this._seeking);
    if (!this._index) return;
    const every = (this._options.retryBetter ?? 60_000) * (0.5 + Math.random());
    this._seeking = setTimeout(() => (this._better ??= this._make(0)), every);
  }

  /** Has another link of the same kind take the place of one. */
  _replace(link: Link): void {
    if (link === this._link) this._better ??= this._make(this._index);
  }

  _told(told: Told, link: Link): void {
    const route = this._router._routes.get(told.topic);
    switch (told.type) {
      case "message":
        return this._router._message(told, link);
      case "gap":
        return route?._gap(told.reason, told.from, told.to);
      case "skipped":
        return this._router._skip(told);
      case "unsubscribed":
        // What ends with the token goes on with the next one.
        if (told.reason === "forbidden" && route) this._refused(route, new PushdError(told.reason));
        return;
      case "token_expires":
        return void this._renew();
      case "reconnect":
        this._adviceAt = Date.now() + told.after;
        clearTimeout(this._advised);
        this._advised = setTimeout(() => link._end({ _code: 1012, _reason: told.reason }), told.after);
        return;
      case "error":
        return this._trouble(new PushdError(told.code, told.message));
    }
  }

  private async _renew(): Promise<void> {
    if (!this._tokens._drop()) return; // its end will be the connection's
    try {
      this._token = await this._tokens._get();
      this._link?._renew();
    } catch (e) {
      this._trouble(e as PushdError); // and asked for again when the old one has ended
    }
  }

  _ended(link: Link, end: End): void {
    if (link === this._better) {
      this._better = undefined;
      return this._seek();
    }
    if (link !== this._link) return;
    this._letGo();
    const code = end._code ?? 1006;
    const lasted = link._open && Date.now() - this._openedAt > steady;
    if (lasted) this._attempt = 0;
    if (code === 401 || code === 4001 || code === 4002) {
      if (code !== 4002 && this._refusals++) return this._finish(code, end._reason);
      if (!this._tokens._drop()) return this._finish(code, end._reason);
      this._index = 0;
    } else {
      if (lasted) this._refusals = 0;
      if (!comesBack(code)) return this._finish(code, end._reason);
      // The best transport that worked before gets a second chance: it may be the server that is away.
      const next = this._index + 1;
      if (end._unfit && next < this._transports.length && !(this._worked && !this._attempt)) {
        this._index = next;
        return void this._connect();
      }
      this._index = 0;
    }
    this._wait({ ...end, _code: code });
  }

  _backoff(attempt = this._attempt): number {
    const { min = 500, max = 30_000 } = this._options.backoff ?? {};
    return backoff(attempt, min, max);
  }

  private _wait({ _code, _reason, _wait }: End): void {
    const advised = this._adviceAt - Date.now();
    let retryIn: number | undefined = advised > 0 ? advised : (_wait ?? leastWait(_code ?? 0)) + this._backoff();
    this._attempt++;
    this._adviceAt = 0;
    if (globalThis.navigator?.onLine === false) retryIn = undefined;
    else this._timer = setTimeout(() => this._connect(), retryIn);
    this._set("waiting", { retryIn, code: _code, reason: _reason });
  }

  /** Ends what belongs to the connection. */
  private _letGo(): void {
    this._turn++;
    for (const timer of [this._timer, this._advised, this._seeking]) clearTimeout(timer);
    const old = [this._link, this._better];
    this._link = this._better = undefined;
    for (const link of old) link?._close();
  }

  private _finish(code?: number, reason?: string): void {
    if (this.state === "closed") return;
    const error = code ? new PushdError(code === 401 ? "unauthorized" : word(code), reason) : undefined;
    this._letGo();
    this._unwatch();
    clearTimeout(this._hiding);
    this.state = "closed"; // from here nothing is taken any more
    for (const command of this._pending.splice(0)) command._fail("closed");
    for (const route of this._router._routes.values()) route._each((sub) => sub._end(error));
    if (error) this._trouble(error);
    this._emit("state", "closed", { code, reason });
    this._emit("close", error);
  }

  close(): void {
    this._finish();
  }

  // Pauses. Each reason for one is a bit.

  pause(): void {
    this._pauseFor(1);
  }

  resume(): void {
    this._resumeFrom(1);
  }

  private _pauseFor(reason: number): void {
    if (this.state === "closed") return;
    this._reasons |= reason;
    if (this.state === "paused") return;
    this._letGo();
    this._set("paused");
  }

  private _resumeFrom(reason: number): void {
    this._reasons &= ~reason;
    if (this._reasons || (this.state !== "paused" && this.state !== "waiting")) return;
    this._index = 0;
    this._connect();
  }

  _online(): void {
    this._resumeFrom(0);
    this._link?._check();
  }

  _offline(): void {
    this._link?._check();
  }

  _visible(): void {
    clearTimeout(this._hiding);
    this._resumeFrom(2);
    this._link?._check();
  }

  _hidden(): void {
    const { pauseHidden } = this._options;
    if (pauseHidden === undefined || pauseHidden === false) return;
    this._hiding = setTimeout(() => this._pauseFor(2), pauseHidden === true ? 10_000 : pauseHidden);
  }
}
