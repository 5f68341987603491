// A scoreboard: what happened so far comes from history, what happens next is
// pushed, and there is no hole between the two.
import { Pushd } from "/assets/pushd.js";

const topic = "demo-match.bra-ger";
const events = document.querySelector("#events");
let count = 0;
let gaps = 0;
let match; // the number of the replay that is shown

const push = new Pushd(location.origin);
push.on("state", (state) => {
  const line = document.querySelector("#state");
  line.textContent = state === "open" ? "live" : state;
  line.dataset.state = state === "open" ? "live" : state;
});
push.on("gap", () => {
  document.querySelector("#gaps").textContent = ++gaps;
});

const past = await history();
past.messages.forEach(show);

// The cursor says up to where history was read. The subscription goes on from
// there, and after a lost connection from the last event it had.
push.subscribe(topic, show, { cursor: past.cursor });

async function history() {
  const response = await fetch(`/history/${topic}?limit=100`);
  if (!response.ok) return { messages: [] }; // nothing is kept, as where NATS is not pushd's own
  return response.json();
}

function show({ data: event }) {
  if (event.match !== match) {
    match = event.match;
    events.replaceChildren();
  }
  document.querySelector("#score").textContent = event.score.join(" – ");
  document.querySelector("#clock").textContent = event.kind === "clock" ? `${event.minute}'` : event.text;
  document.querySelector("#count").textContent = ++count;
  if (event.kind === "clock") return;
  const item = document.createElement("li");
  const minute = document.createElement("span");
  const text = document.createElement("span");
  item.className = event.kind;
  minute.textContent = `${event.minute}'`;
  text.textContent = event.text;
  item.append(minute, text);
  events.prepend(item);
}
