// When there is a connection, and by what: one link after another.

import type { Options, StateInfo, State, Transport } from "./pushd.js";
import { backoff } from "./backoff.js";
import { final, leastWait, stale } from "./closing.js";
import { PushdError } from "./error.js";
import { later, type End, type Host, type Link } from "./link.js";
import { openPoll } from "./poll.js";
import type { Told } from "./router.js";
import { openSse } from "./sse.js";
import { openWebSocket } from "./websocket.js";

/** How long a connection must last, in ms, for the next loss to be the first again. */
const steady = 10_000;

const open: Record<Transport, (host: Host) => Link> = { websocket: openWebSocket, sse: openSse, poll: openPoll };

export interface Connection {
  _link(): Link | undefined; // where open
  _welcome(link: Link): void;
  /** At most the first end of a link counts. */
  _ended(link: Link, end: End): void;
  /** The server wants the client elsewhere, after a while. */
  _advise(told: Told, link: Link): void;
  _renew(): void;
  /** Connects, unless there is a connection or an attempt under way; where the server named a time, not before that, or now. */
  _go(now?: boolean): void;
  /** Disconnects. */
  _stop(): void;
}

/** What is told of a connection. */
export interface Watcher extends Host {
  _is(state: State, info?: StateInfo): void;
  _finish(error: PushdError, info: StateInfo): void;
}

export function keepConnected(host: Watcher, { token, transports = Object.keys(open) as Transport[], retryBetter = 60_000, backoff: { min = 500, max = 30_000 } = {} }: Options): Connection {
  let link: Link | undefined;
  let better: Link | undefined; // on the way, to take its place
  let index = 0; // of the transport to try
  let turn = 0; // which attempt it is: what an earlier one still brings is void
  let attempt = 0; // since the last connection that lasted
  let worked: boolean | undefined; // the best transport, once
  let refusals = 0; // of tokens, in a row
  let adviceAt = 0; // when the server wants to be asked again
  const renew = typeof token === "function" && token;
  let known = !renew; // the token in use is good as far as we know
  let timer: ReturnType<typeof setTimeout> | undefined; // of the next attempt, or for how long a token is waited for
  if (!renew) host._token = token as string;

  /** Has a token in use, a new one where needed, and a link that goes by it. What comes of an attempt that is over counts for nothing. */
  async function authorize(): Promise<void> {
    const mine = turn;
    let may = true;
    if (!known) {
      try {
        const late = (_: unknown, fail: () => void) => (timer = setTimeout(fail, host._timeout, "timeout"));
        const token = await Promise.race([(renew as () => Promise<string>)(), new Promise<never>(late)]);
        if (mine === turn) host._token = token;
      } catch (e) {
        may = false;
        if (mine === turn) host._trouble(new PushdError("token", "" + e));
      }
    }
    if (mine !== turn) return;
    clearTimeout(timer);
    known = may || !!link; // where there is no other, an open link keeps the old one
    try {
      if (!link) may ? (link = make(index)) : wait({});
      else if (may && link._renew()) better ??= make(index);
    } catch {
      next({ _unfit: true });
    }
  }

  function connect(): void {
    connection._stop();
    const mine = turn;
    host._is("connecting");
    if (mine === turn) authorize();
  }

  /** Tries the next transport, or later again. */
  function next(end: End): void {
    // The best that worked before gets a second chance: it may be the server that is away.
    if (end._unfit && transports[index + 1] && (index || attempt || !worked)) {
      index++;
      connect();
    } else {
      index = 0;
      if (end._unfit) known = !renew; // a page is not told that a WebSocket was refused for its token
      wait(end);
    }
  }

  function make(index: number): Link {
    const made = open[transports[index]!](host);
    made._index = index;
    later(host._timeout, () => made._open || connection._ended(made, {}));
    return made;
  }

  /** While on a lesser transport, tries the best now and then. */
  function seek(): void {
    const from = link;
    const look = () => {
      try {
        if (from === link) better ??= make(0);
      } catch {} // it is not to be had at all
    };
    if (index) later(retryBetter * (Math.random() + 0.5), look);
  }

  function wait({ _code, _reason, _after }: End): void {
    // A place in the server's queue passes unused, and is no failure after which to wait longer.
    const least = _after ? _after + 1000 * Math.random() : leastWait(_code) + backoff(attempt++, min, max);
    if (_after) adviceAt = Math.max(adviceAt, Date.now() + least);
    const retryIn = Math.max(adviceAt - Date.now(), least);
    clearTimeout(timer);
    timer = setTimeout(connect, retryIn);
    host._is("waiting", { code: _code, reason: _reason, retryIn });
  }

  const connection: Connection = {
    _link: () => (link?._open ? link : undefined),

    _welcome(from) {
      if (from._open || (from !== link && from !== better)) return; // or let go meanwhile
      from._open = true;
      if (from === better) {
        link!._close();
        link = from;
        better = undefined;
        index = from._index!;
      }
      worked ||= !index;
      later(steady, () => {
        if (link === from) attempt = refusals = 0;
      });
      seek();
      host._is("open", { transport: transports[index] });
    },

    _ended(from, end) {
      if (from === better) {
        better = undefined;
        from._close();
        return seek();
      }
      if (from !== link) return;
      connection._stop();
      const { _code: code, _reason: reason } = end;
      if (renew && stale.includes(code!) && !refusals++) {
        known = false;
        wait(end);
      } else if (final.includes(code!)) {
        host._finish(new PushdError("close_" + code, reason), { code, reason });
      } else {
        next({ _unfit: !from._open, ...end });
      }
    },

    _advise({ after, reason }, from) {
      if (from._advised) return; // as of each call, and of each poll
      from._advised = true;
      adviceAt = Date.now() + after;
      later(after, () => connection._ended(from, { _code: 1012, _reason: reason }));
    },

    _renew() {
      if (!renew || !known) return; // it ends with the connection, or another is on its way
      known = false;
      authorize();
    },

    _go(now) {
      if (link) return;
      index = 0;
      if (now || adviceAt < Date.now()) connect();
      else wait({ _after: 1 }); // which is until then
    },

    _stop() {
      turn++;
      clearTimeout(timer);
      const old = [link, better];
      link = better = undefined;
      for (const link of old) link?._close();
    },
  };
  return connection;
}
