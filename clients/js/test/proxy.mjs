// The network between a client and a server, for faults of it.

import { once } from "node:events";
import net from "node:net";

/** Passes connections on to a port until it is told otherwise. */
export async function startProxy(t, port) {
  const pairs = new Set();
  let frozen = false;
  let blocked = () => false; // whether a connection that begins so is refused
  const server = net.createServer((client) => {
    client.on("error", () => {});
    client.once("data", (head) => {
      if (blocked(head.toString("latin1"))) return client.resetAndDestroy();
      const upstream = net.connect(port, "127.0.0.1");
      const pair = [client, upstream];
      pairs.add(pair);
      upstream.on("error", () => {});
      const drop = () => {
        pairs.delete(pair);
        pair.forEach((socket) => socket.destroy());
      };
      pair.forEach((socket) => socket.on("close", drop));
      client.on("data", (data) => frozen || upstream.write(data));
      upstream.on("data", (data) => frozen || client.write(data));
      if (!frozen) upstream.write(head);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const proxy = {
    url: `http://127.0.0.1:${server.address().port}`,
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
  };
  t.after(() => {
    proxy.reset();
    server.close();
  });
  return proxy;
}
