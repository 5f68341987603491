// client.mjs URL CA VERSION uses a pushd behind TLS as a program on the package ws
// would, and prints at the end what it saw.
import { readFileSync } from "node:fs";
import WebSocket from "ws";

const [url, ca, version] = process.argv.slice(2);
const seen = { replies: [] };
const socket = new WebSocket(url, { ca: readFileSync(ca), minVersion: version, maxVersion: version });

socket.on("open", () => {
  seen.tls = socket._socket.getProtocol();
});
socket.on("message", (bytes) => {
  const message = JSON.parse(bytes);
  seen.replies.push(message.type);
  if (message.type === "subscribed") { // a message in three frames, as ws makes them of a stream
    const text = JSON.stringify({ type: "publish", id: 1, topic: "a.b", data: "x".repeat(40000) });
    socket.send(text.slice(0, 10), { fin: false });
    socket.send(text.slice(10, 30000), { fin: false });
    socket.send(text.slice(30000), { fin: true });
  }
  if (message.type === "message") seen.length = message.data.length;
  if (seen.replies.length === 4) socket.ping("still there?");
});
socket.on("pong", (data) => {
  seen.pong = data.toString();
  socket.close(1000, "enough");
});
socket.on("error", (err) => {
  seen.error = err.message;
});
socket.on("close", (code) => {
  seen.closed = code;
  console.log(JSON.stringify(seen));
});
