// The table of nodes.

import { byId, keyed, row, setText } from "./dom.js";
import * as format from "./format.js";
import { level } from "./health.js";
import { silentAfter } from "./model.js";

const classes = ["name", "", "", ...Array(9).fill("number"), ""];

export class Nodes {
  #model;
  constructor(model) { this.#model = model; }

  draw(now) {
    const list = [...this.#model.nodes].sort(([a], [b]) => a.localeCompare(b));
    keyed(byId("nodes").querySelector("tbody"), list, ([name]) => name, () => row(...classes), (line, [name, node]) => {
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
    });
  }
}
