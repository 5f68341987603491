import { openHttp, type Call } from "./http.js";
import type { Host, Link } from "./link.js";
import type { Told } from "./router.js";

/** Streams of Server-Sent Events, read by fetch: an EventSource tells no status and takes no header. */
export const openSse = (host: Host): Link => openHttp(host, stream);

async function stream(call: Call, link: Link, host: Host): Promise<never> {
  const response = await call._get("/sse?");
  const reader = response.body!.getReader();
  const decoder = new TextDecoder();
  let quiet = 0;
  let text = "";
  let data = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw {};
    const lines = (text + decoder.decode(value, { stream: true })).split("\n");
    text = lines.pop()!;
    for (const line of lines) {
      if (line.startsWith("data:")) data += line.slice(5);
      if (line.trim() || !data) continue;
      const told: Told = JSON.parse(data);
      data = "";
      if (told.type === "welcome") {
        quiet = told.heartbeat + host._timeout;
        call._welcome();
      } else if (told.type === "subscribed") {
        const route = call._routes.find((route) => route._topic === told.topic);
        if (route) host._router._subscribed(route, call, told);
      } else {
        host._told(told, link, call);
      }
    }
    if (quiet) call._await(quiet);
  }
}
