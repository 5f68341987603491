// Clients of npm's ws, with every combination of its options of compression:
// each is sent back what it publishes. Prints a line of JSON for each.
const WebSocket = require("ws");
const zlib = require("zlib");

const [url] = process.argv.slice(2);
const offers = [];
for (const clientNoContextTakeover of [undefined, true])
  for (const serverNoContextTakeover of [undefined, true])
    for (const clientMaxWindowBits of [undefined, true, 9, 12, 15])
      for (const serverMaxWindowBits of [undefined, 10, 12, 13, 15])
        offers.push({ clientNoContextTakeover, serverNoContextTakeover, clientMaxWindowBits, serverMaxWindowBits });
for (const memLevel of [1, 5, 9])
  for (const level of [0, 1, 9])
    for (const strategy of [zlib.constants.Z_DEFAULT_STRATEGY, zlib.constants.Z_HUFFMAN_ONLY, zlib.constants.Z_RLE, zlib.constants.Z_FIXED])
      offers.push({ zlibDeflateOptions: { memLevel, level, strategy } });

function run(offer, n) {
  return new Promise((resolve) => {
    const topic = "foreign.t" + n;
    const ws = new WebSocket(`${url}?topic=${topic}`, { perMessageDeflate: offer && { threshold: 0, ...offer } });
    const sizes = [0, 9, 400, 3000];
    const sent = sizes.map((size) => ({ n, text: "äöü€ price ".repeat(size) }));
    const done = (problem) => {
      ws.terminate();
      resolve({ offer, extensions: ws.extensions, problem });
    };
    let got = 0;
    ws.on("error", (err) => done(String(err)));
    ws.on("close", (code) => done("closed with " + code));
    ws.on("open", () => {
      for (const data of sent) ws.send(JSON.stringify({ type: "publish", topic, data }));
    });
    ws.on("message", (text) => {
      const message = JSON.parse(text);
      if (message.type === "error") done(String(text));
      if (message.type !== "message") return;
      if (JSON.stringify(message.data) !== JSON.stringify(sent[got])) done("message " + got + " differs");
      if (++got === sent.length) done(null);
    });
  });
}

(async () => {
  for (let n = 0; n < offers.length + 2; n += 16) {
    const some = [false, true, ...offers].slice(n, n + 16);
    for (const result of await Promise.all(some.map((offer, i) => run(offer, n + i)))) console.log(JSON.stringify(result));
  }
})();
