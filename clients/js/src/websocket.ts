import { command, type Command } from "./command.js";
import type { PushdError } from "./error.js";
import type { Host, Link } from "./link.js";
import type { Told } from "./router.js";

/** How many commands may be without an answer: below what the server takes as misuse. */
const mostUnanswered = 100;

export function openWebSocket(host: Host): Link {
  const unanswered = new Map<number, Command>();
  const queue: Command[] = [];
  let lastId = 0;
  let mostBytes = 0;
  let held: ReturnType<typeof setTimeout> | undefined; // until the next command may leave
  let pace = 0; // ms between commands, since they came too often
  let refused = 0; // for that: how many at the head of the queue, in their order

  let heartbeat = 0; // ms
  let unheard = 0; // looks in a row that found silence
  let watch: ReturnType<typeof setTimeout> | undefined;

  const protocols = ["pushd.v1.json"];
  if (host._token) protocols.push("pushd.token." + host._token);
  const socket = new host._WebSocket!(host._base.replace("http", "ws") + "/ws", protocols);
  socket.onerror = () => {}; // the close that follows says more
  socket.onclose = ({ code, reason }) => host._connection._ended(link, { _code: code, _reason: reason });
  socket.onmessage = (event) => {
    const told: Told = JSON.parse(event.data);
    const asked = unanswered.get(told.id!);
    unheard = 0;
    if (asked) {
      unanswered.delete(told.id!);
      if (asked._answer(told)) {
        queue.splice(refused++, 0, asked);
        pace = told.retry_after || 1000;
        if (!held) hold();
      }
      flush();
    } else if (told.type === "welcome") {
      mostBytes = told.max_message;
      heartbeat = told.heartbeat;
      look(heartbeat);
      host._connection._welcome(link);
    } else {
      host._told(told, link);
    }
  };

  /** Looks after a while whether anything has come; asks at the second silence, and leaves at the third. */
  function look(ms: number): void {
    clearTimeout(watch);
    watch = setTimeout(() => {
      if (++unheard > 2) host._connection._ended(link, { _reason: "silent" });
      else if (unheard > 1) link._check();
      else look(heartbeat);
    }, ms);
  }

  function tell(body: Command["_body"], answered = (_: Told) => {}, failed: (error: PushdError) => void = host._trouble): void {
    link._send(command(body, true, answered, failed));
  }

  function hold(): void {
    held = setTimeout(() => {
      held = undefined;
      refused = 0;
      if (!queue[0]) pace = 0;
      flush();
    }, pace);
  }

  function flush(): void {
    let next;
    while (!held && unanswered.size < mostUnanswered && (next = queue.shift())) {
      const { _body, _done, _sent } = next;
      // What was refused for its rate may be out of date when it is sent again.
      if (_done || (_sent && _body.type === "unsubscribe" && host._router._routes.has(_body.topic))) continue;
      const text = JSON.stringify({ ..._body, id: ++lastId });
      if (new Blob([text]).size > mostBytes) {
        next._answer({ code: "message_too_large" });
        continue;
      }
      next._sent = true;
      unanswered.set(lastId, next);
      socket.send(text);
      if (pace) hold();
    }
  }

  const link: Link = {
    _sync(gone) {
      if (gone?._link === link) tell({ type: "unsubscribe", topic: gone._topic });
      for (const route of host._router._fresh(link)) {
        tell(
          { type: "subscribe", topic: route._topic, mode: route._mode, max_rate: route._rate, cursor: route._cursor },
          (told) => host._router._subscribed(route, link, told),
          (error) => host._refused(route, error),
        );
      }
    },

    _send(command) {
      queue.push(command);
      flush();
    },

    _renew() {
      tell({ type: "auth", token: host._token });
    },

    _check() {
      unheard = 2;
      socket.send('{"type":"ping"}');
      look(host._timeout);
    },

    _close() {
      clearTimeout(held);
      clearTimeout(watch);
      socket.onmessage = socket.onclose = null;
      socket.close();
      for (const left of [...unanswered.values(), ...queue]) host._again(left);
    },
  };
  return link;
}
