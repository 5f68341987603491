import type * as api from "./pushd.js";
import { Pushd } from "./client.js";
import { PushdError } from "./error.js";

// What pushd.d.ts says is true of the code.
({ Pushd, PushdError }) satisfies { Pushd: typeof api.Pushd; PushdError: typeof api.PushdError };

export { Pushd, PushdError };
