// Connections of the node that serves this page: a list, one in detail, and
// their end.

import { byId, el, keyed, row, setText } from "./dom.js";
import * as format from "./format.js";
import { request } from "./session.js";

const page = 100; // connections of one request
const closingTime = 1_000; // ms that most of those need who were disconnected

export class Connections {
  #socket;
  #list = [];
  #next = "";
  #shown = null; // the one in the dialog

  constructor(socket) {
    this.#socket = socket;
    const form = byId("connections-form");
    form.onsubmit = (event) => {
      event.preventDefault();
      const query = new URLSearchParams();
      for (const name of ["by", "value"]) if (form.elements[name].value) query.set(name, form.elements[name].value.trim());
      if (form.elements.behind.checked) query.set("behind", "true");
      const hash = `#/connections${query.size > 0 ? `?${query}` : ""}`;
      if (location.hash === hash) this.refresh();
      else location.hash = hash;
    };
    byId("connections-more").onclick = () => this.#load(this.#next);
    byId("detail-close").onclick = () => byId("detail").close();
    byId("kick-client").onclick = () => this.#disconnect(`connections/${this.#shown.client}`, this.#shown.client);
    byId("kick-identity").onclick = () => this.#disconnect(`identities/${encodeURIComponent(this.#shown.identity)}`, `every connection of ${this.#shown.identity}`);
  }

  // open shows what the address asks for.
  open(query) {
    const { by, value, behind } = byId("connections-form").elements;
    by.value = query.get("by") ?? "";
    value.value = query.get("value") ?? "";
    behind.checked = query.get("behind") === "true";
    return this.refresh();
  }

  refresh() { return this.#load(""); }

  async #load(after) {
    const { by, value, behind } = byId("connections-form").elements;
    const query = new URLSearchParams({ limit: page });
    if (by.value && value.value.trim()) query.set(by.value, value.value.trim());
    if (behind.checked) query.set("behind", "true");
    if (after) query.set("after", after);
    try {
      const answer = await request(`/connections?${query}`);
      this.#list = (after ? this.#list : []).concat(answer.connections);
      this.#next = answer.next ?? "";
      const more = this.#next ? " and more" : "";
      setText(byId("connections-summary"), `${format.count(this.#list.length)}${more} shown, of ${format.count(answer.open)} that are open`);
    } catch (error) {
      this.#list = [];
      this.#next = "";
      setText(byId("connections-summary"), `Not known: ${error.message}`);
    }
    byId("connections-more").hidden = this.#next === "";
    this.#draw();
  }

  #draw() {
    keyed(byId("connections").querySelector("tbody"), this.#list, (c) => c.client, (c) => this.#makeLine(c), (line, c) => {
      const own = c.client === this.#socket.client ? "this console" : c.operator ? "an operator" : c.identity ?? "";
      const topics = c.subscriptions.length > 3 ? `${c.subscriptions.slice(0, 3).join(", ")}, …` : c.subscriptions.join(", ");
      const state = c.state === "open" ? "" : c.state;
      const cells = [null, [own, state].filter(Boolean).join(", "), c.address ?? c.peer, c.transport ? `${c.transport} ${c.format}` : c.format, topics,
        format.count(c.behind_feeds), format.bytes(c.unsent_bytes), `${format.span(c.received_ms_ago / 1000)} ago`];
      cells.forEach((text, i) => text !== null && setText(line.cells[i], text));
      line.cells[5].dataset.level = c.behind_feeds > 0 ? "warn" : "good";
    });
  }

  #makeLine(c) {
    const line = row("name", "", "", "", "name", "number", "number", "number");
    line.cells[0].append(el("button", { type: "button", className: "link", textContent: c.client, ariaHasPopup: "dialog", onclick: () => this.#open(c.client) }));
    return line;
  }

  async #open(client) {
    try {
      this.#shown = await request(`/connections/${client}`);
    } catch (error) {
      setText(byId("connections-summary"), error.message);
      return;
    }
    const c = this.#shown;
    const own = client === this.#socket.client;
    setText(byId("detail-title"), c.client);
    const facts = [["Identity", c.identity ?? (c.operator ? "an operator" : "none")], ["Address", c.address ?? c.peer], ["Peer", c.peer],
      ["Format", c.transport ? `${c.transport}, ${c.format}` : c.format], ["State", c.state], ["Behind in", `${format.count(c.behind_feeds)} feeds`],
      ["Unsent", format.bytes(c.unsent_bytes)], ["Heard of", `${format.span(c.received_ms_ago / 1000)} ago`], ["Sent to", `${format.span(c.sent_ms_ago / 1000)} ago`],
      ["Read from", c.reading ? "yes" : "not now: it sent too much, or does not take replies"], ["Shard", c.shard]];
    byId("detail-facts").replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
    setText(byId("detail-count"), format.count(c.subscriptions.length));
    byId("detail-topics").replaceChildren(...c.subscriptions.map((pattern) => el("li", {}, pattern)));
    setText(byId("detail-result"), own ? "This is the console itself." : "");
    byId("kick-client").disabled = own;
    byId("kick-identity").hidden = !c.identity;
    if (!byId("detail").open) byId("detail").showModal();
    byId("detail-title").focus();
  }

  async #disconnect(path, whom) {
    const reason = await confirm(`Disconnect ${whom}?`);
    if (!reason) return;
    const result = byId("detail-result");
    try {
      const did = await request(`/${path}/disconnect?reason=${reason}`, "POST");
      setText(result, `${format.count(did.disconnected)} disconnected (${did.reason}).`);
      byId("kick-client").disabled = true;
    } catch (error) {
      setText(result, `Not disconnected: ${error.message}`);
    }
    this.refresh();
    setTimeout(() => this.refresh(), closingTime);
  }
}

// confirm asks once more, and for the reason; "" is no. The event of a dialog's
// close waits for the next frame of the display, when it may be open again.
function confirm(question) {
  const dialog = byId("confirm");
  const form = dialog.querySelector("form");
  setText(byId("confirm-title"), question);
  return new Promise((resolve) => {
    form.onsubmit = (event) => resolve(event.submitter.value === "yes" ? form.elements.reason.value : "");
    dialog.oncancel = () => resolve("");
    dialog.showModal();
  });
}
