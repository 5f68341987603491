import { decode } from "./binary.js";
import type { Command } from "./command.js";
import { PushdError } from "./error.js";
import { Link, type End, type Host } from "./link.js";
import type { Route, Told } from "./router.js";

/** How many routes share a request: its head must stay below what the server reads. */
const mostRoutes = 50;

/** How many requests wait at a time before they are made anew as few: browsers open six connections to a server. */
const mostCalls = 3;

/** Call is one request after another that bring messages, for some routes. */
export interface Call {
  _routes: Route[];
  readonly _abort: AbortController;
  _timer?: ReturnType<typeof setTimeout>;
}

/** HttpLink has what the transports over HTTP have in common: a connection is one call or several. */
export abstract class HttpLink extends Link {
  private _calls: Call[] = [];
  private _soon: ReturnType<typeof setTimeout> | undefined;

  /** Brings messages; throws an End at the end. */
  protected abstract _run(call: Call): Promise<unknown>;

  constructor(host: Host) {
    super(host);
    if (host._router._routes.size) {
      this._sync();
      return;
    }
    // Without anything to wait for, it is enough that the server answers.
    this._fetch("/healthz").then(
      () => this._welcomed(),
      (end) => this._end(end),
    );
  }

  _sync(): void {
    this._soon ??= setTimeout(() => this._place()); // what is subscribed to at once goes into one request
  }

  /** Has each route in a call. A new one gets another call, and the rest go on. */
  private _place(): void {
    this._soon = undefined;
    const routes = [...this._host._router._routes.values()];
    this._calls = this._calls.filter((call) => call._routes.some((route) => routes.includes(route)) || this._cut(call));
    let fresh = routes.filter((route) => route._link !== this);
    if (fresh.length && this._calls.length >= mostCalls) {
      this._calls = this._calls.filter((call) => this._cut(call));
      fresh = routes;
    }
    const groups: Record<string, Route[]> = {};
    fresh.forEach((route, n) => {
      route._link = this;
      route._on = false;
      (groups[`${route._mode} ${route._rate} ${Math.floor(n / mostRoutes)}`] ??= []).push(route);
    });
    for (const _routes of Object.values(groups)) {
      const call: Call = { _routes, _abort: new AbortController() };
      this._calls.push(call);
      this._await(call, this._host._timeout, { _unfit: true, _reason: "nothing came" });
      this._run(call).catch((end) => this._calls.includes(call) && this._end(end instanceof Error ? {} : end));
    }
  }

  /** Ends the link where nothing comes for a while. */
  protected _await(call: Call, ms: number, end: End = { _code: 1006, _reason: "silent" }): void {
    clearTimeout(call._timer);
    if (this._calls.includes(call)) call._timer = setTimeout(() => this._end(end), ms);
  }

  private _cut(call: Call): false {
    clearTimeout(call._timer);
    call._abort.abort();
    return false;
  }

  protected _free(): void {
    clearTimeout(this._soon);
    this._calls = this._calls.filter((call) => this._cut(call));
  }

  /** Asks for the messages of a call's routes. Nothing, where the routes were refused. */
  protected async _get(call: Call, path: string, cursor: (route: Route) => string | undefined): Promise<Response | undefined> {
    const [{ _mode, _rate }] = call._routes as [Route];
    const query = (routes: Route[]) => {
      const q = new URLSearchParams();
      if (_mode) q.set("mode", _mode);
      if (_rate) q.set("max_rate", String(_rate));
      for (const route of routes) {
        q.append("topic", route._topic);
        q.append("cursor", cursor(route) ?? "");
      }
      return q;
    };
    const { signal } = call._abort;
    const response = await this._fetch(path + query(call._routes), { signal });
    if (response.ok) return response;
    const { status } = response;
    if (status !== 400 && status !== 403 && (status !== 401 || this._host._token)) {
      throw { _code: status, _wait: waitOf(response), _unfit: ![401, 429, 503].includes(status) };
    }
    // Which of them was it?
    const told = await toldBy(response);
    let blamed = false;
    for (const route of call._routes) {
      const of = call._routes.length > 1 ? await this._fetch("/poll?wait=0&" + query([route]), { signal }) : response;
      if (of.ok) continue;
      const { code, message } = of === response ? told : await toldBy(of);
      this._host._refused(route, new PushdError(code, message));
      blamed = true;
    }
    if (!blamed) throw { _code: status, _reason: told.message };
    this._calls = this._calls.filter((other) => other !== call || this._cut(call));
    for (const route of call._routes) route._link = undefined;
    this._sync();
  }

  /** Throws an End where the server cannot be reached. */
  private async _fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const { _token, _base, _fetch } = this._host;
    const headers = _token ? { ...init.headers, Authorization: "Bearer " + _token } : init.headers;
    try {
      return await _fetch(_base + path, { cache: "no-store", ...init, headers });
    } catch (e) {
      throw { _reason: String(e) };
    }
  }

  async _send(command: Command): Promise<void> {
    const { type, topic, data, encoding, idempotency_key: key } = command._body as Record<string, string>;
    if (type !== "publish") return command._fail("unsupported", `no ${type} over ${this._transport}`);
    command._sent = true;
    let told: Told;
    try {
      const response = await this._fetch("/publish/" + topic, {
        method: "POST",
        headers: key ? { "Idempotency-Key": key } : {},
        body: encoding ? decode(data!) : JSON.stringify(data),
      });
      if (response.status === 401 && this._host._token && !this._over) {
        command._sent = false;
        this._host._again(command);
        return this._end({ _code: 401 });
      }
      told = await toldBy(response);
      if (!response.ok) Object.assign(told, { type: "error", retry_after: waitOf(response) });
    } catch {
      if (!command._repeat) return command._fail("disconnected");
      told = { type: "error", code: "unavailable" } as Told;
    }
    const again = command._answer(told, this._host);
    if (again >= 0) setTimeout(() => command._done || this._host._again(command), again);
  }

  _renew(): void {} // each request has the token of its time
  _check(): void {} // each call has a time of its own
}

const toldBy = (response: Response): Promise<Told> => response.json().catch(() => ({ code: "bad_request", message: `HTTP ${response.status}` }));

/** What Retry-After says, in ms. */
const waitOf = (response: Response) => Number(response.headers.get("Retry-After")) * 1000 || undefined;
