// What the transports over HTTP have in common: messages come by one call or
// several, each for some of the routes; publications go by requests of their own.

import { decode } from "./binary.js";
import { PushdError } from "./error.js";
import type { End, Host, Link } from "./link.js";
import type { Route, Told } from "./router.js";

/** How many routes share a request: its head must stay below what the server reads. */
const mostRoutes = 50;

/** How many calls there may be, before all are made anew as few: browsers open six connections to a server. */
const mostCalls = 3;

/** Call is one request after another that bring messages for some routes. */
export interface Call {
  _routes: Route[];
  /** Asks for messages. Throws, also where routes were refused and the others found another call. */
  _get(path: string): Promise<Response>;
  /** The server has answered. Throws in a call that was to find out no more than that. */
  _welcome(): void;
  /** Ends the link where nothing comes for a while. */
  _await(ms: number): void;
  _cut(): void;
}

/** Opens a link whose calls are made by run, which throws at their end, an End where it can. */
export function openHttp(host: Host, run: (call: Call, link: Link, host: Host) => Promise<never>): Link {
  const { _router, _fetch, _base } = host;
  const calls = new Set<Call>();
  let soon: ReturnType<typeof setTimeout> | undefined;

  const ended = (end: End) => host._connection._ended(link, end);

  const request = (path: string, init?: RequestInit, headers?: Record<string, string>): Promise<Response> =>
    _fetch(_base + path, { ...init, headers: { ...headers, ...(host._token && { Authorization: "Bearer " + host._token }) } });

  /** Has each route in a call. A new one gets another call, and the rest go on. */
  function place(): void {
    soon = undefined;
    for (const call of calls) {
      call._routes = call._routes.filter((route) => route._subs.size);
      if (!call._routes[0]) call._cut();
    }
    let fresh = _router._fresh(link);
    if (fresh[0] && calls.size >= mostCalls) {
      for (const call of calls) call._cut();
      fresh = [..._router._routes.values()];
    }
    const groups: Record<string, Route[]> = {};
    fresh.forEach((route, n) => (groups[[route._mode, route._rate, (n / mostRoutes) | 0] as any] ??= []).push(route));
    Object.values(groups).forEach(begin);
  }

  function begin(routes: Route[]): Call {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const call: Call = {
      _routes: routes,

      async _get(path) {
        const routes = call._routes;
        const [{ _mode, _rate }] = routes as [Route];
        const query = new URLSearchParams();
        if (_mode) query.append("mode", _mode);
        if (_rate) query.append("max_rate", _rate as any);
        for (const route of routes) {
          query.append("topic", route._topic);
          query.append("cursor", route._place ?? route._cursor ?? "");
        }
        const response = await request(path + query, { signal: abort.signal });
        if (response.ok) return response;
        const { status } = response;
        if (!call._routes[0] || ![400, host._token ? 400 : 401, 403].includes(status)) {
          throw { _code: status, _after: retryAfter(response), _unfit: ![401, 429, 503].includes(status) };
        }
        const { code, message } = await toldBy(response);
        call._cut();
        if (routes[1]) {
          // Which of them was it?
          const half = routes.length >> 1;
          begin(routes.slice(0, half));
          begin(routes.slice(half));
        } else {
          host._refused(routes[0]!, new PushdError(code, message));
        }
        throw {};
      },

      _welcome() {
        host._connection._welcome(link);
        if (!call._routes[0]) throw call._cut();
      },

      _await(ms) {
        clearTimeout(timer);
        if (calls.has(call)) timer = setTimeout(ended, ms, {});
      },

      _cut() {
        clearTimeout(timer);
        calls.delete(call);
        abort.abort();
      },
    };
    calls.add(call);
    call._await(host._timeout);
    run(call, link, host).catch((end) => calls.has(call) && ended(end));
    return call;
  }

  const link: Link = {
    _sync() {
      soon ??= setTimeout(place); // what is subscribed to at once goes into one request
    },

    async _send(command) {
      const { type, topic, data, encoding, idempotency_key: key } = command._body;
      if (type !== "publish") return void command._answer({ code: "unsupported" });
      command._sent = true;
      let told: Partial<Told> = { code: "disconnected" };
      try {
        const response = await request("/publish/" + topic, {
          method: "POST",
          body: encoding ? decode(data) : JSON.stringify(data),
        }, key && { "Idempotency-Key": key });
        told = await toldBy(response);
        told.after = retryAfter(response);
        if (response.status === 401 && host._token) {
          told.code = "rate_limited"; // it was not taken, and will be with another token
          ended({ _code: 401 });
        }
      } catch {}
      if (command._answer(told)) setTimeout(host._again, told.after || 2000, command);
    },

    _renew: () => true,

    /** A stream that is silent may be well: what tells is whether the server can be reached. */
    _check: () => void request("/healthz").then(() => host._connection._welcome(link), ended),

    _close() {
      clearTimeout(soon);
      for (const call of calls) call._cut();
    },
  };
  const [first] = _router._routes.values();
  if (!first) link._check(); // without anything to wait for, it is enough that the server answers
  else if (host._connection._link()) begin([first])._routes = []; // that one goes on until this one is open, and nothing is taken from it
  else link._sync();
  return link;
}

const toldBy = (response: Response): Promise<Told> => response.json().catch(() => ({ code: "close_" + response.status }));

/** How long the server asks for, in ms; 0 or NaN where it does not, in seconds. */
const retryAfter = ({ headers }: Response): number => 1000 * (headers.get("Retry-After") as any);
