// The console: one socket, one model, five views. What nodes say of themselves
// comes over pushd itself; what only this node knows, by requests.

import { Connections } from "./connections.js";
import { byId, setText } from "./dom.js";
import { Model, nodesTopic, silentAfter } from "./model.js";
import { Nodes } from "./nodes.js";
import { Overview } from "./overview.js";
import { request } from "./session.js";
import { Socket } from "./socket.js";
import { Topics } from "./topics.js";
import { Try } from "./try.js";

const listEvery = 2; // seconds between two looks at the topics

const model = new Model();
const socket = new Socket();
const overview = new Overview(model);
const nodes = new Nodes(model);
const topics = new Topics();
const connections = new Connections(socket);
const byHand = new Try(socket);

// --- Where the data comes from -------------------------------------------------

let own = ""; // name of this node
let trouble = ""; // of this page's connection

async function askThisNode() {
  try {
    const message = await request("/statistics");
    own = message.node;
    model.note(message, Date.now());
    for (const place of document.querySelectorAll(".this-node")) setText(place, own);
  } catch {
    // the socket says what is wrong with the server
  }
}

socket.onstate = (state, text) => {
  byId("state").dataset.state = state;
  setText(byId("state-text"), text);
  trouble = state === "live" || state === "connecting" ? "" : text;
  if (state === "live") {
    socket.ask({ type: "subscribe", topic: nodesTopic }).catch((error) => setText(byId("state-text"), error.message));
    askThisNode();
    byHand.resubscribe();
  }
  overview.drawHealth(Date.now(), trouble);
};

const isStatistics = (message) => message.topic?.startsWith("_pushd.nodes.");

socket.onmessage = (message) => {
  if (message.type === "message" && isStatistics(message)) model.note(message.data, Date.now());
  if (!isStatistics(message) || byHand.wants(message.topic)) byHand.receive(message);
};

// --- Views ---------------------------------------------------------------------

const views = ["overview", "nodes", "topics", "connections", "try"];
let view = "";

function route(event) {
  const [name, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  if (event && !name && location.hash) return; // the skip link
  view = views.includes(name) ? name : "overview";
  for (const id of views) byId(id).hidden = id !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (view === "topics") topics.refresh();
  if (view === "connections") connections.open(new URLSearchParams(query));
  draw();
  if (event) byId(view).querySelector("h2").focus(); // who came by a link hears where that led
}

function draw() {
  const now = Date.now();
  overview.drawHealth(now, trouble);
  if (view === "overview") overview.draw(now);
  else if (view === "nodes") nodes.draw(now);
}

addEventListener("hashchange", route);
document.querySelector(".skip").onclick = (event) => {
  event.preventDefault();
  byId("main").focus();
};

let seconds = 0;
setInterval(() => {
  const now = Date.now();
  socket.tick();
  // What cannot be published, this node still says to who asks: that NATS is away.
  if (socket.client && now - (model.nodes.get(own)?.heardAt ?? 0) > silentAfter - 1000 && !trouble) askThisNode();
  model.tick(now);
  draw();
  if (view === "topics" && ++seconds % listEvery === 0) topics.refresh();
}, 1000);

route();
socket.open();
