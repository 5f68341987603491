// Subscribing and publishing by hand.

import { byId, el, setText } from "./dom.js";
import * as format from "./format.js";
import { nodesTopic } from "./model.js";

const most = 200; // messages that are shown
const passing = new Set(["unavailable", "rate_limited"]); // refusals of which there is none a while later

// Place is where a subscription stands, which a resumed one goes on from.
class Place {
  cursor; // of the last message that matched, or where it began; undefined in a namespace without history
  taken = false; // by a server, once
  stands = false; // on this connection
  #like;

  constructor(pattern, mode) {
    this.mode = mode;
    this.#like = new RegExp(`^${pattern.replaceAll(".", "\\.").replaceAll("*", "[^.]+").replace(/>$/, ".+")}$`);
  }

  matches(topic) { return this.#like.test(topic); }
}

export class Try {
  #socket;
  #patterns = new Map(); // what is subscribed to: a Place of each
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

  // resubscribe is called when there is a new connection: each goes on where it was.
  resubscribe() {
    for (const place of this.#patterns.values()) place.stands = false;
    for (const [pattern, place] of this.#patterns) this.#resume(pattern, place);
  }

  async #resume(pattern, place) {
    if (place.stands || this.#patterns.get(pattern) !== place) return;
    try {
      await this.#ask(pattern, place);
    } catch (error) {
      say("subscribe-result", `${pattern}: ${error.message}`, true);
      if (passing.has(error.code)) setTimeout(() => this.#resume(pattern, place), 1000);
    }
  }

  // wants tells whether a message, or what is told of a pattern, is for here.
  wants(topic) { return [...this.#patterns].some(([pattern, place]) => pattern === topic || place.matches(topic)); }

  // receive takes messages, and what tells of missing ones.
  receive(message) {
    if (message.type === "message") {
      this.#add(message.time, message.topic, text(message));
      for (const place of this.#patterns.values()) if (message.cursor && place.stands && place.matches(message.topic)) place.cursor = message.cursor;
    }
    else if (message.type === "gap") this.#add(Date.now(), message.topic, `gap: messages are missing (${message.reason})`, "gap");
    else if (message.type === "skipped") this.#add(Date.now(), message.topic, `${message.count} older values skipped`, "gap");
  }

  async #ask(pattern, place) {
    const { mode, cursor } = place;
    const answer = await this.#socket.ask({ type: "subscribe", topic: pattern, ...(mode && { mode }), ...(cursor && { cursor }) });
    const missed = answer.recovered === false || (place.taken && !cursor); // without a cursor nobody can say what came meanwhile
    if (missed) this.#add(Date.now(), pattern, `gap: messages are missing (${answer.reason ?? "disconnected"})`, "gap");
    if (missed || !cursor) place.cursor = answer.cursor;
    place.taken = place.stands = true;
  }

  async #subscribe(pattern, mode) {
    const before = this.#patterns.get(pattern);
    this.#patterns.set(pattern, new Place(pattern, mode)); // its messages may come with the answer
    try {
      await this.#ask(pattern, this.#patterns.get(pattern));
    } catch (error) {
      if (before) this.#patterns.set(pattern, before);
      else this.#patterns.delete(pattern);
      say("subscribe-result", error.message, true);
      return;
    }
    say("subscribe-result", `Subscribed to ${pattern}.`);
    this.#drawPatterns();
    byId("subscribe").reset();
  }

  #drawPatterns() {
    byId("subscribed").replaceChildren(...[...this.#patterns].map(([pattern, place]) => el("li", {}, place.mode ? `${pattern} (${place.mode})` : pattern,
      el("button", { type: "button", textContent: "×", ariaLabel: `Unsubscribe from ${pattern}`, onclick: () => this.#unsubscribe(pattern) }))));
  }

  #unsubscribe(pattern) {
    this.#patterns.delete(pattern);
    this.#drawPatterns();
    if (pattern === nodesTopic) return; // the console's own goes on
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
