// What a client does after each close code: the table of the protocol's page.

/** After which close codes, and statuses of HTTP, it comes back with another token alone. */
export const stale = [401, 4001, 4002];

/** After which of them it does not come back by itself. */
export const final = [1000, 1002, 1003, 1007, 1009, 4003, ...stale];

/** The least time before it comes back, in ms. */
export const leastWait = (code?: number) => (code === 1008 ? 10_000 : 0);
