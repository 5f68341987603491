import type { Command } from "./command.js";
import type { Connection } from "./connection.js";
import type { PushdError } from "./error.js";
import type { Route, Router, Told } from "./router.js";

/** Link is one connection, by whatever transport, from its beginning to its end. */
export interface Link {
  _index?: number; // of its transport; set by the connection
  _open?: boolean; // set by it too, at the welcome
  _advised?: boolean; // and that, once the server has said when it wants the client elsewhere
  /** Tells the server of the routes that it does not know, and of the one that nobody wants any more. */
  _sync(gone?: Route): void;
  _send(command: Command): void;
  /** Another token is in use. Returns whether the link needs another link in its place for that. */
  _renew(): boolean | void;
  /** Finds out now whether the other end is there. */
  _check(): void;
  /** Lets go of everything. */
  _close(): void;
}

/** How a connection ended. */
export interface End {
  _code?: number; // a close code of the protocol, or the HTTP status of a refusal
  _reason?: string;
  _after?: number; // ms that the server wants to be left alone
  _unfit?: boolean; // this transport cannot be had here: try the next. Unless told otherwise, what ends before its welcome is
}

/** What a link needs of the client that it belongs to. */
export interface Host {
  readonly _base: string; // URL without a last slash
  readonly _timeout: number;
  readonly _fetch: typeof fetch;
  readonly _WebSocket: typeof WebSocket | undefined;
  readonly _router: Router;
  _token: string | null | undefined;
  readonly _connection: Connection;
  _told(told: Told, link: Link, call?: unknown): void;
  _refused(route: Route, error: PushdError): void;
  _trouble(error: unknown): void;
  _again(command: Command): void; // it goes out over the next link
}

/** For a time that nobody waits for: in Node it keeps no process alive. */
export function later(ms: number, call: () => void): void {
  (setTimeout(call, ms) as { unref?(): void }).unref?.();
}
