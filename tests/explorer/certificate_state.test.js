// Choices of the reader lead to the right states, and movements between them end where they must.

import assert from "node:assert/strict";
import test from "node:test";

import {
  guidedStates, LITTLE, MUCH, nextCell, NORMS, same, stepOf, withNorm,
} from "../../rpumap/explorer/src/certificate/state.js";
import { ease, mix } from "../../rpumap/explorer/src/certificate/tween.js";

test("another norm keeps the share of the largest eps, and the way back leads to the same", () => {
  const state = { cell: 3, eps: 0.1, norm: "linf", model: 2 };
  assert.deepEqual(withNorm(state, "l1"), { cell: 3, eps: 5, norm: "l1", model: 2 });
  for (const norm of Object.keys(NORMS)) {
    assert.ok(same(withNorm(withNorm(state, norm), "linf"), state));
  }
});

test("the slider can stand where the guided steps lead", () => {
  for (const eps of [LITTLE, MUCH]) {
    const steps = eps / stepOf("linf");
    assert.ok(Math.abs(steps - Math.round(steps)) < 1e-9);
    assert.ok(eps <= NORMS.linf.most);
  }
});

test("guided steps show the same cell: more noise, and then a robust map", () => {
  const [first, second, third] = guidedStates(9, 3);
  assert.deepEqual(second, { ...first, eps: MUCH });
  assert.deepEqual(third, { ...second, model: 3 });
  assert.equal(first.cell, 9);
  assert.ok(!same(first, second) && !same(second, third));
});

test("an arrow leads to the nearest cell in its direction", () => {
  const map = [0, 0, 5, 0, 2, 3, 1, -4, -3, 0, 3, 2];
  assert.equal(nextCell(map, 0, [1, 0]), 5, "not to that above, which is nearer");
  assert.equal(nextCell(map, 0, [0, 1]), 2);
  assert.equal(nextCell(map, 0, [0, -1]), 3);
  assert.equal(nextCell(map, 0, [-1, 0]), 4);
  assert.equal(nextCell(map, 1, [1, 0]), 1, "there is none further to the right");
});

test("a mixture begins and ends where it must, and takes what is new as it is", () => {
  const from = { a: [0, 10] };
  const to = { a: Float64Array.of(4, 20), b: Float64Array.of(1) };
  assert.deepEqual(mix(from, to, 0), { a: Float64Array.of(0, 10), b: Float64Array.of(1) });
  assert.deepEqual(mix(from, to, 0.25), { a: Float64Array.of(1, 12.5), b: Float64Array.of(1) });
  assert.deepEqual(mix(from, to, 1), to);
  assert.deepEqual([0, 0.5, 1].map(ease), [0, 0.5, 1]);
});
