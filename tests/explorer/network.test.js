// The network: coordinates are those of PyTorch in double precision, and gradients are slopes.

import assert from "node:assert/strict";
import test from "node:test";

import { forward, gradient } from "../../rpumap/explorer/src/core/network.js";
import { assertClose } from "./golden.js";
import { networks } from "./networks.js";

for (const { name, layers, X, nCells, nOut, array, cells, directions } of networks) {
  test(`coordinates of ${name} are those of PyTorch`, () => {
    assertClose(forward(layers, X, nCells), array("forward"), 1e-13, name);
  });

  test(`gradients of ${name} are differences`, () => {
    const [x, direction] = [Float64Array.from(cells[0]), directions[0]];
    const along = (point) => forward(layers, point, 1).reduce((s, z, j) => s + z * direction[j], 0);
    const { value, slope } = gradient(layers, x, direction);
    assertClose([value], [along(x)], 1e-12, "value");
    const differences = x.map((_, i) => {
      const [more, less] = [1e-6, -1e-6].map((h) => x.map((v, j) => (i === j ? v + h : v)));
      return (along(more) - along(less)) / 2e-6;
    });
    assertClose(slope, differences, 1e-7, "slope");
    assert.equal(nOut, direction.length);
  });
}

test("many cells are mapped as each one is", () => {
  const { layers, cells, nOut } = networks[1];
  const n = 150; // more than are taken at a time
  const X = Float32Array.from({ length: n * cells[0].length }, (_, i) => Math.sin(i * i));
  const all = forward(layers, X, n);
  for (const cell of [0, 63, 64, 149]) {
    const own = forward(layers, X.subarray(cell * 20, (cell + 1) * 20), 1);
    assert.deepEqual(all.subarray(cell * nOut, (cell + 1) * nOut), own);
  }
});

test("layers and cells that do not fit are refused", () => {
  const { layers, X, nCells } = networks[1];
  assert.throws(() => forward(layers, X, nCells + 1), /4 cells need 80 values, 20 each, got 60/);
  assert.throws(() => forward([], X, nCells), /one layer or more/);
  const mixed = [layers[0], layers[2], layers[1]];
  assert.throws(() => forward(mixed, X, nCells), /layer 2 of the network must have 16 x 2 weights/);
  const short = [{ ...layers[0], bias: layers[0].bias.subarray(1) }, ...layers.slice(1)];
  assert.throws(() => forward(short, X, nCells), /layer 0 .* 16 biases, got 320 and 15/);
});
