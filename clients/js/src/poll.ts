import { openHttp, type Call } from "./http.js";
import type { Host, Link } from "./link.js";
import type { Told } from "./router.js";

/** How long the server may wait for a message, in s. */
const longest = 25;

/** Asking again and again: for networks that let nothing else through. */
export const openPoll = (host: Host): Link => openHttp(host, poll);

async function poll(call: Call, link: Link, host: Host): Promise<never> {
  const router = host._router;
  for (let wait = 0; ; wait = longest) {
    const routes = call._routes;
    if (wait) call._await(wait * 1000 + host._timeout);
    const response = await call._get(`/poll?wait=${wait}&`);
    const { messages, cursor }: { messages: Told[]; cursor: string } = await response.json();
    call._welcome();
    const places = cursor.split(",");
    routes.forEach((route, n) => {
      const told = messages.find(({ type, topic }) => type === "subscribed" && topic === route._topic);
      if (told || route._on !== call) router._subscribed(route, call, told ?? { cursor: route._cursor, recovered: (route._cursor && true) as true | undefined });
      const place = (route._place = places[n]!);
      if (!place.includes("_")) route._cursor ??= place; // with "_" it is of a topic without history, and good for polls alone
    });
    for (const told of messages) host._told(told, link, call);
  }
}
