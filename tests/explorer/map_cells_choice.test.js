// What is mapped where nobody chooses, and what a typed radius means.

import assert from "node:assert/strict";
import test from "node:test";

import {
  defaultChoice,
  hasChoice,
  parseEps,
} from "../../rpumap/explorer/src/map_cells/choice_panel.js";

const one = { columns: ["var_names"], defaultColumn: "var_names" };
const two = { columns: ["symbol", "id"], defaultColumn: "symbol" };
const table = {
  parts: ["X", "layers/counts"],
  defaultPart: "X",
  geneColumns: { X: one, "layers/counts": two },
};

test("the layer of the reference is taken where the table has it, with its names of genes", () => {
  const choice = { part: "X", geneColumn: "var_names", match: "exact", eps: 0.05 };
  assert.deepEqual(defaultChoice(table), choice);
  assert.deepEqual(defaultChoice(table, "spliced"), choice);
  const inLayer = { ...choice, part: "layers/counts", geneColumn: "symbol" };
  assert.deepEqual(defaultChoice(table, "counts"), inLayer);
});

test("there is a choice of parts or of names, or none", () => {
  assert.equal(hasChoice(table), true);
  assert.equal(hasChoice({ parts: ["X"], geneColumns: { X: two } }), true);
  assert.equal(hasChoice({ parts: ["X"], geneColumns: { X: one } }), false);
});

test("a radius is a number that is not negative", () => {
  assert.equal(parseEps(" 0.2 "), 0.2);
  assert.equal(parseEps("0,2"), 0.2);
  assert.equal(parseEps("0"), 0);
  for (const text of ["", " ", "-0.1", "x", "1e999", "NaN"]) {
    assert.throws(() => parseEps(text), new RegExp(`not '${text}'`));
  }
});
