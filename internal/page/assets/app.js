// The live page: cards for the machines that the demo feed measures, a table
// for every other topic, and forms to watch and to publish.
//
// Whatever arrives is only noted, and drawn once for each frame of the
// display, however fast messages come. Messages and topics are anybody's: they
// reach the page by textContent alone, and what is kept of them is bounded.

import { Card, metrics } from "./cards.js";
import { Pushd } from "./pushd.js";

const demoTopics = "host.>";
const maxRows = 300; // topics in the table; others are counted only
const maxHosts = 20; // machines with cards; topics of others go to the table
const maxNotices = 6;

const byId = (id) => document.getElementById(id);
const element = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });

// --- Topics ------------------------------------------------------------------

// Rate counts events, and says how many came a second in the last ten.
class Rate {
  #ticks = []; // [events, ms] between two ticks, newest last
  #count = 0;
  #since = performance.now();
  count() { this.#count++; }
  tick() {
    const now = performance.now(); // a page in the background is called seldom
    this.#ticks.push([this.#count, now - this.#since]);
    [this.#count, this.#since] = [0, now];
    if (this.#ticks.length > 10) this.#ticks.shift();
  }
  perSecond() {
    const [events, ms] = this.#ticks.reduce(([e, m], [events, ms]) => [e + events, m + ms], [0, 0]);
    return ms > 0 ? (1000 * events) / ms : 0;
  }
}

const topics = new Map(); // by name: {card or row, rate, value, time}
const leftOut = new Set(); // names beyond maxRows
const changed = new Set(); // topics to draw in the next frame
const grids = new Map(); // the cards of a host, by its name
const total = { rate: new Rate(), count: 0, gaps: 0 };

const isObject = (data) => data !== null && typeof data === "object";

function newTopic(name, data) {
  const topic = { rate: new Rate() };
  const [namespace, host, metric, ...more] = name.split(".");
  const isMetric = namespace === "host" && metrics.includes(metric) && more.length === 0 && isObject(data);
  if (isMetric && (grids.has(host) || grids.size < maxHosts)) {
    topic.card = new Card(metric, grids.get(host) ?? newHost(host));
  } else {
    const rows = byId("topics").querySelector("tbody");
    if (rows.children.length >= maxRows) {
      if (leftOut.size < 10_000) leftOut.add(name);
      return null;
    }
    topic.row = element("tr");
    topic.row.append(element("td", "", name), element("td"), element("td", "number"), element("td", "number"));
    rows.insertBefore(topic.row, [...rows.children].find((row) => row.firstChild.textContent > name) ?? null);
  }
  topics.set(name, topic);
  return topic;
}

function newHost(host) {
  const section = element("section");
  const grid = element("div", "cards");
  section.append(element("h2", "", host), grid);
  byId("hosts").append(section);
  grids.set(host, grid);
  return grid;
}

function receiveMessage({ topic: name, data, time }) {
  total.count++;
  total.rate.count();
  const topic = topics.get(name) ?? newTopic(name, data);
  if (topic) {
    topic.rate.count();
    topic.time = time;
    topic.value = data instanceof Uint8Array ? `(binary, ${data.length} bytes)` : data;
    if (topic.card && isObject(data)) topic.card.note(data);
    changed.add(topic);
  }
  drawSoon();
}

let frame = 0;
function drawSoon() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    for (const { card, row, value, time } of changed) {
      if (card) {
        if (isObject(value)) card.draw(value);
        continue;
      }
      const text = typeof value === "string" ? value : JSON.stringify(value) ?? "";
      row.cells[1].textContent = text.slice(0, 500);
      row.cells[1].title = text.slice(0, 2000);
      row.cells[3].textContent = new Date(time).toLocaleTimeString();
    }
    changed.clear();
    drawTotals();
  });
}

function drawTotals() {
  byId("rate").textContent = total.rate.perSecond().toFixed(1);
  byId("count").textContent = total.count.toLocaleString();
  byId("topic-count").textContent = topics.size + leftOut.size;
  byId("gap-count").textContent = total.gaps;
  byId("topics").hidden = ![...topics.values()].some((t) => t.row);
  byId("topics-left-out").hidden = leftOut.size === 0;
  byId("topics-left-out").textContent = `Topics beyond the first ${maxRows} are counted and not shown: ${leftOut.size} so far.`;
  if (total.count > 0) byId("hint").hidden = true;
}

function notice(text) {
  byId("notices").hidden = false;
  const list = byId("notices").querySelector("ul");
  const item = element("li");
  item.append(element("time", "", new Date().toLocaleTimeString()), text);
  list.append(item);
  if (list.children.length > maxNotices) list.firstChild.remove();
}

// --- The page ----------------------------------------------------------------

