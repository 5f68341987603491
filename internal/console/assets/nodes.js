// The table of nodes, and their drain.

import { byId, el, keyed, row, setText } from "./dom.js";
import * as format from "./format.js";
import { level } from "./health.js";
import { silentAfter } from "./model.js";
import { request } from "./session.js";

const classes = ["name", "", "", ...Array(9).fill("number"), "", ""];

export class Nodes {
  #model;
  constructor(model) { this.#model = model; }

  draw(now) {
    const list = [...this.#model.nodes].sort(([a], [b]) => a.localeCompare(b));
    keyed(byId("nodes").querySelector("tbody"), list, ([name]) => name, ([name]) => this.#makeLine(name), (line, [name, node]) => {
      const m = node.last;
      const silent = now - node.heardAt > silentAfter;
      const cells = [
        name, silent ? "silent" : m.state, m.nats.connected ? "connected" : "away",
        format.count(m.connections.open), format.rate(node.perSecond((x) => x.traffic.deliveries)),
        format.ms(m.latency.fan_out_ms.p99), format.ms(m.latency.loop_lag_ms.p99), format.count(m.subscriptions.behind),
        format.percent(node.perSecond((x) => x.process.cpu_seconds)), format.bytes(m.process.resident_bytes),
        format.span((m.time - m.started) / 1000), silent ? `${format.span((now - node.heardAt) / 1000)} ago` : "now", m.software,
      ];
      cells.forEach((text, i) => setText(line.cells[i], text));
      line.cells[1].dataset.level = silent ? "bad" : m.state === "serving" ? "good" : "warn";
      line.cells[2].dataset.level = m.nats.connected ? "good" : "bad";
      line.cells[6].dataset.level = level("lag", m.latency.loop_lag_ms.p99);
      line.cells[7].dataset.level = m.subscriptions.behind > 0 ? "warn" : "good";
      const button = line.cells[13].firstChild;
      const waiting = m.state === "waiting";
      setText(button, waiting ? "Take back" : "Drain…");
      button.ariaLabel = waiting ? `Take the drain of ${name} back` : `Drain ${name}…`;
      button.disabled = silent || !["serving", "waiting"].includes(m.state);
    });
  }

  #makeLine(name) {
    const line = row(...classes);
    line.cells[13].append(el("button", { type: "button", className: "danger", onclick: () => this.#act(name) }));
    return line;
  }

  // act drains a node, or takes that back while its grace lasts.
  async #act(name) {
    const node = this.#model.nodes.get(name)?.last;
    if (!node) return; // it has gone this moment
    const back = node.state === "waiting";
    const query = back ? "" : await askDrain(name, node.connections.open);
    if (query === null) return;
    const result = byId("nodes-result");
    try {
      const did = await request(`/nodes/${encodeURIComponent(name)}/drain${query}`, back ? "DELETE" : "POST");
      setText(result, back ? `${name} serves on.` : `${name} is being drained: ${did.state}, ${format.count(did.connections)} connections left.`);
    } catch (error) {
      setText(result, `${back ? "Not taken back" : "Not drained"}: ${error.message}`);
    }
  }
}

// askDrain asks whether that is meant, and how fast: the query of the request,
// null where it is not. See confirm of connections.js about the event.
function askDrain(name, open) {
  const dialog = byId("drain");
  const form = dialog.querySelector("form");
  form.reset();
  setText(byId("drain-title"), `Drain ${name}?`);
  setText(byId("drain-count"), format.count(open));
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      const query = new URLSearchParams();
      for (const field of ["grace", "window"]) if (form.elements[field].value !== "") query.set(field, form.elements[field].value);
      resolve(event.submitter.value !== "yes" ? null : query.size > 0 ? `?${query}` : "");
    };
    dialog.oncancel = () => resolve(null);
    dialog.showModal();
  });
}
