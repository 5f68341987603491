// The cards of one machine: what the demo feed (host.<name>.<metric>) measures.

const points = 60; // of a sparkline: a minute of the feed

// Messages are anybody's: what is no number is a dash.
const known = (n, format) => (Number.isFinite(n) ? format(n) : "–");
const scaled = (n, base, units) => {
  let i = 0;
  for (; Math.abs(n) >= base && i < units.length - 1; i++) n /= base;
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
};
const percent = (n) => known(n, (n) => `${n.toFixed(1)} %`);
const bytes = (n) => known(n, (n) => scaled(n, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]));
const byteRate = (n) => known(n, (n) => scaled(n, 1000, ["B/s", "kB/s", "MB/s", "GB/s"]));
const fixed = (digits) => (n) => known(n, (n) => n.toFixed(digits));
const uptime = (n) => known(n, (n) => {
  const [days, hours, minutes] = [Math.floor(n / 86400), Math.floor(n / 3600) % 24, Math.floor(n / 60) % 60];
  return days > 0 ? `${days} d ${hours} h` : hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min`;
});

// What a card shows of a message's data v. headline: numbers and what they are,
// one for each series, where there are several in its color; series: what the
// sparkline draws; max: its height, else its peak's; bars: label, share in
// percent, and text; details: label and text; wide: these have a line each.
const share = (part, whole) => (whole > 0 ? (100 * part) / whole : 0);
const entries = (v) => (v && typeof v === "object" ? Object.entries(v).sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true })) : []);
const cards = {
  cpu: {
    title: "CPU",
    max: 100,
    scale: percent,
    series: (v) => [v.busy_percent],
    headline: (v) => [[percent(v.busy_percent), "busy"]],
    bars: (v) => entries(v.core_busy_percent).map(([n, busy]) => [`core ${n}`, busy, known(busy, (n) => `${Math.round(n)} %`)]),
    details: (v) => [["waiting for disk", percent(v.iowait_percent)]],
  },
  memory: {
    title: "Memory",
    max: 100,
    scale: percent,
    series: (v) => [share(v.used_bytes, v.total_bytes)],
    headline: (v) => [[bytes(v.used_bytes), `of ${bytes(v.total_bytes)}`]],
    bars: (v) => [
      ["used", share(v.used_bytes, v.total_bytes)],
      ...(v.swap_total_bytes > 0 ? [["swap", share(v.swap_used_bytes, v.swap_total_bytes)]] : []),
    ].map(([label, n]) => [label, n, known(n, (n) => `${Math.round(n)} %`)]),
    details: (v) => [["available", bytes(v.available_bytes)]],
  },
  load: {
    title: "Load",
    scale: fixed(2),
    series: (v) => [v.load_1m],
    headline: (v) => [[fixed(2)(v.load_1m), "in a minute"]],
    details: (v) => [
      ["5 min", fixed(2)(v.load_5m)],
      ["15 min", fixed(2)(v.load_15m)],
      ["running", fixed(0)(v.running_processes)],
      ["processes", fixed(0)(v.total_processes)],
      ["up", uptime(v.uptime_seconds)],
    ],
  },
  network: {
    title: "Network",
    scale: byteRate,
    series: (v) => [v.received_bytes_per_second, v.sent_bytes_per_second],
    headline: (v) => [[byteRate(v.received_bytes_per_second), "in"], [byteRate(v.sent_bytes_per_second), "out"]],
    details: (v) => [
      ["packets", `${fixed(0)(v.received_packets_per_second)} in, ${fixed(0)(v.sent_packets_per_second)} out /s`],
      ...entries(v.interfaces).map(([name, i]) => [name, `${byteRate(i?.received_bytes_per_second)} in, ${byteRate(i?.sent_bytes_per_second)} out`]),
    ],
    wide: true,
  },
  disk: {
    title: "Disk",
    scale: byteRate,
    series: (v) => [v.read_bytes_per_second, v.written_bytes_per_second],
    headline: (v) => [[byteRate(v.read_bytes_per_second), "read"], [byteRate(v.written_bytes_per_second), "written"]],
    bars: (v) => (v.root ? [["/", share(v.root.used_bytes, v.root.total_bytes), `${bytes(v.root.used_bytes)} of ${bytes(v.root.total_bytes)}`]] : []),
    details: (v) => entries(v.devices).map(([name, d]) => [name, `${fixed(0)(d?.reads_per_second)} reads, ${fixed(0)(d?.writes_per_second)} writes /s`]),
    wide: true,
  },
};

const element = (tag, className = "") => Object.assign(document.createElement(tag), { className });
const svg = (tag, className) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  node.setAttribute("class", className);
  return node;
};

// metrics are what there is a card for.
export const metrics = Object.keys(cards);

// Card is one metric of one machine, on the page.
export class Card {
  #kind;
  #root;
  #parts = {};
  #history = []; // of each series, newest last
  #paths = [];
  constructor(metric, grid) {
    this.#kind = cards[metric];
    this.#root = document.getElementById("card-template").content.firstElementChild.cloneNode(true);
    for (const part of ["headline", "spark", "peak", "bars", "details"]) this.#parts[part] = this.#root.querySelector(`.${part}`);
    this.#root.querySelector("h3").textContent = this.#kind.title;
    this.#root.dataset.metric = metric;
    // Cards stand in the order of their definition, whichever came first.
    const rank = (card) => metrics.indexOf(card.dataset.metric);
    grid.insertBefore(this.#root, [...grid.children].find((card) => rank(card) > rank(this.#root)) ?? null);
  }

  // note keeps one message's values for the sparkline; draw shows the newest.
  note(v) {
    this.#kind.series(v).forEach((n, i) => {
      const history = (this.#history[i] ??= []);
      history.push(Number.isFinite(n) ? n : 0);
      if (history.length > points) history.shift();
    });
  }

  draw(v) {
    const { headline, spark, peak, bars, details } = this.#parts;
    const colored = this.#history.length > 1;
    fill(headline, this.#kind.headline(v), () => {
      const span = element("span");
      span.append(document.createTextNode(""), element("small"));
      return span;
    }, (span, [value, label], i) => {
      span.className = colored ? `series-${i + 1}` : "";
      span.firstChild.data = value;
      span.lastChild.textContent = label;
    });

    const most = Math.max(...this.#history.flat());
    peak.textContent = `peak ${this.#kind.scale(most)}`;
    this.#history.forEach((history, i) => {
      const [area, line] = (this.#paths[i] ??= [svg("path", `area series-${i + 1}`), svg("path", `series-${i + 1}`)]);
      if (!line.parentNode) spark.append(area, line);
      const height = this.#kind.max ?? (most || 1);
      const start = points - history.length;
      const curve = history.map((n, x) => `${start + x} ${(20 - (19 * Math.min(Math.max(n, 0), height)) / height).toFixed(2)}`).join("L");
      line.setAttribute("d", `M${curve}`);
      area.setAttribute("d", `M${start} 20L${curve}L${points - 1} 20Z`);
    });

    const shares = this.#kind.bars?.(v) ?? [];
    bars.classList.toggle("dense", shares.length > 8);
    bars.classList.toggle("wide", this.#kind.wide ?? false);
    fill(bars, shares, () => {
      const item = element("li");
      const meter = element("div");
      meter.role = "meter";
      meter.append(element("div"));
      item.append(element("span"), meter, element("span"));
      return item;
    }, (item, [label, n, text]) => {
      const [name, meter, value] = item.children;
      const width = Number.isFinite(n) ? Math.min(Math.max(n, 0), 100) : 0;
      name.textContent = meter.ariaLabel = label;
      value.textContent = meter.ariaValueText = text;
      item.title = `${label}: ${text}`;
      meter.ariaValueNow = width;
      meter.dataset.level = width > 90 ? "full" : width > 75 ? "high" : "";
      meter.firstChild.style.width = `${width}%`;
    });

    fill(details, this.#kind.details(v), () => {
      const row = element("div", this.#kind.wide ? "wide" : "");
      row.append(element("dt"), element("dd"));
      return row;
    }, (row, [label, text]) => {
      row.firstChild.textContent = label;
      row.lastChild.textContent = text;
    });
  }
}

// fill makes the children of parent as many as items, and updates each.
function fill(parent, items, create, update) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  while (parent.children.length < items.length) parent.append(create());
  items.forEach((item, i) => update(parent.children[i], item, i));
}
