// Prints what the client does after each close code, for the Go test that holds it against the server's table.

import { build } from "esbuild";
import { fileURLToPath } from "node:url";

export async function load(name) {
  const entry = fileURLToPath(new URL(`../src/${name}.ts`, import.meta.url));
  const { outputFiles } = await build({ entryPoints: [entry], bundle: true, format: "esm", write: false });
  return import("data:text/javascript," + encodeURIComponent(outputFiles[0].text));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { final, stale, leastWait } = await load("closing");
  const codes = Array.from({ length: 5000 }, (_, code) => code).slice(1000);
  console.log(JSON.stringify(codes.map((code) => ({ Code: code, Final: final.includes(code), Stale: stale.includes(code), LeastWait: leastWait(code) }))));
}
