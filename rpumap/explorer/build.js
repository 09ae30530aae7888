/* Build the scripts that pages load from the modules in src: npm ci && npm run build.

   Each is a classic script with its worker inside, as text: from a disk (file://) browsers refuse
   modules, workers from files, and fetch. What is written to static is kept in the repository, so
   that the book can be built, and pages exported, without Node. Its first line has a checksum of
   what it was built from, by which a test knows whether it is up to date. */

import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";

const HERE = import.meta.dirname;
const SCRIPTS = { certificate: "src/certificate/main.js", map_cells: "src/map_cells/main.js" };
const SHIPPED = ["@noble/hashes", "h5wasm", "papaparse"];

/** SHA-256 of the names and contents of all sources, in the order of their names. */
async function checksum() {
  const found = await readdir(path.join(HERE, "src"), { recursive: true });
  const sources = found.filter((name) => /\.(js|css)$/.test(name)).map((name) => `src/${name}`);
  const digest = createHash("sha256");
  for (const name of [...sources, "build.js", "package-lock.json"].sort()) {
    digest.update(`${name}\n`).update(await readFile(path.join(HERE, name)));
  }
  return digest.digest("hex");
}

const OPTIONS = {
  absWorkingDir: HERE,
  bundle: true,
  charset: "utf8",
  define: { "import.meta.url": "undefined" },
  format: "iife",
  legalComments: "none", // all licences are in licenses.txt
  logOverride: { "empty-import-meta": "silent" },
  minify: true,
  target: "es2020",
};

/* The library that reads HDF5 is a hundred times as large as all the rest, and seldom changes: it is
   a script of its own, h5wasm.js, that sets a text, with which a worker's source begins. */
const apart = {
  name: "apart",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^h5wasm$/ }, () => ({ path: "h5wasm", namespace: "apart" }));
    onLoad({ filter: /.*/, namespace: "apart" }, () => ({
      contents: "module.exports = globalThis.h5wasm;",
    }));
  },
};

/** Let `import source from "worker:./worker.js"` give the bundled worker as text. */
const inlineWorkers = {
  name: "inline-workers",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^worker:/ }, (wanted) => ({
      path: path.resolve(wanted.resolveDir, wanted.path.slice("worker:".length)),
      namespace: "worker",
    }));
    onLoad({ filter: /.*/, namespace: "worker" }, async (wanted) => {
      const options = { entryPoints: [wanted.path], plugins: [apart], write: false };
      const made = await build({ ...OPTIONS, ...options });
      return { contents: made.outputFiles[0].text, loader: "text" };
    });
  },
};

/** Let `require(name)` give a text. */
const given = (name, contents) => ({
  name: "given",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: new RegExp(`^${name}$`) }, () => ({ path: name, namespace: "given" }));
    onLoad({ filter: /.*/, namespace: "given" }, () => ({ contents, loader: "text" }));
  },
});

const banner = `/* rpumap.explorer, built from ${await checksum()}; licenses.txt has the licences */`;
await mkdir(path.join(HERE, "static"), { recursive: true });
for (const [name, entry] of Object.entries(SCRIPTS)) {
  await build({
    ...OPTIONS,
    banner: { js: banner },
    entryPoints: [entry],
    outfile: `static/${name}.js`,
    plugins: [inlineWorkers],
  });
}
await build({
  absWorkingDir: HERE,
  banner: { css: banner },
  bundle: true,
  entryPoints: ["src/explorer.css"],
  outfile: "static/explorer.css",
});

const hdf5 = await build({
  ...OPTIONS,
  entryPoints: ["h5wasm"],
  footer: { js: "globalThis.h5wasm = h5wasm;" },
  globalName: "h5wasm",
  write: false,
});
await build({
  ...OPTIONS,
  banner: { js: "/* h5wasm as text; licenses.txt has its licence */" },
  outfile: "static/h5wasm.js",
  plugins: [given("h5wasm-source", hdf5.outputFiles[0].text)],
  stdin: { contents: 'globalThis.rpumapHdf5 = require("h5wasm-source");' },
});

const licences = [];
for (const name of SHIPPED) {
  const folder = path.join(HERE, "node_modules", name);
  const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
  const { version } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
  const text = await readFile(path.join(folder, file), "utf8");
  licences.push(`${name} ${version}\n\n${text.trim()}\n`);
}
await writeFile(path.join(HERE, "static/licenses.txt"), licences.join(`\n${"-".repeat(80)}\n\n`));
