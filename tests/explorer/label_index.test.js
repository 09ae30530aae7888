// The index of a reference says what it says in Python.

import assert from "node:assert/strict";
import test from "node:test";

import { indexCoordinates, queryIndex } from "../../rpumap/explorer/src/core/label_index.js";
import { readReference } from "../../rpumap/explorer/src/core/reference.js";
import { assertClose, golden, goldenBytes } from "./golden.js";

const { about, array } = golden("cells");
const reference = readReference(goldenBytes("small.rpumap"), "small.rpumap");
const nLabels = about.labels.length;

for (const query of about.queries) {
  const of = (name) => array(`${query}.${name}`);
  const n = of("library_size").length;

  test(`coordinates of ${query} in the index are those of Python`, () => {
    const found = indexCoordinates(reference, of("scaled"), n);
    assertClose(found, of("index_coordinates"), 1e-6, query, 30);
  });

  test(`what the index says of ${query} is what it says in Python`, () => {
    const found = queryIndex(reference, of("index_coordinates"), n);
    assert.deepEqual(found.label, of("0.05.label"));
    assertClose(found.confidence, of("0.05.confidence"), 1e-15, "confidence", 1);
    assertClose(found.novelty, of("0.05.novelty"), 1e-12, "novelty", 1);
    assertClose(found.strangeness, of("strangeness"), 1e-12, "strangeness", nLabels);
  });
}

test("a cell is told the same whatever comes before it", () => {
  const coordinates = array("few.index_coordinates");
  const n = coordinates.length / 30;
  const all = queryIndex(reference, coordinates, n);
  for (const cell of [0, 5, n - 1]) {
    const own = queryIndex(reference, coordinates.subarray(30 * cell, 30 * (cell + 1)), 1);
    assert.equal(own.novelty[0], all.novelty[cell]);
    assert.deepEqual(
      own.strangeness,
      all.strangeness.subarray(cell * nLabels, (cell + 1) * nLabels),
    );
  }
});

test("one label is never strange, and one space is enough", () => {
  const [space] = reference.spaces;
  const alone = {
    ...reference,
    labels: ["all"],
    codes: new Int32Array(reference.codes.length),
    spaces: [{ ...space, usual: Float64Array.of(2) }],
    threshold: Infinity,
  };
  const coordinates = space.cells.slice(0, space.nComponents);
  const found = queryIndex(alone, coordinates, 1);
  assert.deepEqual([found.label[0], found.confidence[0], found.novelty[0]], [0, 1, 0]);
  assert.deepEqual(Array.from(found.strangeness), [0]);
});

test("an eighth of the stored cells votes, where that is between 5 and 30", () => {
  for (const [n, k] of [[39, 5], [96, 12], [103, 12], [400, 30]]) {
    const one = {
      ...reference,
      labels: ["near", "far"],
      codes: Int32Array.from({ length: n }, (_, i) => (i === 0 ? 0 : 1)),
      genes: ["gene"],
      spaces: [{
        projection: Float32Array.of(1),
        cells: Float32Array.from({ length: n }, (_, i) => i),
        usual: Float64Array.of(1, 1),
        nComponents: 1,
      }],
    };
    const { label, confidence } = queryIndex(one, Float32Array.of(0), 1);
    assert.deepEqual([label[0], confidence[0]], [1, (k - 1) / k], `${n} stored cells`);
  }
});

test("labels with fewer stored cells than are asked for are told apart", () => {
  // 12 cells, of which one has a label of its own: 5 vote
  const cells = Float32Array.from({ length: 12 }, (_, i) => (i < 11 ? i : 100));
  const few = {
    ...reference,
    labels: ["many", "one"],
    codes: Int32Array.from({ length: 12 }, (_, i) => (i < 11 ? 0 : 1)),
    genes: ["gene"],
    spaces: [{
      projection: Float32Array.of(1),
      cells,
      usual: Float64Array.of(1, 1),
      nComponents: 1,
    }],
    threshold: 1,
  };
  const found = queryIndex(few, Float32Array.of(100), 1);
  assert.equal(found.label[0], 0);
  assert.equal(found.confidence[0], 0.8);
  assert.ok(Math.abs(found.novelty[0] - (0 + 90 + 91 + 92 + 93) / 5) < 1e-9);
  const [many, one] = [Math.log(92 + 1e-9), Math.log(1e-9)];
  assertClose(found.strangeness, [many - one, one - many], 1e-12, "strangeness");
});
