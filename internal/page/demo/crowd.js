// The crowd: many plain WebSockets, without a library, that hear one message.
const topic = "demo-crowd.pulse";
const list = document.querySelector("#crowd");
const sockets = [];
let pulse; // the one that is being heard: its number, and when it came first and last

document.querySelector("#size").addEventListener("submit", (event) => {
  event.preventDefault();
  resize(Number(new FormData(event.target).get("n")));
});

function resize(n) {
  sockets.splice(n).forEach((one) => one.leave());
  while (sockets.length < n) sockets.push(join());
  count();
}

// Browsers hold a page back that opens many connections at once, so it opens a few at a time.
const mostOpening = 5;
const waiting = [];
let opening = 0;

function open() {
  while (opening < mostOpening && waiting.length > 0) {
    opening++;
    waiting.shift()(() => {
      opening--;
      open();
    });
  }
}

// join opens one connection in its turn, and opens it again where it breaks.
function join() {
  const item = document.createElement("li");
  list.append(item);
  let socket;
  let left = false;
  let failures = 0;
  const connect = (done) => {
    if (left) return done();
    socket = new WebSocket(`${location.origin.replace("http", "ws")}/ws?topic=${topic}`, "pushd.v1.json");
    socket.onmessage = (event) => heard(item, JSON.parse(event.data));
    socket.onopen = () => {
      item.classList.add("open");
      failures = 0;
      done();
    };
    socket.onclose = () => {
      if (!item.classList.contains("open")) done();
      item.classList.remove("open");
      count();
      if (!left) setTimeout(wait, Math.random() * Math.min(30_000, 500 * 2 ** failures++)); // not all at once
    };
  };
  const wait = () => {
    waiting.push(connect);
    open();
  };
  wait();
  return {
    leave() {
      left = true;
      socket?.close();
      item.remove();
    },
  };
}

function heard(item, message) {
  if (message.type === "subscribed") count();
  if (message.type !== "message") return;
  const now = performance.now();
  if (pulse?.number !== message.data.number) pulse = { number: message.data.number, first: now, heard: 0 };
  pulse.heard++;
  pulse.last = now;
  item.classList.add("hit");
  setTimeout(() => item.classList.remove("hit"), 150);
}

function count() {
  const open = list.querySelectorAll(".open").length;
  const line = document.querySelector("#state");
  line.textContent = open === sockets.length ? "live" : "connecting";
  line.dataset.state = open === sockets.length ? "live" : "connecting";
  document.querySelector("#opened").textContent = open;
}

setInterval(() => {
  if (!pulse) return;
  document.querySelector("#spread").textContent = (pulse.last - pulse.first).toFixed(1);
  document.querySelector("#heard").textContent = pulse.heard;
}, 250);

resize(100);
