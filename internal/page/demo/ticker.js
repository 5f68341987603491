// A stock ticker: 500 symbols, each updated at the rate of the screen and not of the exchange.
import { Pushd } from "/assets/pushd.js";

const quotes = document.querySelector("#quotes");
const tiles = new Map(); // symbol -> its tile
const changed = new Map(); // symbol -> the newest quote that has not been drawn
let received = 0;
let leftOut = 0;

const push = new Pushd(location.origin);
push.on("state", (state) => {
  const line = document.querySelector("#state");
  line.textContent = state === "open" ? "live" : state;
  line.dataset.state = state === "open" ? "live" : state;
});

// A namespace with `delivery: latest` begins with the newest value of every
// symbol. From then on at most two values a second come for each: the newest.
push.subscribe("demo-stocks.*", (message, { skipped }) => {
  received++;
  leftOut += skipped;
  changed.set(message.topic.split(".")[1], message.data);
  if (changed.size === 1) requestAnimationFrame(draw);
}, { mode: "latest", maxRate: 2 });

// All that came since the last frame is drawn in one go.
function draw() {
  for (const [symbol, quote] of changed) {
    const tile = tiles.get(symbol) ?? add(symbol);
    const before = Number(tile.value.textContent);
    tile.value.textContent = quote.price.toFixed(2);
    tile.percent.textContent = `${quote.change > 0 ? "+" : ""}${quote.change.toFixed(2)} %`;
    tile.percent.className = quote.change < 0 ? "down" : "up";
    if (before && before !== quote.price) flash(tile.item, quote.price > before ? "up" : "down");
  }
  changed.clear();
}

function add(symbol) {
  const item = document.createElement("li");
  const name = document.createElement("b");
  const value = document.createElement("span");
  const percent = document.createElement("span");
  name.textContent = symbol;
  item.append(name, value, percent);
  const after = [...tiles.keys()].filter((other) => other < symbol).length;
  quotes.insertBefore(item, quotes.children[after] ?? null);
  const tile = { item, value, percent };
  tiles.set(symbol, tile);
  document.querySelector("#symbols").textContent = tiles.size;
  return tile;
}

function flash(item, direction) {
  item.className = `flash ${direction}`;
  setTimeout(() => { item.className = ""; }, 120);
}

setInterval(() => {
  document.querySelector("#received").textContent = received;
  document.querySelector("#left-out").textContent = leftOut;
  received = leftOut = 0;
}, 1000);
