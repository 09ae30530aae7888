// What the worker does: a reference and a table in, what Python says of the cells out.

import assert from "node:assert/strict";
import test from "node:test";

import { Session } from "../../rpumap/explorer/src/map_cells/session.js";
import { assertClose, golden, goldenBytes } from "./golden.js";

const EPS = 0.05;
const { about, array } = golden("cells");
const of = (name) => array(`whole.${name}`);
const [panel, librarySize] = [of("panel"), of("library_size")];
const n = librarySize.length;
const nGenes = about.genes.length;
const reference = { id: 1, file: new File([goldenBytes("small.rpumap")], "small.rpumap") };

/** The cells as a text file, with the counts of all other genes in one column. */
function fileOfCells(genes = about.genes) {
  const lines = Array.from({ length: n }, (_, i) => {
    const counts = panel.slice(i * nGenes, (i + 1) * nGenes);
    const others = counts.reduce((rest, count) => rest - count, librarySize[i]);
    return [`cell ${i}`, ...counts, others].join(",");
  });
  return new File([[["", ...genes, "others"].join(","), ...lines].join("\n")], "cells.csv");
}

const table = { id: 2, files: [fileOfCells()] };
const choice = { part: "the table", geneColumn: "name", match: "exact", eps: EPS };

test("the page is told of a reference what it shows", async () => {
  const view = await new Session().readReference(reference);
  assert.equal(view.nGenes, nGenes);
  assert.deepEqual(view.labels, about.labels);
  assert.equal(view.coordinates.length, 2 * view.codes.length);
  assert.ok(view.quality.index_accuracy > 0.5 && view.quality.n_cells > 0);
  assert.equal(view.about.n_genes, 900);
  assert.equal(view.layer, null);
  assert.ok(view.threshold > 0);
});

test("the page is told of a table what can be chosen", async () => {
  const view = await new Session().open({ reference, table });
  assert.deepEqual([view.nCells, view.nGenes], [n, nGenes + 1]);
  assert.deepEqual(view.parts, ["the table"]);
  const names = { columns: ["name"], defaultColumn: "name" };
  assert.deepEqual(view.geneColumns, { "the table": names });
});

test("cells are mapped as in Python, from files alone", async () => {
  const stages = [];
  const onProgress = (stage, share) => stages.push([stage, share]);
  const content = { reference, table, choice };
  const { result, seconds, bytes } = await new Session().map(content, onProgress);
  assert.equal(result.n, n);
  assert.deepEqual(result.cellNames, Array.from({ length: n }, (_, i) => `cell ${i}`));
  assert.deepEqual(result.labels, about.labels);
  assert.deepEqual(result.label, of(`${EPS}.label`));
  assertClose(result.coordinates, of(`${EPS}.coordinates`), 1e-6, "coordinates");
  assertClose(result.novelty, of(`${EPS}.novelty`), 1e-9, "novelty", 1);
  assert.equal(result.nMissing, 0);
  assert.equal(result.eps, EPS);
  assert.ok(seconds.reading > 0 && seconds.computing > 0);
  assert.ok(bytes.counts >= 4 * n * nGenes);
  for (const stage of ["reading", "mapping"]) {
    const shares = stages.filter(([name]) => name === stage).map(([, share]) => share);
    assert.ok(shares.length, stage);
    assert.deepEqual(shares, shares.toSorted((a, b) => a - b), stage);
    assert.ok(shares.every((share) => share >= 0 && share <= 1), stage);
  }
});

test("the box of one cell is that of CROWN, inside that of CROWN-IBP", async () => {
  const session = new Session();
  const { result } = await session.map({ reference, table, choice }, () => {});
  let isTighter = false;
  for (let cell = 0; cell < n; cell += 20) {
    const box = session.box({ cell });
    for (const axis of [0, 1]) {
      const [lower, upper] = [result.lower[2 * cell + axis], result.upper[2 * cell + axis]];
      assert.ok(lower <= box.lower[axis] && box.upper[axis] <= upper, `cell ${cell}`);
      const middle = result.coordinates[2 * cell + axis];
      assert.ok(box.lower[axis] < middle && middle < box.upper[axis], `cell ${cell}`);
      isTighter ||= box.upper[axis] - box.lower[axis] < 0.9 * (upper - lower);
    }
  }
  assert.ok(isTighter);
});

test("after a choice that fails another one succeeds, with the same table", async () => {
  const session = new Session();
  const lower = about.genes.map((gene) => gene.toLowerCase());
  const other = { id: 3, files: [fileOfCells(lower)] };
  await assert.rejects(session.map({ reference, table: other, choice }, () => {}), {
    name: "InputError",
  });
  const opened = session.table;
  const byCase = { ...choice, match: "case" };
  const { result } = await session.map({ reference, table: other, choice: byCase }, () => {});
  assert.deepEqual(result.label, of(`${EPS}.label`));
  assert.equal(session.table, opened);
});

test("a file that is no reference leaves the one before", async () => {
  const session = new Session();
  await session.readReference(reference);
  const broken = { id: 9, file: new File(["no map"], "broken.rpumap") };
  await assert.rejects(session.readReference(broken), { name: "ReferenceFileError" });
  assert.equal(session.reference.id, reference.id);
  const { result } = await session.map({ reference, table, choice }, () => {});
  assert.equal(result.n, n);
});

test("a table that cannot be opened leaves none, and the next one is opened", async () => {
  const session = new Session();
  await session.open({ reference, table });
  const empty = { id: 8, files: [new File([], "empty.csv")] };
  await assert.rejects(session.open({ reference, table: empty }), /empty\.csv is empty/);
  assert.equal(session.table.id, null);
  assert.equal((await session.open({ reference, table })).nCells, n);
});
