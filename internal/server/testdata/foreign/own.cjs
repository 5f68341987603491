// Node's own WebSocket: it is sent back what it publishes.
const [url] = process.argv.slice(2);
const data = { text: "äöü€ price ".repeat(400) };
const ws = new WebSocket(`${url}?topic=foreign.node`);
ws.onerror = (event) => console.log(JSON.stringify({ problem: String(event.message) }));
ws.onopen = () => ws.send(JSON.stringify({ type: "publish", topic: "foreign.node", data }));
ws.onmessage = (event) => {
  const message = JSON.parse(event.data);
  if (message.type !== "message") return;
  const problem = JSON.stringify(message.data) === JSON.stringify(data) ? null : "differs";
  console.log(JSON.stringify({ extensions: ws.extensions, problem }));
  ws.close();
};
