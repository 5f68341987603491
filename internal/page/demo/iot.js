// A dashboard of devices: one card for each topic, made when it is first heard.
import { Pushd } from "/assets/pushd.js";

const hosts = document.querySelector("#hosts");
const cards = new Map(); // topic -> its card
let count = 0;

const push = new Pushd(location.origin);
push.on("state", (state) => {
  const line = document.querySelector("#state");
  line.textContent = state === "open" ? "live" : state;
  line.dataset.state = state === "open" ? "live" : state;
});

// What to show of each metric: its headline, the unit, and what a full bar is.
const metrics = {
  cpu: (v) => [v.busy_percent, "% busy", v.busy_percent / 100],
  memory: (v) => [v.used_bytes / 2 ** 30, `GiB of ${(v.total_bytes / 2 ** 30).toFixed(1)}`, v.used_bytes / v.total_bytes],
  load: (v) => [v.load_1m, "waiting or running", Math.min(v.load_1m / navigator.hardwareConcurrency, 1)],
  disk: (v) => [v.root.used_bytes / 2 ** 30, `GiB of ${(v.root.total_bytes / 2 ** 30).toFixed(1)}`, v.root.used_bytes / v.root.total_bytes],
  network: (v) => {
    const sum = Object.values(v.interfaces).reduce((all, one) => all + one.received_bytes_per_second + one.sent_bytes_per_second, 0);
    return [sum / 1024, "KiB/s in and out"];
  },
};

// `>` is everything below: new hosts and new metrics come by themselves.
push.subscribe("host.>", ({ topic, data, time }) => {
  const [, host, metric] = topic.split(".");
  if (!metrics[metric]) return;
  const [value, unit, part] = metrics[metric](data);
  const card = cards.get(topic) ?? add(topic, host, metric);
  card.value.textContent = value.toFixed(1);
  card.unit.textContent = unit;
  card.bar.hidden = part === undefined;
  if (part !== undefined) {
    card.bar.setAttribute("aria-valuenow", Math.round(part * 100));
    card.bar.dataset.level = part > 0.95 ? "full" : part > 0.8 ? "high" : "";
    card.bar.firstChild.style.width = `${part * 100}%`;
  }
  card.when.textContent = new Date(time).toLocaleTimeString();
  document.querySelector("#count").textContent = ++count;
});

function add(topic, host, metric) {
  const element = (name, className = "") => Object.assign(document.createElement(name), { className });
  let group = hosts.querySelector(`[data-host="${host}"]`);
  if (!group) {
    group = element("section", "cards");
    group.dataset.host = host;
    hosts.append(Object.assign(element("h2"), { textContent: host }), group);
    document.querySelector("#host-count").textContent = hosts.querySelectorAll("section").length;
  }
  const article = element("article", "card");
  const headline = element("p", "headline");
  const value = element("span");
  const unit = element("small");
  const bar = element("div");
  const when = element("p", "quiet");
  article.dataset.metric = metric;
  bar.setAttribute("role", "meter");
  bar.setAttribute("aria-label", metric);
  bar.append(element("div"));
  const holder = element("span");
  holder.append(value, unit);
  headline.append(holder);
  article.append(Object.assign(element("h3"), { textContent: metric }), headline, bar, when);
  group.append(article);
  const card = { value, unit, bar, when };
  cards.set(topic, card);
  return card;
}
