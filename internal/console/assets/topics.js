// Topics and patterns with their subscribers, of the node that serves this page.

import { byId, el, keyed, row, setText } from "./dom.js";
import * as format from "./format.js";
import { request } from "./session.js";

const most = 1000; // feeds, patterns of each, and lines of the table

export class Topics {
  #feeds = [];
  #filter = byId("topics-form").elements.filter;

  constructor() {
    this.#filter.oninput = () => this.#draw();
    byId("topics-form").onsubmit = (event) => event.preventDefault();
  }

  async refresh() {
    try {
      this.#feeds = await request(`/debug/topics?limit=${most}`);
      this.#draw();
    } catch (error) {
      setText(byId("topics-summary"), `Not known: ${error.message}`);
    }
  }

  #draw() {
    const text = this.#filter.value.trim();
    const all = this.#feeds.flatMap((feed) => feed.subscribed.map((s) => ({ ...s, feed }))).filter((s) => s.pattern.includes(text));
    all.sort((a, b) => b.connections - a.connections || a.pattern.localeCompare(b.pattern));
    const patterns = this.#feeds.reduce((n, feed) => n + feed.patterns, 0);
    const shown = Math.min(all.length, most);
    setText(byId("topics-summary"), `${format.count(shown)} of ${format.count(patterns)} topics and patterns, in ${format.count(this.#feeds.length)} feeds from NATS`);
    keyed(byId("topics").querySelector("tbody"), all.slice(0, most), (s) => `${s.feed.interest} ${s.feed.name} ${s.pattern}`, makeLine, (line, s) => {
      setText(line.cells[0].firstChild, s.pattern);
      setText(line.cells[1], format.count(s.connections));
      setText(line.cells[2], `${s.feed.interest} ${s.feed.name}${s.feed.ready ? "" : ", waits for NATS"}`);
      setText(line.cells[3], format.count(s.feed.ring_messages));
    });
  }
}

function makeLine(s) {
  const line = row("name", "number", "", "number");
  line.cells[0].append(el("a", { href: `#/connections?by=pattern&value=${encodeURIComponent(s.pattern)}`, title: "Who is subscribed" }));
  return line;
}
