// Subscribing and publishing by hand.

import { byId, el, setText } from "./dom.js";
import * as format from "./format.js";

const most = 200; // messages that are shown

export class Try {
  #socket;
  #patterns = new Map(); // what is subscribed to, with its mode
  #count = 0;
  #waiting = []; // messages for the next frame of the display
  #frame = 0;

  constructor(socket) {
    this.#socket = socket;
    byId("subscribe").onsubmit = (event) => {
      event.preventDefault();
      const { topic, mode } = event.target.elements;
      this.#subscribe(topic.value.trim(), mode.value);
    };
    byId("publish").onsubmit = (event) => {
      event.preventDefault();
      const { topic, message } = event.target.elements;
      this.#publish(topic.value.trim(), message.value);
    };
    byId("publish").elements.message.onkeydown = (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("publish").requestSubmit();
    };
  }

  // resubscribe is called when there is a new connection.
  resubscribe() {
    for (const [pattern, mode] of this.#patterns) this.#ask(pattern, mode).catch((error) => say("subscribe-result", error.message, true));
  }

  // receive takes every message that is no node's, and what tells of missing ones.
  receive(message) {
    if (message.type === "message") this.#add(message.time, message.topic, text(message));
    else if (message.type === "gap") this.#add(Date.now(), message.topic, `gap: messages are missing (${message.reason})`, "gap");
    else if (message.type === "skipped") this.#add(Date.now(), message.topic, `${message.count} older values skipped`, "gap");
  }

  #ask(pattern, mode) { return this.#socket.ask({ type: "subscribe", topic: pattern, ...(mode && { mode }) }); }

  async #subscribe(pattern, mode) {
    try {
      await this.#ask(pattern, mode);
    } catch (error) {
      say("subscribe-result", error.message, true);
      return;
    }
    this.#patterns.set(pattern, mode);
    say("subscribe-result", `Subscribed to ${pattern}.`);
    this.#drawPatterns();
    byId("subscribe").reset();
  }

  #drawPatterns() {
    byId("subscribed").replaceChildren(...[...this.#patterns].map(([pattern, mode]) => el("li", {}, mode ? `${pattern} (${mode})` : pattern,
      el("button", { type: "button", textContent: "×", ariaLabel: `Unsubscribe from ${pattern}`, onclick: () => this.#unsubscribe(pattern) }))));
  }

  #unsubscribe(pattern) {
    this.#patterns.delete(pattern);
    this.#drawPatterns();
    this.#socket.ask({ type: "unsubscribe", topic: pattern }).catch(() => {}); // a lost connection has ended it too
    byId("subscribe").elements.topic.focus();
  }

  async #publish(topic, message) {
    let data = message;
    try {
      data = JSON.parse(message);
    } catch {
      // it is text, then
    }
    try {
      const { cursor } = await this.#socket.ask({ type: "publish", topic, data });
      say("publish-result", `Published to ${topic} at ${new Date().toLocaleTimeString()}${cursor ? `, stored at ${cursor}` : ""}.`);
    } catch (error) {
      say("publish-result", `Not published: ${error.message}`, true);
    }
  }

  #add(time, topic, message, className = "") {
    this.#count++;
    this.#waiting.push([time, topic, message, className]);
    if (this.#waiting.length > most) this.#waiting.shift();
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  // draw puts the newest on top, once for each frame of the display.
  #draw() {
    this.#frame = 0;
    const body = byId("messages").tBodies[0];
    body.prepend(...this.#waiting.reverse().map(([time, topic, message, className]) => el("tr", { className },
      el("td", { className: "time" }, new Date(time).toLocaleTimeString()), el("td", { className: "name" }, topic), el("td", { className: "name" }, message.slice(0, 2000)))));
    this.#waiting = [];
    while (body.rows.length > most) body.lastChild.remove();
    setText(byId("message-count"), format.count(this.#count));
  }
}

function text({ data, encoding }) {
  if (encoding === "base64") return `(binary) ${data}`;
  return typeof data === "string" ? data : JSON.stringify(data);
}

function say(id, message, failed = false) {
  byId(id).toggleAttribute("data-failed", failed);
  setText(byId(id), message);
}
