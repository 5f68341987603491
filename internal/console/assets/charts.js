// The charts of the overview, drawn by uPlot (a classic script, so a global).

import { el, setText } from "./dom.js";

const height = 150; // px

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const clock = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

// Chart draws some series of the model over time.
export class Chart {
  #plot = null;
  #lines;
  #format;
  #holder;
  #values = [];

  // lines are {name, label, color}: names of series, labels for people, and
  // colours by the name of their CSS variable.
  constructor(parent, title, lines, format) {
    this.#lines = lines;
    this.#format = format;
    this.#holder = el("div", { className: "plot", ariaHidden: "true" });
    const key = el("figcaption", {}, el("h3", {}, title));
    for (const line of lines) {
      const value = el("b");
      this.#values.push(value);
      key.append(el("span", { className: "key", data: { color: line.color } }, `${line.label} `, value));
    }
    parent.append(el("figure", {}, key, this.#holder));
    new ResizeObserver(() => this.#fit()).observe(this.#holder);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#drop());
  }

  draw(series) {
    this.#lines.forEach((line, i) => setText(this.#values[i], this.#format(series[line.name].at(-1) ?? 0)));
    if (this.#holder.clientWidth === 0) return; // not shown
    const data = [series.time, ...this.#lines.map((line) => series[line.name])];
    if (this.#plot) this.#plot.setData(data);
    else this.#plot = new uPlot(this.#options(), data, this.#holder);
  }

  #options() {
    const axis = { stroke: color("--quiet"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    return {
      width: this.#holder.clientWidth,
      height,
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.15 : 1] } },
      axes: [{ ...axis, space: 70, size: 24, values: (_, splits) => splits.map((t) => clock.format(1000 * t)) }, { ...axis, size: 58, space: 36, values: (_, splits) => splits.map((v) => this.#format(v)) }],
      series: [{}, ...this.#lines.map((line) => ({ label: line.label, stroke: color(line.color), width: 1.5, points: { show: false } }))],
    };
  }

  #fit() {
    const width = this.#holder.clientWidth;
    if (this.#plot && width > 0 && width !== this.#plot.width) this.#plot.setSize({ width, height });
  }

  #drop() {
    this.#plot?.destroy();
    this.#plot = null;
  }
}
