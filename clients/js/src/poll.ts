import { HttpLink, type Call } from "./http.js";
import type { Told } from "./router.js";

/** How long the server may wait for a message, in s. */
const longest = 25;

/** PollLink asks again and again: for networks that let nothing else through. */
export class PollLink extends HttpLink {
  readonly _transport = "poll";

  protected async _run(call: Call): Promise<void> {
    for (let wait = 0; ; wait = longest) {
      const { _router, _timeout } = this._host;
      call._routes = call._routes.filter((route) => _router._routes.get(route._topic) === route);
      if (!call._routes.length) return;
      if (wait) this._await(call, wait * 1000 + _timeout);
      const response = await this._get(call, `/poll?wait=${wait}&`, (route) => (wait ? route._place : route._cursor));
      if (!response) return;
      const answer: { messages: Told[]; cursor: string } = await response.json().catch(() => ({}));
      if (!answer.messages) throw { _unfit: true };
      this._welcomed();
      const places = answer.cursor.split(",");
      call._routes.forEach((route, n) => {
        const told = answer.messages.find(({ type, topic }) => type === "subscribed" && topic === route._topic);
        if (told || !route._on) _router._subscribed(route, told ?? { cursor: route._cursor, recovered: route._cursor ? true : undefined });
        route._place = places[n];
      });
      for (const told of answer.messages) if (told.type !== "subscribed") this._host._told(told, this);
    }
  }
}
