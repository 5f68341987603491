// Who gets a message, and where each subscription stands.
//
// The server says of a message which topic it has, and not which subscription
// brought it. Where two overlap, one may be told again (it resumes from its own
// cursor) what the other has had. Cursors tell only whether two are the same,
// so: what came lately is remembered with those who had it; and while one is
// being told what it missed, another knows by the time what is old to it.

import type { Mode, SubscribeOptions } from "./pushd.js";
import type { Link } from "./link.js";
import { decode } from "./binary.js";
import type { Sub } from "./subscription.js";

/** How many messages are remembered with those who had them. */
const remembered = 2048;

/** A message of the server. Which fields there are depends on its type. */
export interface Told {
  type: string;
  id?: number;
  topic: string;
  cursor?: string;
  time: number;
  data: unknown;
  encoding?: string;
  recovered?: boolean;
  reason: string;
  from?: string;
  to?: string;
  count: number;
  code: any; // a word of an error, the number of a close
  message?: string;
  retry_after?: number;
  after: number;
  heartbeat: number;
  max_message: number;
  connections: number;
}

/** Route is a topic or pattern as subscribed: one subscription of the server, for all here who want it. */
export class Route {
  readonly _subs = new Set<Sub>();
  readonly _pattern: RegExp | undefined;
  readonly _mode: Mode | undefined;
  readonly _rate: number | undefined;

  _link: Link | undefined; // which has told the server of it
  _on?: unknown; // what brings its messages, a link or one of its calls, since the server has taken it
  _taken?: boolean; // by a server, once

  _cursor: string | undefined; // of the last message, or where it began
  _time?: number; // of the last message, as the server gives it
  _place: string | undefined; // where the last poll of this link ended
  _back?: number; // while it is being told what it missed: up to which time

  constructor(
    readonly _topic: string,
    options: SubscribeOptions<any>,
  ) {
    this._mode = options.mode;
    this._rate = options.maxRate;
    this._cursor = options.cursor;
    if (/[*>]/.test(_topic)) {
      this._pattern = RegExp("^" + _topic.replaceAll(".", "\\.").replaceAll("*", "[^.]+").replace(">", ".+") + "$");
    }
  }

  /** Each of those who want it; they may leave meanwhile. */
  _each(call: (sub: Sub) => void): void {
    [...this._subs].forEach(call);
  }

  _gap(reason: string, from?: string, to?: string): void {
    this._each((sub) => sub._gap({ topic: this._topic, reason, from, to }));
  }
}

export class Router {
  readonly _routes = new Map<string, Route>();
  private readonly _recent = new Map<string, Set<Route>>(); // the newest last
  readonly _skipped = new Map<string, number>(); // by concrete topic, until its next message
  private _newest = 0; // time of the newest message

  /** The route for one more subscription. */
  _route(topic: string, options: SubscribeOptions<any>): Route {
    let route = this._routes.get(topic);
    if (!route) {
      route = new Route(topic, options);
      this._routes.set(topic, route);
    } else if (options.cursor || options.mode !== route._mode || options.maxRate !== route._rate) {
      throw new TypeError(topic + " is in use otherwise");
    }
    return route;
  }

  /** The routes that a link knows nothing of; from now on it does. */
  _fresh(link: Link): Route[] {
    const fresh = [...this._routes.values()].filter((route) => route._link !== link);
    for (const route of fresh) {
      route._link = link;
      route._on = route._place = undefined;
    }
    return fresh;
  }

  /** A server has taken a route, which asked to go on from its cursor if it had one. Its messages come from source alone. */
  _subscribed(route: Route, source: unknown, { cursor, recovered, reason }: Partial<Told>): void {
    const from = route._cursor;
    if (from) route._back = this._newest;
    else if (!route._taken) route._time = this._newest;
    const missed = recovered === false || route._taken && !from;
    route._on = source;
    route._taken = true;
    if (!from || recovered === false) route._cursor = cursor;
    if (missed) route._gap(reason ?? "disconnected", from, cursor);
    route._each((sub) => sub._subscribed({ topic: route._topic, cursor, recovered }));
  }

  _message({ topic, time, cursor, data, encoding }: Told, source: unknown): void {
    const routes = [...this._routes.values()].filter((route) => route._on === source && (route._topic === topic || route._pattern?.test(topic)));

    const skipped = this._skipped.get(topic) ?? 0;
    this._skipped.delete(topic);
    if (encoding) data = decode(data as string);
    const key = topic + " " + cursor;
    const had = cursor && (this._recent.get(key) ?? new Set());
    if (had && this._recent.set(key, had).size > remembered) this._recent.delete(this._recent.keys().next().value!);
    for (const route of routes) {
      if (had) {
        if (had.has(route) || (time < route._time! && routes.some((other) => other !== route && other._back! > time))) continue;
        had.add(route);
        route._cursor = cursor;
      }
      route._time = time;
      if (time >= route._back!) route._back = 0;
      route._each((sub) => sub._deliver({ topic, data, time, cursor }, skipped));
    }
    this._newest = Math.max(this._newest, time);
  }
}
