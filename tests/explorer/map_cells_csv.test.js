// The file of results is read back by a parser of CSV, and is harmless in a spreadsheet.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import test from "node:test";

import { csvName, csvOf, textField } from "../../rpumap/explorer/src/map_cells/csv.js";

const require = createRequire(new URL("../../rpumap/explorer/package.json", import.meta.url));
const { parse } = require("papaparse");

function resultOf(cellNames, labels = ["a", "b"]) {
  const n = cellNames.length;
  const ramp = (length, scale) => Float64Array.from({ length }, (_, i) => scale * (i + 1));
  return {
    n,
    cellNames,
    labels,
    coordinates: Float32Array.from(ramp(2 * n, 0.1)),
    label: Int32Array.from({ length: n }, (_, i) => i % 2),
    confidence: ramp(n, 1 / 3),
    novelty: ramp(n, 0.7),
    mapLabel: new Int32Array(n),
    radius: ramp(n, 1e-9),
    verdict: Int32Array.from({ length: n }, (_, i) => [0, 1, 2, 4][i % 4]),
    lower: Float32Array.from(ramp(2 * n, -1.7)),
    upper: Float32Array.from(ramp(2 * n, 2.3)),
  };
}

function parsed(result) {
  const { data, errors } = parse(csvOf(result).join(""), { header: true, skipEmptyLines: true });
  assert.deepEqual(errors, []);
  return data;
}

test("all columns of all cells come back, numbers to the last bit", () => {
  const result = resultOf(["one", "two", "three", "four"]);
  const rows = parsed(result);
  assert.equal(rows.length, 4);
  rows.forEach((row, i) => {
    const single = (name) => Math.fround(Number(row[name]));
    assert.equal(row.cell, result.cellNames[i]);
    assert.equal(single("umap_1"), result.coordinates[2 * i]);
    assert.equal(single("umap_2"), result.coordinates[2 * i + 1]);
    assert.equal(row.label, ["a", "b"][i % 2]);
    assert.equal(Number(row.confidence), result.confidence[i]);
    assert.equal(Number(row.novelty), result.novelty[i]);
    assert.equal(row.map_label, "a");
    assert.equal(Number(row.radius), result.radius[i]);
    assert.equal(single("lower_1"), result.lower[2 * i]);
    assert.equal(single("lower_2"), result.lower[2 * i + 1]);
    assert.equal(single("upper_1"), result.upper[2 * i]);
    assert.equal(single("upper_2"), result.upper[2 * i + 1]);
  });
  const verdicts = ["certain", "likely", "not in the reference", "between a and b"];
  assert.deepEqual(rows.map((row) => row.verdict), verdicts);
});

test("names with commas, quotes and line breaks stay whole", () => {
  const names = ['a,"b"', "two\nlines", "two\r\nlines", " spaces ", "Zellé, 細胞"];
  const rows = parsed(resultOf(names, ['T cells, "CD4"', "b"]));
  assert.deepEqual(rows.map((row) => row.cell), names);
  assert.equal(rows[0].label, 'T cells, "CD4"');
});

test("no name is a formula", () => {
  for (const start of ["=", "+", "-", "@", "\t=", "\r="]) {
    const field = textField(`${start}HYPERLINK(1)`);
    assert.match(field, /^"?'/);
  }
  assert.equal(textField("AAAC-1"), "AAAC-1");
  assert.equal(textField("=1,2"), `"'=1,2"`);
  const rows = parsed(resultOf(["=cmd", "x", "y", "z"], ["@a", "-b"]));
  assert.deepEqual(Object.values(rows[0]).filter((text) => /^[=+@]/.test(text)), []);
  assert.equal(rows[0].label, "'@a");
  assert.equal(rows[1].label, "'-b");
});

test("pieces end in whole lines, and hold each cell once", () => {
  const names = Array.from({ length: 25_001 }, (_, i) => `cell ${i}`);
  const pieces = csvOf(resultOf(names));
  assert.ok(pieces.length > 2);
  for (const piece of pieces) assert.ok(piece.endsWith("\r\n"));
  const first = pieces.join("").trimEnd().split("\r\n").slice(1).map((line) => line.split(",")[0]);
  assert.deepEqual(first, names);
});

test("the file is called after that of the counts", () => {
  assert.equal(csvName("my.cells.h5ad"), "my.cells_mapped.csv");
  assert.equal(csvName("matrix.mtx.gz"), "matrix_mapped.csv");
  assert.equal(csvName(".csv"), "cells_mapped.csv");
});
