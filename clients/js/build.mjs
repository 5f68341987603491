// Builds dist/: an ES module and a CommonJS one, both minified, and the types.
// `node build.mjs FILE` also writes the ES module to FILE.

import { build } from "esbuild";
import { copyFile, readFile, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

process.chdir(dirname(fileURLToPath(import.meta.url)));
const { version } = JSON.parse(await readFile("package.json", "utf8"));

const common = {
  entryPoints: ["src/index.ts"],
  bundle: true,
  minify: true,
  mangleProps: /^_/, // what begins with _ is nobody else's
  target: "es2020",
  legalComments: "none",
  banner: { js: `// @pushd/client ${version}: the source is in clients/js of pushd.` },
};
await rm("dist", { recursive: true, force: true });
await build({ ...common, format: "esm", outfile: "dist/pushd.mjs" });
await build({ ...common, format: "cjs", outfile: "dist/pushd.cjs" });
await copyFile("src/pushd.d.ts", "dist/pushd.d.ts");
await copyFile("src/pushd.d.ts", "dist/pushd.d.cts");
const [, , page] = process.argv;
if (page) await copyFile("dist/pushd.mjs", page);
