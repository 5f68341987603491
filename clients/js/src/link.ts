import type { Transport } from "./pushd.js";
import type { Command } from "./command.js";
import type { PushdError } from "./error.js";
import type { Route, Router, Told } from "./router.js";

/** How a connection ended. */
export interface End {
  _code?: number; // a close code of the protocol, or the HTTP status of a refusal
  _reason?: string;
  _wait?: number; // ms, as the server asked
  _unfit?: boolean; // this transport cannot be had here: try the next
}

/** What a link needs of the client that it belongs to. */
export interface Host {
  readonly _base: string; // URL without a last slash
  readonly _timeout: number;
  readonly _fetch: typeof fetch;
  readonly _WebSocket: typeof WebSocket | undefined;
  readonly _router: Router;
  readonly _token: string | null | undefined;
  _backoff(attempt?: number): number;
  _welcome(link: Link): void;
  _told(told: Told, link: Link): void;
  _ended(link: Link, end: End): void;
  _replace(link: Link): void; // another of the same kind is to take its place
  _trouble(error: PushdError): void;
  _refused(route: Route, error: PushdError): void;
  _again(command: Command): void; // it goes out over the next link
}

/** Link is one connection, by whatever transport, from its beginning to its end. */
export abstract class Link {
  abstract readonly _transport: Transport;
  _open = false;
  protected _over = false;
  private readonly _late: ReturnType<typeof setTimeout>;

  constructor(protected readonly _host: Host) {
    this._late = setTimeout(() => this._end({ _unfit: true, _reason: "nothing came" }), _host._timeout);
  }

  /** Tells the server of the routes that it does not know, and of those that nobody wants any more. */
  abstract _sync(gone?: Route): void;
  abstract _send(command: Command): void;
  /** Another token is in use. */
  abstract _renew(): void;
  /** Finds out now whether the other end is there. */
  abstract _check(): void;
  /** Lets go of everything. */
  protected abstract _free(): void;

  protected _welcomed(): void {
    clearTimeout(this._late);
    if (this._open) return;
    this._open = true;
    this._host._welcome(this);
  }

  /** The end, unless the client itself wants it. */
  _end(end: End): void {
    if (this._over) return;
    this._close();
    this._host._ended(this, end);
  }

  _close(): void {
    this._over = true;
    clearTimeout(this._late);
    this._free();
  }
}
