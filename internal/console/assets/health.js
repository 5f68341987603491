// What is wrong, in the order in which it matters. Bounds are those at which
// clients begin to notice.

import * as format from "./format.js";
import { lost, silentAfter } from "./model.js";

const bounds = {
  lag: { warn: 100, bad: 1000 }, // ms that a loop's tick is late
  full: { warn: 0.85, bad: 1 }, // part of --max-connections
  pending: { warn: 1000, bad: 30_000 }, // messages between NATS and the hub, of 65,536
  cpu: { warn: 0.9 }, // of the CPUs that Go may use
};

export const levels = ["good", "warn", "bad"]; // from good to bad

// level is how bad a value is.
export function level(name, value) {
  const { warn, bad } = bounds[name];
  return value >= (bad ?? Infinity) ? "bad" : value >= warn ? "warn" : "good";
}

// problems lists {level, text, view} of all nodes, the worst first.
export function problems(model, now) {
  const list = [];
  const add = (level, text, view = "nodes") => level !== "good" && list.push({ level, text, view });
  for (const [name, node] of model.nodes) {
    const m = node.last;
    const silent = now - node.heardAt;
    if (silent > silentAfter) {
      add(m.state === "stopping" || m.state === "drained" ? "warn" : "bad", `${name} has said nothing for ${format.span(silent / 1000)}`);
      continue;
    }
    if (!m.nats.connected) add("bad", `${name}: NATS is away`);
    if (m.state === "stopping") add("warn", `${name} is shutting down`);
    else if (m.state !== "serving") add("warn", `${name} is being drained: ${m.state}, ${format.count(m.connections.open)} connections left`);
    const { open, max } = m.connections;
    if (max > 0) add(level("full", open / max), `${name}: ${format.count(open)} of ${format.count(max)} connections are taken`, "overview");
    const late = m.latency.loop_lag_ms.p99;
    add(level("lag", late), `${name}: loops are ${format.ms(late)} late`, "overview");
    add(level("pending", m.nats.pending), `${name}: ${format.count(m.nats.pending)} messages of NATS wait`, "overview");
    const busy = node.perSecond((x) => x.process.cpu_seconds) / m.process.cpus;
    add(level("cpu", busy), `${name} uses ${format.percent(busy)} of its CPUs`);
    const missed = node.lastMinute(lost);
    if (missed > 0) add("warn", `${name}: ${format.count(missed)} losses in the last minute`, "overview");
    const { behind } = m.subscriptions;
    if (behind > 0) add("warn", `${name}: ${format.count(behind)} ${behind === 1 ? "subscriber is" : "subscribers are"} behind`, "connections?behind=true");
    if (m.nats.denied > 0 && node.lastMinute((x) => x.nats.denied) > 0) add("warn", `${name}: the NATS account refuses subjects`, "overview");
  }
  return list.sort((a, b) => levels.indexOf(b.level) - levels.indexOf(a.level));
}
