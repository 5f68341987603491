import type { Host } from "./link.js";
import type { Told } from "./router.js";
import { PushdError } from "./error.js";

/** Command is one thing that the server is asked for, until it has answered. */
export class Command {
  _done = false;
  _sent = false;
  readonly _lasting: boolean; // it outlives its link
  private readonly _timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly _body: Record<string, unknown>, // as on a WebSocket
    readonly _repeat: boolean, // may be sent again where it is not known what became of it
    private readonly _answered: (told: Told) => void,
    readonly _failed: (error: PushdError) => void,
    timeout?: number, // ms, of one that outlives its link
  ) {
    this._lasting = !!timeout;
    if (timeout) this._timer = setTimeout(() => this._fail("timeout"), timeout);
  }

  /** Takes the server's answer. Returns after how many ms the command is to be sent again, or -1. */
  _answer(told: Told, host: Host): number {
    if (told.type !== "error") this._finish(() => this._answered(told));
    else if (told.code === "rate_limited" || (this._repeat && told.code === "unavailable")) return told.retry_after ?? host._backoff(1);
    else this._fail(told.code, told.message);
    return -1;
  }

  _fail(code: string, message?: string): void {
    this._finish(() => this._failed(new PushdError(code, message)));
  }

  private _finish(then: () => void): void {
    clearTimeout(this._timer);
    if (!this._done) {
      this._done = true;
      then();
    }
  }
}
