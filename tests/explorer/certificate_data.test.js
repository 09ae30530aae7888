// The file of a certificate is read whole, or it is said what is wrong with it.

import assert from "node:assert/strict";
import test from "node:test";

import { readCertificate, valuesOf } from "../../rpumap/explorer/src/certificate/data.js";
import { forward } from "../../rpumap/explorer/src/core/network.js";
import { toyAbout, toyArrays, toyBytes } from "./certificate_toy.js";

test("cells and networks are read, and belong together", () => {
  const data = readCertificate(toyBytes());
  assert.deepEqual([data.nCells, data.nGenes, data.start, data.chosen], [60, 5, 7, 1]);
  assert.deepEqual(data.models.map(({ strength }) => strength), [0, 0.3]);
  for (const { layers, map, range } of data.models) {
    assert.deepEqual(layers.map(({ nIn, nOut }) => [nIn, nOut]), [[5, 8], [8, 6], [6, 2]]);
    const place = Float32Array.from(forward(layers, valuesOf(data, 59), 1));
    assert.deepEqual(place, map.slice(118));
    const [x, y] = [0, 1].map((axis) => map.filter((_, i) => i % 2 === axis));
    assert.deepEqual(range, [Math.min(...x), Math.min(...y), Math.max(...x), Math.max(...y)]);
  }
});

const wrong = [
  ["no z-scores", (arrays) => delete arrays["cells.z"], /the array cells.z is missing/],
  ["a map of other cells", (arrays) => (arrays["model.1.map"].shape = [30, 4]),
    /model.1.map must have shape 60,2, got 30,4/],
  ["layers that do not fit", (arrays) => (arrays["model.0.2.weight"].shape = [8, 6]),
    /layer 2 of network 0 takes 6 values, not 8/],
  ["a network cut short", (arrays) => delete arrays["model.1.4.weight"],
    /network 1 must end in two coordinates/],
  ["a start outside", (arrays, about) => (about.start = 60), /there is no cell 60: there are 60/],
  ["a model outside", (arrays, about) => (about.chosen = 2), /there is no model 2: there are 2/],
  ["an unnamed type", (arrays) => (arrays["cells.labels"].data[3] = 3), /there is no label 3/],
];
for (const [name, spoil, message] of wrong) {
  test(`${name} is an error`, () => {
    const [arrays, about] = [toyArrays(), { ...toyAbout }];
    spoil(arrays, about);
    assert.throws(() => readCertificate(toyBytes(arrays, about)), message);
  });
}
