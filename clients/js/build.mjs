// Builds dist/: an ES module and a CommonJS one, both minified, and the types.
// `node build.mjs FILE` also writes the ES module to FILE.

import { build } from "esbuild";
import { copyFile, mkdir, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { minify } from "terser";

/** Writes one form of the package: what begins with _ is nobody else's, and gets a short name. */
async function write(format, file) {
  const { outputFiles } = await build({
    entryPoints: ["src/index.ts"],
    bundle: true,
    write: false,
    format,
    mangleProps: /^_[a-zA-Z]/,
    minify: true,
    target: "es2021",
  });
  const { code } = await minify(outputFiles[0].text, {
    module: true,
    ecma: 2020,
    compress: { passes: 3, inline: 1, hoist_funs: true, keep_fargs: false, pure_getters: true, unsafe_methods: true },
  });
  await writeFile(file, code + "\n");
}

process.chdir(dirname(fileURLToPath(import.meta.url)));
await rm("dist", { recursive: true, force: true });
await mkdir("dist");
await write("esm", "dist/pushd.mjs");
await write("cjs", "dist/pushd.cjs");
await copyFile("src/pushd.d.ts", "dist/pushd.d.ts");
await copyFile("src/pushd.d.ts", "dist/pushd.d.cts");
if (process.argv[2]) await copyFile("dist/pushd.mjs", process.argv[2]);
