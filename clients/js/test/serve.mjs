// A pushd for a test in another language: prints its URL, and ends with stdin.

import { startServer } from "./server.mjs";

const ends = [];
const server = await startServer({ after: (end) => ends.push(end) }, { flags: ["--allow-origin", "*"] });
console.log(server.url);
process.stdin.resume();
process.stdin.on("end", async () => {
  for (const end of ends) await end();
  process.exit(0);
});
