// The network between a client and a server, for faults of it.

import { once } from "node:events";
import net from "node:net";

/** Passes connections on to a port until it is told otherwise. */
export async function startProxy(t, port) {
  const pairs = new Set();
  let frozen = false;
  let deaf = () => false; // whether of a connection that begins so the answer's head is the last that passes
  let held = () => false; // whether an answer to a request that begins so is kept from the client
  let blocked = () => false; // whether a connection that begins so is refused
  const server = net.createServer((client) => {
    client.on("error", () => {});
    client.once("data", (first) => {
      let head = first.toString("latin1"); // of the latest request
      proxy.asked.push(head);
      if (blocked(head)) return client.resetAndDestroy();
      const upstream = net.connect(port, "127.0.0.1");
      const pair = [client, upstream];
      pairs.add(pair);
      upstream.on("error", () => {});
      const drop = () => {
        pairs.delete(pair);
        pair.forEach((socket) => socket.destroy());
      };
      pair.forEach((socket) => socket.on("close", drop));
      const silent = deaf(head);
      let answered = false;
      client.on("data", (data) => {
        head = data.toString("latin1");
        proxy.asked.push(head);
        if (!frozen) upstream.write(data);
      });
      upstream.on("data", (data) => {
        if (frozen || answered || held(head)) return;
        proxy.passed += data.toString("latin1");
        answered = silent;
        client.write(silent ? data.subarray(0, data.indexOf("\r\n\r\n") + 4) : data);
      });
      if (!frozen) upstream.write(first);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const proxy = {
    url: `http://127.0.0.1:${server.address().port}`,
    /** What clients have said. */
    asked: [],
    /** What servers have said. */
    passed: "",
    /** How many connections there are. */
    get size() {
      return pairs.size;
    },
    /** Nothing passes any more, and nobody is told. */
    freeze() {
      frozen = true;
    },
    thaw() {
      frozen = false;
    },
    reset() {
      for (const pair of pairs) pair.forEach((socket) => socket.resetAndDestroy());
    },
    /** Refuses connections whose first bytes are like that. */
    block(like) {
      blocked = (head) => like.test(head);
    },
    /** Keeps from the client what is answered to requests like that. */
    hold(like) {
      held = (head) => like.test(head);
    },
    /** Lets nothing through but the head of the answer, of connections whose first bytes are like that. */
    mute(like) {
      deaf = (head) => like.test(head);
    },
    /** Has new connections go to another port. */
    to(other) {
      port = other;
    },
  };
  t.after(() => {
    proxy.reset();
    server.close();
  });
  return proxy;
}
