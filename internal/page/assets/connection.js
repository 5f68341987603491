// The WebSocket of the page: protocol version 1, heartbeat, and coming back.

const backoff = { first: 500, most: 30_000, policy: 10_000 }; // ms; policy: at least, after 1008
const steady = 10_000; // ms that a connection must last for the backoff to start anew
const pongWait = 10_000; // ms

// Close codes after which the protocol says not to come back by oneself.
const finalCodes = new Map([
  [1000, "closed by the server"],
  [1002, "protocol error"],
  [1003, "unsupported data"],
  [1007, "invalid UTF-8"],
  [1009, "message too big"],
  [4001, "a token is needed"],
  [4003, "disconnected by an administrator"],
]);

// Connection keeps one WebSocket open. It calls onstate(state, text) with
// "connecting", "live", "waiting" or "stopped", and onmessage with every
// message that is not about the connection itself.
export class Connection {
  retryAt = 0; // while waiting: when it connects again
  #url;
  #socket = null;
  #timer = 0;
  #attempt = 0;
  #liveSince = 0; // 0: not live
  #advisedAt = 0; // when the server wants the client elsewhere; 0: it did not say
  #heartbeat = 25_000;
  #heardAt = 0;
  #pingedAt = 0; // of a ping without an answer so far

  constructor(url) { this.#url = url; }

  open() {
    clearTimeout(this.#timer);
    this.#advisedAt = this.#pingedAt = 0;
    const socket = (this.#socket = new WebSocket(this.#url, ["pushd.v1.json"]));
    socket.onmessage = (event) => this.#socket === socket && this.#receive(JSON.parse(event.data));
    socket.onclose = (event) => this.#socket === socket && this.#closed(event.code, event.reason);
    this.onstate("connecting", "connecting");
  }

  send(command) {
    if (this.#liveSince) this.#socket.send(JSON.stringify(command));
  }

  // tick is called each second: a connection that is silent for long is asked.
  tick() {
    const now = Date.now();
    if (!this.#liveSince) return;
    if (this.#pingedAt) {
      if (now - this.#pingedAt > pongWait) this.#drop();
    } else if (now - this.#heardAt > 2 * this.#heartbeat) {
      this.#pingedAt = now;
      this.send({ type: "ping" });
    }
  }

  #receive(message) {
    this.#heardAt = Date.now();
    this.#pingedAt = 0;
    switch (message.type) {
      case "welcome":
        this.#heartbeat = message.heartbeat;
        this.#liveSince = Date.now();
        this.onstate("live", "live");
        break;
      case "reconnect":
        // The server closes by then; if it does not, leave.
        this.#advisedAt = Date.now() + message.after;
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#drop(), message.after);
        break;
      case "pong":
        break;
      default:
        this.onmessage(message);
    }
  }

  // drop leaves a socket without waiting for the other end, which may be gone.
  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    socket.close();
    this.#closed(1006, "");
  }

  #closed(code, reason) {
    clearTimeout(this.#timer);
    const now = Date.now();
    if (this.#liveSince && now - this.#liveSince > steady) this.#attempt = 0;
    this.#liveSince = 0;
    this.#socket = null;
    if (finalCodes.has(code)) {
      this.onstate("stopped", `stopped: ${reason || finalCodes.get(code)} (${code})`);
      return;
    }
    // Full jitter: a thousand pages that lost one server come back spread out.
    let delay = Math.random() * Math.min(backoff.most, backoff.first * 2 ** this.#attempt++);
    if (this.#advisedAt) delay = Math.max(0, this.#advisedAt - now);
    else if (code === 1008) delay += backoff.policy;
    this.retryAt = now + delay;
    this.#timer = setTimeout(() => this.open(), delay);
    this.onstate("waiting", "reconnecting");
  }
}
