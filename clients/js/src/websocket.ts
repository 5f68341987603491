import { Command } from "./command.js";
import { Link, type Host } from "./link.js";
import type { Route, Told } from "./router.js";

/** How many commands may be without an answer: below what the server takes as misuse. */
const mostUnanswered = 100;

export class WebSocketLink extends Link {
  readonly _transport = "websocket";
  private readonly _socket: WebSocket;

  // Commands.
  private readonly _unanswered = new Map<number, Command>();
  private _queue: Command[] = [];
  private _lastId = 0;
  private _mostBytes = 0;
  private _held: ReturnType<typeof setTimeout> | undefined; // until commands are taken again

  // Silence.
  private _quiet = 0; // ms after which it is asked about
  private _heardAt = 0;
  private _watch: ReturnType<typeof setTimeout> | undefined;

  constructor(host: Host) {
    super(host);
    const protocols = ["pushd.v1.json"];
    if (host._token) protocols.push("pushd.token." + host._token);
    const socket = (this._socket = new host._WebSocket!(host._base.replace("http", "ws") + "/ws", protocols));
    socket.onmessage = (event) => this._receive(JSON.parse(event.data));
    socket.onerror = () => {}; // the close that follows says more
    socket.onclose = ({ code, reason }) => this._end({ _code: code, _reason: reason, _unfit: !this._open });
  }

  private _receive(told: Told): void {
    this._heardAt = Date.now();
    const command = this._unanswered.get(told.id!);
    if (command) {
      this._unanswered.delete(told.id!);
      const again = command._answer(told, this._host);
      if (again >= 0) this._hold(command, again);
      this._flush();
    } else if (told.type === "welcome") {
      this._mostBytes = told.max_message;
      this._quiet = 2 * told.heartbeat;
      this._listen(this._quiet);
      this._welcomed();
    } else {
      this._host._told(told, this);
    }
  }

  /** Looks after a while whether anything has come. */
  private _listen(ms: number): void {
    clearTimeout(this._watch);
    this._watch = setTimeout(() => {
      const left = this._heardAt + this._quiet - Date.now();
      if (left > 0) this._listen(left);
      else this._check();
    }, ms);
  }

  _check(): void {
    if (!this._open) return;
    const askedAt = Date.now();
    this._socket.send('{"type":"ping"}');
    clearTimeout(this._watch);
    this._watch = setTimeout(() => {
      if (this._heardAt < askedAt) this._end({ _code: 1006, _reason: "silent" });
      else this._listen(this._quiet);
    }, this._host._timeout);
  }

  _sync(gone?: Route): void {
    if (gone?._link === this) this._tell({ type: "unsubscribe", topic: gone._topic });
    for (const route of this._host._router._routes.values()) {
      if (route._link === this) continue;
      route._link = this;
      route._on = false;
      const body = { type: "subscribe", topic: route._topic, mode: route._mode, max_rate: route._rate, cursor: route._cursor };
      this._tell(
        body,
        (told) => this._host._router._subscribed(route, told),
        (error) => this._host._refused(route, error),
      );
    }
  }

  _renew(): void {
    this._tell({ type: "auth", token: this._host._token }, undefined, (error) => this._host._trouble(error));
  }

  private _tell(body: Command["_body"], answered = (_: Told) => {}, failed: Command["_failed"] = () => {}): void {
    this._send(new Command(body, true, answered, failed));
  }

  _send(command: Command): void {
    this._queue.push(command);
    this._flush();
  }

  /** Sends nothing for a while, and then this first. */
  private _hold(command: Command, ms: number): void {
    this._queue.unshift(command);
    clearTimeout(this._held);
    this._held = setTimeout(() => {
      this._held = undefined;
      this._flush();
    }, ms);
  }

  private _flush(): void {
    while (!this._held && !this._over && this._unanswered.size < mostUnanswered) {
      const command = this._queue.shift();
      if (!command) return;
      const { type, topic } = command._body;
      // What was refused for its rate may be out of date when it is sent again.
      const late = command._sent && type === "unsubscribe" && this._host._router._routes.has(topic as string);
      if (command._done || late) continue;
      const text = JSON.stringify({ ...command._body, id: ++this._lastId });
      if (text.length * 3 > this._mostBytes && new TextEncoder().encode(text).length > this._mostBytes) {
        command._fail("message_too_large", `more than ${this._mostBytes} bytes`);
        continue;
      }
      command._sent = true;
      this._unanswered.set(this._lastId, command);
      this._socket.send(text);
    }
  }

  protected _free(): void {
    clearTimeout(this._held);
    clearTimeout(this._watch);
    this._socket.onmessage = this._socket.onclose = null;
    this._socket.close();
    for (const command of [...this._unanswered.values(), ...this._queue]) this._host._again(command);
  }
}
