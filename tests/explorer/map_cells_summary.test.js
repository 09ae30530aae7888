// Cells are counted, and remarked on as Python's ReferenceMap does.

import assert from "node:assert/strict";
import test from "node:test";

import { countCells, remarksOn } from "../../rpumap/explorer/src/map_cells/summary.js";

test("verdicts and labels are counted, the commonest label first", () => {
  const label = [2, 2, 0, 2, 0, 3];
  const verdict = [0, 1, 2, 3 + 6, 0, 2];
  const { verdicts, byLabel } = countCells({ n: 6, label, verdict, labels: [..."abcd"] });
  assert.deepEqual(verdicts, [2, 1, 2, 1]);
  assert.deepEqual(byLabel, [
    { code: 2, n: 3, nCertain: 1, nNew: 0 },
    { code: 0, n: 2, nCertain: 1, nNew: 1 },
    { code: 3, n: 1, nCertain: 0, nNew: 1 },
  ]);
});

test("it is said if more than half of ten or more cells are unlike the reference", () => {
  const of = (nNew, n) => {
    return { n, novelty: Float64Array.from({ length: n }, (_, i) => (i < nNew ? 1.1 : 1)) };
  };
  assert.match(remarksOn(of(6, 10), 1)[0], /^60% of the cells are unlike those of the reference/);
  assert.deepEqual(remarksOn(of(5, 10), 1), []);
  assert.deepEqual(remarksOn(of(9, 9), 1), []);
});

test("it is said if the reference cannot tell novelty", () => {
  const cells = { n: 20, novelty: new Float64Array(20) };
  assert.match(remarksOn(cells, Infinity)[0], /no cell is called 'not in the reference'/);
});
