import type { Options } from "./pushd.js";
import { PushdError } from "./error.js";

/** Tokens keeps the token that is in use, and gets a new one where it can. */
export class Tokens {
  private _current: string | null | undefined;
  readonly _renewable: boolean;
  constructor(
    private readonly _source: Options["token"],
    private readonly _timeout: number,
  ) {
    this._renewable = typeof _source === "function";
    if (typeof _source !== "function") this._current = _source;
  }

  /** The token in use, or a new one; rejects as the program's own function does. */
  async _get(): Promise<string | null | undefined> {
    if (typeof this._source === "function" && this._current === undefined) {
      let timer;
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(reject, this._timeout, new Error("no token in time"));
      });
      try {
        this._current = (await Promise.race([this._source(), late])) || null;
      } catch (e) {
        throw new PushdError("token", String((e as Error)?.message ?? e));
      } finally {
        clearTimeout(timer);
      }
    }
    return this._current;
  }

  /** The next _get asks for another; false where there is none to be had. */
  _drop(): boolean {
    if (this._renewable) this._current = undefined;
    return this._renewable;
  }
}
