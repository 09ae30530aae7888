// Files that are dropped are told apart, and folders are looked into.

import assert from "node:assert/strict";
import test from "node:test";

import { droppedFiles, holdsFiles, sortFiles } from "../../rpumap/explorer/src/map_cells/files.js";

const fileOf = (name) => new File([], name);
const namesOf = (files) => files.map(({ name }) => name);

test("a reference map is told from tables by its name", () => {
  const { reference, tables } = sortFiles(
    ["matrix.mtx.gz", "Atlas.RPUMAP", "barcodes.tsv", ".DS_Store"].map(fileOf),
  );
  assert.equal(reference.name, "Atlas.RPUMAP");
  assert.deepEqual(namesOf(tables), ["matrix.mtx.gz", "barcodes.tsv"]);
});

test("a drop may be without a reference, or without tables", () => {
  assert.deepEqual(sortFiles([fileOf("a.csv")]).reference, null);
  assert.deepEqual(sortFiles([fileOf("a.rpumap")]).tables, []);
});

test("two reference maps and nothing at all are refused", () => {
  assert.throws(() => sortFiles(["a.rpumap", "b.rpumap"].map(fileOf)), /a\.rpumap, b\.rpumap/);
  assert.throws(() => sortFiles([]), /no file/);
  assert.throws(() => sortFiles([fileOf(".DS_Store")]), /no file/);
});

const fileEntry = (name) => ({
  isFile: true,
  isDirectory: false,
  file: (resolve) => resolve(fileOf(name)),
});

/** A folder as browsers give it: of its entries at most two at a time. */
function folderEntry(...entries) {
  let given = 0;
  const readEntries = (resolve) => resolve(entries.slice(given, (given += 2)));
  return { isFile: false, isDirectory: true, createReader: () => ({ readEntries }) };
}

const itemOf = (entry) => ({ kind: "file", webkitGetAsEntry: () => entry });

test("files in a dropped folder are found, all of them, but not those further inside", async () => {
  const folder = folderEntry(
    fileEntry("matrix.mtx"),
    fileEntry("genes.tsv"),
    fileEntry("barcodes.tsv"),
    folderEntry(fileEntry("inside.csv")),
  );
  const items = [folder, fileEntry("b.rpumap")].map(itemOf);
  const found = await droppedFiles({ items, files: [fileOf("folder"), fileOf("b.rpumap")] });
  assert.deepEqual(namesOf(found), ["matrix.mtx", "genes.tsv", "barcodes.tsv", "b.rpumap"]);
});

test("files are taken as they are where there is no folder", async () => {
  const files = [fileOf("a.h5ad")];
  assert.deepEqual(await droppedFiles({ items: [itemOf(fileEntry("other"))], files }), files);
  assert.deepEqual(await droppedFiles({ files }), files);
});

test("a folder that cannot be read is an error", async () => {
  const readEntries = (resolve, reject) => reject(new Error("no permission"));
  const entry = { isDirectory: true, isFile: false, createReader: () => ({ readEntries }) };
  await assert.rejects(droppedFiles({ items: [itemOf(entry)], files: [] }), /no permission/);
});

test("text that is dragged is left to the page", () => {
  assert.equal(holdsFiles({ dataTransfer: { types: ["text/plain"] } }), false);
  assert.equal(holdsFiles({ dataTransfer: { types: ["Files", "text/uri-list"] } }), true);
  assert.equal(holdsFiles({}), false);
});
