// What goes wrong in a browser is put into words that help.

import assert from "node:assert/strict";
import test from "node:test";

import { inWords } from "../../rpumap/explorer/src/map_cells/failures.js";

const named = (name, message) => Object.assign(new Error(message), { name });

test("our own errors say it themselves", () => {
  for (const name of ["InputError", "ReferenceFileError"]) {
    assert.equal(inWords(named(name, "a.csv is empty")), "a.csv is empty");
  }
});

test("a lack of memory is called so, whoever noticed it", () => {
  let found;
  try {
    new Float32Array(2 ** 52);
  } catch (error) {
    found = error;
  }
  for (const error of [
    found,
    new RangeError("Array buffer allocation failed"),
    new RangeError("Invalid array length"),
    named("RuntimeError", "memory access out of bounds"),
    named("RuntimeError", "Aborted(OOM)"),
  ]) {
    assert.match(inWords(error), /not enough memory/, error.message);
  }
});

test("a file that is gone is called so", () => {
  assert.match(inWords(named("NotReadableError", "gone")), /Choose it again/);
});

test("other errors are not hidden", () => {
  assert.match(inWords(new RangeError("cells need 300 values")), /cells need 300 values/);
  assert.match(inWords(new TypeError("x is undefined")), /x is undefined/);
  assert.doesNotMatch(inWords(new TypeError("x is undefined")), /memory/);
});
