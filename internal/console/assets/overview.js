// The first view: what is wrong, and the numbers behind it.

import { Chart } from "./charts.js";
import { byId, el, keyed, row, setText } from "./dom.js";
import * as format from "./format.js";
import { level, problems } from "./health.js";

// What each tile says: of a summary, its value, what is beside it, and how bad it is.
const tiles = [
  ["Connections", (s) => format.count(s.connections), (s) => `of ${format.count(s.most)}, ${transports(s)}`, (s) => level("full", s.connections / s.most)],
  ["Deliveries", (s) => `${format.rate(s.deliveries)} /s`, (s) => `${format.rate(s.messages)} messages/s in, ${format.bytes(s.bytesOut)}/s out`],
  ["Fan-out p99", (s) => format.ms(s.fanOut), (s) => `half within ${format.ms(s.fanOutMedian)}, worst node`],
  ["Loop lag p99", (s) => format.ms(s.lag), (s) => `half within ${format.ms(s.lagMedian)}, worst node`, (s) => level("lag", s.lag)],
  ["Behind", (s) => format.count(s.behind), (s) => `${format.count(s.fellBehind)} fell behind in the last minute`, (s) => (s.behind > 0 ? "warn" : "good")],
  ["Lost", (s) => format.count(s.lostMinute), () => "gaps told and drops, last minute", (s) => (s.lostMinute > 0 ? "warn" : "good")],
  ["Refused", (s) => format.count(s.refusedMinute), () => "handshakes, commands, HTTP, last minute"],
  ["NATS", natsState, (s) => `answers in ${format.ms(s.nats)}, ${format.count(s.pending)} wait, ${format.count(s.unstored)} unstored`, (s) => (s.natsAway > 0 ? "bad" : level("pending", s.pending))],
  ["Rings", (s) => format.bytes(s.ring), (s) => `of ${format.bytes(s.ringMost)}, ${format.count(s.ringMessages)} messages; history ${format.bytes(s.history)}`],
  ["Process", (s) => format.bytes(s.resident), (s) => `CPU ${format.percent(s.cpu)} of ${format.count(100 * s.cpus)} %`, (s) => level("cpu", s.cpu / s.cpus)],
  ["State", state, (s) => `${s.serving} of ${s.nodes} ${s.nodes === 1 ? "node" : "nodes"} serving`, (s) => (s.serving < s.nodes ? "warn" : "good")],
  ["Subscriptions", (s) => format.count(s.subscriptions), (s) => `${format.count(s.patterns)} topics and patterns, ${format.count(s.identities)} identities`],
];

const transports = (s) => Object.entries(s.transports).map(([name, n]) => `${name} ${format.count(n)}`).concat(`HTTP ${format.count(s.http)}`).join(", ");

function state(s) { return s.states.length === 1 ? s.states[0] : "mixed"; }

function natsState(s) {
  if (s.natsAway > 0) return s.nodes > 1 ? `away from ${s.natsAway} of ${s.nodes}` : "away";
  return s.reconnects > 0 ? "back again" : "connected";
}

const marks = { good: "✓", warn: "!", bad: "✕", wait: "…" };

export class Overview {
  #model;
  #charts;

  constructor(model) {
    this.#model = model;
    const parent = byId("charts");
    this.#charts = [
      new Chart(parent, "Connections", [{ name: "connections", label: "open", color: "--one" }], format.count),
      new Chart(parent, "Messages per second", [{ name: "deliveries", label: "deliveries", color: "--one" }, { name: "messages", label: "from NATS", color: "--two" }], format.rate),
      new Chart(parent, "Latency, 99 of 100 within", [{ name: "fanOut", label: "fan-out", color: "--one" }, { name: "lag", label: "loop lag", color: "--two" }], format.ms),
      new Chart(parent, "Trouble per second", [{ name: "lost", label: "lost", color: "--bad" }, { name: "refused", label: "refused", color: "--two" }], format.rate),
    ];
    byId("scope").onchange = () => this.draw(Date.now());
  }

  draw(now) {
    const scope = this.#drawScope();
    const summary = this.#model.summary(scope, now);
    if (summary) {
      keyed(byId("tiles"), tiles, ([name]) => name, makeTile, (tile, [, value, beside, how]) => {
        setText(tile.children[1], value(summary));
        setText(tile.children[2], beside(summary));
        tile.dataset.level = how?.(summary) ?? "good";
      });
    }
    for (const chart of this.#charts) chart.draw(this.#model.series(scope));
    this.#drawReasons(this.#model.reasons(scope, now));
  }

  // drawHealth is drawn in every view: the header has it too.
  drawHealth(now, connection) {
    const list = problems(this.#model, now);
    if (connection) list.unshift({ level: "bad", text: connection, view: "overview" });
    const nodes = this.#model.alive("", now).length;
    const worst = list[0]?.level ?? (nodes > 0 ? "good" : "wait");
    byId("health").dataset.level = worst;
    const verdict = { good: `All is well with ${nodes} ${nodes === 1 ? "node" : "nodes"}`, wait: "Waiting for the first statistics" }[worst] ??
      `${list.length} ${list.length === 1 ? "thing needs" : "things need"} a look`;
    setText(byId("verdict"), `${marks[worst]} ${verdict}`);
    keyed(byId("problems"), list, (p) => p.text.replace(/[\d.,]+/g, "#"), () => el("li", {}, el("a")), (item, p) => {
      item.dataset.level = p.level;
      item.firstChild.href = `#/${p.view}`;
      setText(item.firstChild, `${marks[p.level]} ${p.text}`);
    });
    document.title = list.length > 0 ? `(${list.length}) pushd console` : "pushd console";
  }

  #drawScope() {
    const select = byId("scope");
    const names = ["", ...[...this.#model.nodes.keys()].sort()];
    if (!names.includes(select.value)) select.value = "";
    keyed(select, names, (name) => name || "*", (name) => el("option", { value: name }), (option, name) => setText(option, name || "all nodes"));
    return select.value;
  }

  #drawReasons(list) {
    byId("no-reasons").hidden = list.length > 0;
    byId("reasons").hidden = list.length === 0;
    keyed(byId("reasons").querySelector("tbody"), list, (r) => `${r.what} ${r.reason}`, () => row("", "", "number", "number"), (line, r) => {
      [r.what, format.words(r.reason), format.count(r.minute), format.count(r.total)].forEach((text, i) => setText(line.cells[i], text));
      line.dataset.level = r.minute > 0 && r.what !== "closed" ? "warn" : "good";
    });
  }
}

const makeTile = ([name]) => el("div", {}, el("dt", {}, name), el("dd", { className: "value" }), el("dd", { className: "quiet" }));