const watched = new Map(); // by topic or pattern: its item in the list, and its subscription
let push; // the client
let retryAt = 0; // while it waits: when it connects again

function connect() {
  push = new Pushd();
  push.on("state", drawState);
  push.on("gap", ({ topic, reason }) => {
    total.gaps++;
    notice(`Gap in ${topic}: some messages are missing (${reason}).`);
    drawSoon();
  });
  push.on("error", ({ message, code }) => push.state !== "closed" && notice(`${message} (${code})`));
  for (const pattern of watched.keys()) subscribe(pattern);
}

function drawState(state, { retryIn = 0, code, reason } = {}) {
  const shown = { open: "live", closed: "stopped" }[state] ?? state;
  retryAt = Date.now() + retryIn;
  byId("state").dataset.state = shown;
  byId("state-text").textContent = { waiting: "reconnecting", closed: `stopped: ${reason || "closed by the server"} (${code})` }[state] ?? shown;
  byId("retry").hidden = state !== "waiting" && state !== "closed";
  drawCountdown();
}

function subscribe(pattern, onSubscribed) {
  watched.get(pattern).subscription = push.subscribe(pattern, receive, { onSubscribed, onError });
}

// Where patterns overlap, a message comes once for each.
function receive(message, { subscription }) {
  if ([...watched.keys()].find((pattern) => matches(pattern, message.topic)) === subscription.topic) receiveMessage(message);
}

function onError({ message, code }, { topic }) {
  if (push.state === "closed") return; // which is shown, and may be tried again
  notice(`${topic} is no longer watched: ${message} (${code})`);
  unwatch(topic);
}

function watch(pattern, onSubscribed) {
  if (watched.has(pattern)) return;
  const item = element("li", "", pattern);
  const remove = element("button", "", "×");
  remove.type = "button";
  remove.ariaLabel = `Stop watching ${pattern}`;
  remove.onclick = () => {
    unwatch(pattern);
    noteInAddress();
  };
  item.append(remove);
  byId("watched").append(item);
  watched.set(pattern, { item });
  byId("hint-topics").textContent = [...watched.keys()].join(", ");
  if (push && push.state !== "closed") subscribe(pattern, onSubscribed);
}

function unwatch(pattern) {
  const { item, subscription } = watched.get(pattern);
  watched.delete(pattern);
  item.remove();
  subscription?.unsubscribe();
}

// noteInAddress lets a reload, or a bookmark, watch the same.
function noteInAddress() {
  const address = new URL(location.href);
  address.searchParams.delete("topic");
  for (const pattern of watched.keys()) if (pattern !== demoTopics) address.searchParams.append("topic", pattern);
  history.replaceState(null, "", address);
}

const matches = (pattern, topic) => {
  const form = pattern.replace(/[^\w*>-]/g, "\\$&").replaceAll("*", "[^.]+").replace(/>$/, ".+");
  return new RegExp(`^${form}$`).test(topic);
};

byId("watch").onsubmit = (event) => {
  event.preventDefault();
  watch(event.target.elements.topic.value.trim());
  noteInAddress();
  event.target.reset();
};

byId("publish").onsubmit = async (event) => {
  event.preventDefault();
  const { topic, message } = event.target.elements;
  const name = topic.value.trim();
  const result = byId("published");
  delete result.dataset.failed;
  // Who publishes wants to see it arrive.
  if (![...watched.keys()].some((pattern) => matches(pattern, name))) {
    await new Promise((resolve) => {
      watch(name, resolve);
      setTimeout(resolve, 1000);
    });
    noteInAddress();
  }
  try {
    const response = await fetch(`/publish/${encodeURIComponent(name)}`, { method: "POST", body: message.value });
    const reply = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(reply.message ?? `the server answered ${response.status}`);
    result.textContent = `Published to ${name} at ${new Date().toLocaleTimeString()}.`;
  } catch (error) {
    result.dataset.failed = "";
    result.textContent = `Not published: ${error.message}`;
  }
};

byId("retry").onclick = () => (push.state === "closed" ? connect() : push.resume());

function drawCountdown() {
  const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  byId("countdown").textContent = byId("state").dataset.state === "waiting" ? `in ${seconds} s` : "";
}

setInterval(() => {
  total.rate.tick();
  for (const { row, rate } of topics.values()) {
    rate.tick();
    if (row) row.cells[2].textContent = rate.perSecond().toFixed(1);
  }
  drawCountdown();
  drawTotals();
}, 1000);

byId("hint-command").textContent = `curl -d '{"text":"hello"}' ${location.origin}/publish/host.demo.greeting`;
setTimeout(() => { byId("hint").hidden = total.count > 0; }, 3000);
for (const pattern of [demoTopics, ...new URLSearchParams(location.search).getAll("topic")]) watch(pattern);
connect();
