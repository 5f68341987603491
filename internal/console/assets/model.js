// What nodes have said of themselves: statistics messages, version 1 (see
// docs/CONSOLE.md), and what follows from them.

export const nodesTopic = "_pushd.nodes.*"; // where they say it
const kept = 61; // messages of each node: a minute of differences
const points = 300; // seconds of the charts
export const silentAfter = 3_500; // ms without a message: three are missing
const goneAfter = 60_000; // ms: then it is forgotten
const stoppedAfter = 5_000; // ms, of one that said that it stops

const sum = (counts) => Object.values(counts ?? {}).reduce((all, n) => all + n, 0);

// lost and refused are all that a message counts of it.
export const lost = (m) => sum(m.lost.gaps) + sum(m.lost.nats) + m.lost.upstream;
export const refused = (m) => sum(m.refused.handshakes) + sum(m.refused.commands) + sum(m.refused.http) + sum(m.refused.credentials);

class Node {
  messages = []; // oldest first, all of one life of the node
  heardAt = 0;

  get last() { return this.messages.at(-1); }

  note(message, now) {
    const last = this.last;
    if (last && message.started === last.started && message.time <= last.time) return; // it came twice
    if (last && message.started !== last.started) this.messages = []; // it began anew
    this.messages.push(message);
    if (this.messages.length > kept) this.messages.shift();
    this.heardAt = now;
  }

  // perSecond is the rate of something that only grows, over the last message.
  perSecond(of) {
    const before = this.messages.at(-2);
    if (!before) return 0;
    return Math.max(0, (1000 * (of(this.last) - of(before))) / (this.last.time - before.time));
  }

  // lastMinute is by how much something grew in the last minute, as far as that is known.
  lastMinute(of) { return Math.max(0, of(this.last) - of(this.messages[0])); }
}

export class Model {
  nodes = new Map(); // by name
  #series = new Map(); // by scope: arrays of numbers, of the same length

  note(message, now) {
    if (message?.v !== 1 || typeof message.node !== "string" || !message.traffic) return;
    if (message.state === "gone") { // it says goodbye
      this.nodes.delete(message.node);
      this.#series.delete(message.node);
      return;
    }
    let node = this.nodes.get(message.node);
    if (!node) this.nodes.set(message.node, (node = new Node()));
    node.note(message, now);
  }

  // alive lists the nodes of a scope that are heard: "" is all of them.
  alive(scope, now) {
    return [...this.nodes.entries()].filter(([name, node]) => (scope === "" || name === scope) && now - node.heardAt <= silentAfter).map(([, node]) => node);
  }

  // tick forgets who has gone, and adds a point to every series.
  tick(now) {
    for (const [name, node] of this.nodes) {
      const most = node.last.state === "stopping" || node.last.state === "drained" ? stoppedAfter : goneAfter;
      if (now - node.heardAt > most) {
        this.nodes.delete(name);
        this.#series.delete(name);
      }
    }
    for (const scope of ["", ...this.nodes.keys()]) this.#point(scope, now);
  }

  #point(scope, now) {
    const all = this.summary(scope, now);
    const series = this.series(scope);
    const values = { time: now / 1000, ...(all ?? {}) };
    for (const [name, list] of Object.entries(series)) {
      list.push(values[name] ?? null);
      if (list.length > points) list.shift();
    }
  }

  // series are those of the charts.
  series(scope) {
    let series = this.#series.get(scope);
    if (!series) {
      series = Object.fromEntries(["time", "connections", "deliveries", "messages", "fanOut", "lag", "lost", "refused"].map((name) => [name, []]));
      this.#series.set(scope, series);
    }
    return series;
  }

  // summary is how a scope stands: sums, and of latencies the worst. null:
  // nobody is heard.
  summary(scope, now) {
    const nodes = this.alive(scope, now);
    if (nodes.length === 0) return null;
    const add = (of) => nodes.reduce((all, node) => all + of(node), 0);
    const worst = (of) => Math.max(...nodes.map(of));
    const transports = {};
    for (const { last } of nodes) for (const [name, n] of Object.entries(last.connections.transports)) transports[name] = (transports[name] ?? 0) + n;
    return {
      nodes: nodes.length, transports,
      serving: nodes.filter((n) => n.last.state === "serving").length, states: [...new Set(nodes.map((n) => n.last.state))],
      connections: add((n) => n.last.connections.open), most: add((n) => n.last.connections.max),
      identities: add((n) => n.last.connections.identities), http: add((n) => n.last.connections.http),
      subscriptions: add((n) => n.last.subscriptions.open), patterns: add((n) => n.last.subscriptions.patterns),
      behind: add((n) => n.last.subscriptions.behind), fellBehind: add((n) => n.lastMinute((m) => m.traffic.fell_behind)),
      deliveries: add((n) => n.perSecond((m) => m.traffic.deliveries)), messages: add((n) => n.perSecond((m) => m.traffic.messages)),
      bytesOut: add((n) => n.perSecond((m) => m.traffic.bytes_out)), bytesIn: add((n) => n.perSecond((m) => m.traffic.bytes_in)),
      fanOut: worst((n) => n.last.latency.fan_out_ms.p99), fanOutMedian: worst((n) => n.last.latency.fan_out_ms.p50),
      lag: worst((n) => n.last.latency.loop_lag_ms.p99), lagMedian: worst((n) => n.last.latency.loop_lag_ms.p50),
      nats: worst((n) => n.last.latency.nats_ms), natsAway: nodes.filter((n) => !n.last.nats.connected).length,
      pending: add((n) => n.last.nats.pending), unstored: add((n) => n.last.nats.unstored), reconnects: add((n) => n.lastMinute((m) => m.nats.reconnects)),
      ring: add((n) => n.last.memory.ring_bytes), ringMost: add((n) => n.last.memory.ring_max_bytes),
      ringMessages: add((n) => n.last.memory.ring_messages), history: add((n) => n.last.memory.history_bytes),
      resident: add((n) => n.last.process.resident_bytes), cpu: add((n) => n.perSecond((m) => m.process.cpu_seconds)), cpus: add((n) => n.last.process.cpus),
      lost: add((n) => n.perSecond(lost)), lostMinute: add((n) => n.lastMinute(lost)),
      refused: add((n) => n.perSecond(refused)), refusedMinute: add((n) => n.lastMinute(refused)),
    };
  }

  // reasons lists what was lost, refused and closed in a scope, the most of the
  // last minute first.
  reasons(scope, now) {
    const all = new Map();
    const kinds = [
      ["gap told", (m) => m.lost.gaps], ["dropped from NATS", (m) => m.lost.nats], ["lost before pushd", (m) => ({ upstream: m.lost.upstream })],
      ["handshake refused", (m) => m.refused.handshakes], ["command refused", (m) => m.refused.commands], ["HTTP refused", (m) => m.refused.http],
      ["credentials refused", (m) => m.refused.credentials], ["closed", (m) => m.closed],
    ];
    for (const node of this.alive(scope, now)) {
      for (const [what, of] of kinds) {
        for (const reason of Object.keys(of(node.last))) {
          const entry = all.get(`${what} ${reason}`) ?? { what, reason, minute: 0, total: 0 };
          entry.total += of(node.last)[reason];
          entry.minute += node.lastMinute((m) => of(m)[reason] ?? 0);
          if (entry.total > 0) all.set(`${what} ${reason}`, entry);
        }
      }
    }
    return [...all.values()].sort((a, b) => b.minute - a.minute || b.total - a.total || a.reason.localeCompare(b.reason));
  }
}
