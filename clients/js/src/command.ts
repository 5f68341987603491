import type { Told } from "./router.js";
import { PushdError } from "./error.js";

/** Command is one thing that the server is asked for, until it has answered. */
export interface Command {
  readonly _body: Record<string, any>; // as on a WebSocket
  readonly _lasting: number | undefined; // where it outlives its link
  _sent?: boolean;
  _done?: boolean;
  /** Takes an answer. Returns true where the command is to be sent again instead. */
  _answer(told: Partial<Told>): boolean;
}

export function command(
  body: Command["_body"],
  repeat: unknown, // it may be sent again where it is not known what became of it
  answered: (told: Told) => void,
  failed: (error: PushdError) => void,
  timeout?: number, // ms; of one that outlives its link
): Command {
  const it: Command = {
    _body: body,
    _lasting: timeout,
    _answer(told) {
      const { code } = told;
      if (it._done) return false;
      if (code === "rate_limited" || (repeat && (code === "unavailable" || code === "disconnected"))) return true;
      it._done = true;
      clearTimeout(timer);
      if (code) failed(new PushdError(code, told.message));
      else answered(told as Told);
      return false;
    },
  };
  const timer = timeout && setTimeout(it._answer, timeout, { code: "timeout" });
  return it;
}
