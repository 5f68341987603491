import { HttpLink, type Call } from "./http.js";
import type { Told } from "./router.js";

/** SseLink reads streams of Server-Sent Events, by fetch: an EventSource tells no status and takes no header. */
export class SseLink extends HttpLink {
  readonly _transport = "sse";

  protected async _run(call: Call): Promise<void> {
    const response = await this._get(call, "/sse?", (route) => route._cursor);
    if (!response) return;
    if (!/event-stream/.test(response.headers.get("Content-Type")!)) throw { _unfit: true };
    const reader = response.body!.getReader();
    const decoder = new TextDecoder();
    let quiet = 0;
    let text = "";
    let data = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw { _code: 1006, _unfit: !quiet };
      if (quiet) this._await(call, quiet);
      const lines = (text + decoder.decode(value, { stream: true })).split("\n");
      text = lines.pop()!;
      for (const line of lines) {
        if (line.startsWith("data:")) data += line.slice(5);
        if (line.trim() || !data) continue;
        const told: Told = JSON.parse(data);
        data = "";
        if (told.type === "welcome") {
          quiet = 2 * told.heartbeat + this._host._timeout;
          this._await(call, quiet);
          this._welcomed();
        } else if (told.type === "close") {
          throw { _code: told.code, _reason: told.reason };
        } else if (told.type === "subscribed") {
          const route = call._routes.find((route) => route._topic === told.topic);
          if (route) this._host._router._subscribed(route, told);
        } else {
          this._host._told(told, this);
        }
      }
    }
  }

  override _renew(): void {
    this._host._replace(this);
  }
}
