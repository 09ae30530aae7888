// What is said of cells is what Python says of them.

import assert from "node:assert/strict";
import test from "node:test";

import {
  BETWEEN,
  CERTAIN,
  LIKELY,
  NEW,
  labelsOnMap,
  mapCells,
  scale,
  standardize,
  verdictName,
  zScores,
} from "../../rpumap/explorer/src/core/cell_mapper.js";
import { crown } from "../../rpumap/explorer/src/core/bounds.js";
import { readReference } from "../../rpumap/explorer/src/core/reference.js";
import { assertClose, golden, goldenBytes } from "./golden.js";

const { about, array } = golden("cells");
const reference = readReference(goldenBytes("small.rpumap"), "small.rpumap");
const nGenes = about.genes.length;
const AS_IN_PYTHON = ["coordinates", "label", "map_label"];
const camel = (name) => name.replace("_l", "L");

for (const query of about.queries) {
  const of = (name) => array(`${query}.${name}`);
  const [panel, librarySize] = [of("panel"), of("library_size")];
  const n = librarySize.length;

  test(`z-scores of ${query} are those of Python`, () => {
    const scaled = scale(reference, panel, librarySize);
    assertClose(scaled.map((v) => v || 0), of("scaled").map((v) => v || 0), 1e-15, "scaled", 1);
    assert.deepEqual(scaled.map(Number.isNaN), of("scaled").map(Number.isNaN));
    assertClose(zScores(reference, scaled), of("z"), 1e-7, "z", 1);
    const own = standardize(reference, panel, librarySize, 7);
    assertClose(own, of("z").subarray(7 * nGenes, 8 * nGenes), 1e-7, "z of one cell", 1);
  });

  for (const eps of about.eps) {
    const said = (name) => of(`${eps}.${name}`);
    const cells = mapCells(reference, panel, librarySize, { eps });

    test(`${query} is placed and labelled as in Python, with boxes of ${eps}`, () => {
      assert.equal(cells.n, n);
      for (const name of AS_IN_PYTHON) assert.deepEqual(cells[camel(name)], said(name), name);
      assertClose(cells.confidence, said("confidence"), 1e-15, "confidence", 1);
      assertClose(cells.novelty, said("novelty"), 1e-9, "novelty", 1);
      for (const end of ["lower", "upper"]) {
        assertClose(cells[end], said(`real_${end}`), 1e-6, end, 2);
      }
      // there with what single precision may do, here with what double precision may do
      assertClose(cells.radius, said("radius"), 0.02, "radius", 1);
    });

    test(`boxes of ${query} of ${eps} hold those of real numbers, and the cells`, () => {
      const { lower, upper, coordinates } = cells;
      for (let i = 0; i < 2 * n; i++) {
        assert.ok(lower[i] <= said("real_lower")[i] && said("real_upper")[i] <= upper[i]);
        assert.ok(lower[i] <= coordinates[i] && coordinates[i] <= upper[i]);
      }
    });

    test(`verdicts on ${query} at ${eps} are those of Python`, () => {
      let nMore = 0;
      cells.verdict.forEach((verdict, i) => {
        const expected = said("verdict")[i];
        // smaller boxes and finer cuts can show a little more
        if (verdict === CERTAIN && expected === LIKELY) nMore++;
        else assert.equal(verdict, expected, `cell ${i}`);
      });
      assert.ok(nMore <= 0.03 * n, `${nMore} of ${n} are certain in addition`);
    });
  }
}

test("every verdict occurs in these tests", () => {
  const verdicts = about.queries.flatMap((query) => Array.from(array(`${query}.0.05.verdict`)));
  for (const verdict of [CERTAIN, LIKELY, NEW]) assert.ok(verdicts.includes(verdict));
  assert.ok(verdicts.some((verdict) => verdict >= BETWEEN));
});

test("only a label that is the same by the index and on the map is certain", () => {
  const mirrored = { ...reference, coordinates: reference.coordinates.map((value) => -value) };
  const cells = mapCells(mirrored, array("whole.panel"), array("whole.library_size"), { eps: 0 });
  const isCertain = labelsOnMap(mirrored).certain(cells.lower, cells.upper, cells.n);
  const all = Array.from(cells.verdict.keys());
  const differ = all.filter((i) => cells.label[i] !== cells.mapLabel[i]);
  assert.ok(differ.some((i) => isCertain[i] && cells.verdict[i] === LIKELY));
  assert.ok(differ.every((i) => cells.verdict[i] !== CERTAIN));
});

test("cells are told the same alone and among others, and progress is reported", () => {
  const [panel, size] = [array("whole.panel"), array("whole.library_size")];
  const reports = [];
  const all = mapCells(reference, panel, size, { onProgress: (...report) => reports.push(report) });
  assert.deepEqual(reports.at(-1), [size.length, size.length]);
  assert.ok(reports.length > 1 && reports[0][0] < size.length);
  const cell = 300; // not of the first block
  const counts = panel.subarray(cell * nGenes, (cell + 1) * nGenes);
  const own = mapCells(reference, counts, size.subarray(cell, cell + 1));
  for (const [name, values] of Object.entries(own)) {
    if (name === "n") continue;
    const width = values.length;
    assert.deepEqual(values, all[name].subarray(cell * width, (cell + 1) * width), name);
  }
});

test("no cells are mapped to nothing, and what does not fit is refused", () => {
  const none = mapCells(reference, new Float32Array(0), new Float64Array(0));
  assert.equal(none.coordinates.length, 0);
  const counts = new Float32Array(nGenes);
  assert.throws(() => mapCells(reference, counts, new Float64Array(2)), /2 cells need 200 counts/);
  const wrong = { eps: -1 };
  const size = new Float64Array(1);
  assert.throws(() => mapCells(reference, counts, size, wrong), /eps must be 0 or more/);
});

test("a cell with values beyond all numbers is mapped without certificate", () => {
  const counts = new Float32Array(nGenes).fill(3e38);
  const cells = mapCells(reference, counts, Float64Array.of(1e-30));
  assert.notEqual(cells.verdict[0], CERTAIN);
  assert.ok(!(cells.radius[0] < 1e30));
});

test("linear bounds of one cell are tighter, and certain labels are found in them", () => {
  const [panel, size] = [array("whole.panel"), array("whole.library_size")];
  const all = mapCells(reference, panel, size);
  const cell = all.verdict.indexOf(CERTAIN);
  const x = standardize(reference, panel, size, cell);
  const { lower, upper } = crown(reference.layers, x, { eps: 0.05 });
  assert.ok(upper[0] - lower[0] < all.upper[2 * cell] - all.lower[2 * cell]);
  assert.deepEqual(Array.from(labelsOnMap(reference).certain(lower, upper, 1)), [1]);
  assert.equal(labelsOnMap(reference), labelsOnMap(reference));
});

test("verdicts have names", () => {
  const names = [CERTAIN, LIKELY, NEW, BETWEEN + 2, BETWEEN + 5].map((verdict) => {
    return verdictName(verdict, ["a", "b", "c"]);
  });
  const between = ["between a and c", "between b and c"];
  assert.deepEqual(names, ["certain", "likely", "not in the reference", ...between]);
});
