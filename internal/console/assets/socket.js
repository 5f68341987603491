// The console's WebSocket: protocol version 1, and coming back.

import { protocols, request } from "./session.js";

const backoff = { first: 250, most: 5_000 }; // ms: an operator waits for it
const patience = 10_000; // ms of silence, of a server that says something every second, and then for a pong

// Socket keeps one WebSocket open. onstate(state, text) hears "connecting",
// "live", "waiting" or "stopped"; onmessage what is not about the connection or
// an answer.
export class Socket {
  client = ""; // the name that the server gave this connection
  #socket = null;
  #live = false;
  #attempt = 0;
  #number = 0;
  #waiting = new Map(); // by id of the command: how its answer is taken
  #heardAt = 0;
  #pinged = false;

  async open() {
    this.onstate("connecting", "connecting");
    try {
      await request("/statistics"); // asks for the token where one is needed: a WebSocket would not say why it failed
    } catch (error) {
      if (error.status && error.status !== 503) this.onstate("waiting", error.message);
      this.#again();
      return;
    }
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = (this.#socket = new WebSocket(`${scheme}://${location.host}/ws`, protocols()));
    socket.onmessage = (event) => this.#socket === socket && this.#receive(JSON.parse(event.data));
    socket.onclose = (event) => this.#socket === socket && this.#closed(event.code);
  }

  // ask sends a command, and resolves with what the server answers to it. An error has its code.
  ask(command) {
    if (!this.#live) return Promise.reject(new Error("there is no connection to the server now"));
    const id = ++this.#number;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, (answer) => (answer.type === "error" ? reject(Object.assign(new Error(answer.message), { code: answer.code })) : resolve(answer)));
      this.#socket.send(JSON.stringify({ ...command, id }));
    });
  }

  // tick is called each second: a server that is silent for long is asked.
  tick() {
    if (!this.#live || Date.now() - this.#heardAt < patience) return;
    if (this.#pinged) {
      this.#socket.close();
      this.#closed(1006);
      return;
    }
    this.#pinged = true;
    this.#heardAt = Date.now();
    this.ask({ type: "ping" }).catch(() => {});
  }

  #receive(message) {
    this.#heardAt = Date.now();
    this.#pinged = false;
    const answer = this.#waiting.get(message.id);
    if (answer) {
      this.#waiting.delete(message.id);
      answer(message);
    } else if (message.type === "welcome") {
      this.#live = true;
      this.#attempt = 0;
      this.client = message.client;
      this.onstate("live", "live");
    } else {
      this.onmessage(message);
    }
  }

  #closed(code) {
    this.#socket = null;
    this.#live = false;
    for (const answer of this.#waiting.values()) answer({ type: "error", message: "the connection was lost before the server answered" });
    this.#waiting.clear();
    if (code === 4003) this.onstate("stopped", "stopped: another operator disconnected this console. Reload to come back");
    else this.#again();
  }

  #again() {
    const delay = Math.min(backoff.most, backoff.first * 2 ** this.#attempt++) * (0.5 + Math.random() / 2);
    this.onstate("waiting", "no connection to the server: trying again");
    setTimeout(() => this.open(), delay);
  }
}
