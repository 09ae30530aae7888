// What Python computes, as golden.py writes it into the folder that GOLDEN names.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { readSafetensors } from "../../rpumap/explorer/src/core/safetensors.js";

const folder = process.env.GOLDEN;
assert.ok(folder, "GOLDEN must name a folder in which tests/explorer/golden.py has written");

/** Read a file of the folder. */
export function goldenBytes(name) {
  return new Uint8Array(readFileSync(join(folder, name)));
}

/** Read what is known of a file of arrays, and a function from names to their numbers. */
export function golden(name) {
  const { tensors } = readSafetensors(goldenBytes(`${name}.safetensors`));
  const about = JSON.parse(new TextDecoder().decode(goldenBytes("golden.json")))[name];
  return {
    about,
    array(key) {
      assert.ok(tensors.has(key), `golden.py writes no ${key} into ${name}.safetensors`);
      return tensors.get(key).data;
    },
  };
}

/**
 * Assert that numbers are those of Python, up to a share of the largest of a row.
 *
 * @param {ArrayLike<number>} found
 * @param {ArrayLike<number>} expected
 * @param {number} tolerance
 * @param {string} what for messages
 * @param {number} [width] numbers in a row; by default all are one
 */
export function assertClose(found, expected, tolerance, what, width = expected.length) {
  assert.equal(found.length, expected.length, `${what}: number of values`);
  for (let start = 0; start < expected.length; start += width) {
    const row = Array.from(expected.slice(start, start + width));
    const scale = Math.max(...row.map(Math.abs), Number.MIN_VALUE);
    row.forEach((value, i) => {
      const error = Math.abs(found[start + i] - value) / scale;
      const isSame = found[start + i] === value || error <= tolerance;
      assert.ok(isSame, `${what}, ${start + i}: ${found[start + i]} is not ${value} (${error})`);
    });
  }
}
