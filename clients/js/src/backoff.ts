/**
 * How long to wait before an attempt, in ms: anything up to a bound that
 * doubles each time (full jitter), so that those who lost one server together
 * do not come back together.
 */
export const backoff = (attempt: number, min: number, max: number) => Math.random() * Math.min(max, min * 2 ** attempt);
