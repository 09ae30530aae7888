// Files of arrays: every type, any place, and nothing that does not fit together.

import assert from "node:assert/strict";
import test from "node:test";

import { readSafetensors } from "../../rpumap/explorer/src/core/safetensors.js";

/** Write a file from a header, or the text of one, and bytes. */
function fileOf(header, data = new Uint8Array(0)) {
  const json = typeof header === "string" ? header : JSON.stringify(header);
  const text = new TextEncoder().encode(json);
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setUint32(0, text.length, true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

function info(dtype, shape, start, end) {
  return { dtype, shape, data_offsets: [start, end] };
}

test("every type is read, wherever its bytes lie", () => {
  const parts = {
    odd: ["U8", Uint8Array.of(7, 255, 1)], // what follows it is not aligned
    F64: ["F64", Float64Array.of(0.1, -1e300)],
    F32: ["F32", Float32Array.of(0.5, -3e38)],
    I64: ["I64", BigInt64Array.of(-(2n ** 60n), 3n)],
    I32: ["I32", Int32Array.of(-5, 2 ** 30)],
    U16: ["U16", Uint16Array.of(1, 65535)],
  };
  const header = {};
  const data = [];
  for (const [name, [dtype, values]] of Object.entries(parts)) {
    const bytes = new Uint8Array(values.buffer);
    header[name] = info(dtype, [values.length], data.length, data.length + bytes.length);
    data.push(...bytes);
  }
  const whole = fileOf({ __metadata__: { a: "b" }, ...header }, Uint8Array.from(data));
  const within = new Uint8Array(whole.length + 3);
  within.set(whole, 3);
  for (const bytes of [whole, within.subarray(3), Buffer.from(whole)]) {
    const { metadata, tensors } = readSafetensors(bytes);
    assert.deepEqual(metadata, { a: "b" });
    for (const [name, [dtype, values]] of Object.entries(parts)) {
      assert.deepEqual(tensors.get(name).data, values);
      assert.equal(tensors.get(name).dtype, dtype);
      assert.deepEqual(tensors.get(name).shape, [values.length]);
    }
  }
});

test("numbers are copies", () => {
  const bytes = fileOf({ a: info("U8", [2], 0, 2) }, Uint8Array.of(1, 2));
  const { tensors } = readSafetensors(bytes);
  bytes.fill(0);
  assert.deepEqual(Array.from(tensors.get("a").data), [1, 2]);
});

test("half precision becomes numbers", () => {
  // 1, -2, the largest, the smallest, 0, infinity
  const bits = Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x0001, 0x8000, 0x7c00, 0x7e00);
  const bytes = fileOf({ a: info("F16", [7], 0, 14) }, new Uint8Array(bits.buffer));
  const numbers = Array.from(readSafetensors(bytes).tensors.get("a").data);
  assert.deepEqual(numbers, [1, -2, 65504, 2 ** -24, -0, Infinity, NaN]);
});

test("shapes without numbers, and of one number, are read", () => {
  const header = { none: info("F32", [0, 3], 0, 0), one: info("F32", [], 0, 4) };
  const { tensors } = readSafetensors(fileOf(header, new Uint8Array(4)));
  assert.equal(tensors.get("none").data.length, 0);
  assert.deepEqual(Array.from(tensors.get("one").data), [0]);
  assert.equal(readSafetensors(fileOf({})).tensors.size, 0);
});

const four = new Uint8Array(4);
const two = { a: info("U8", [2], 0, 2), b: info("U8", [2], 2, 4) };
for (const [what, bytes, message] of [
  ["nothing", new Uint8Array(0), /0 bytes only/],
  ["a few bytes", Uint8Array.of(1, 2, 3), /3 bytes only/],
  ["an endless header", Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 1, 65), /length of its header/],
  ["half a header", fileOf(two, four).subarray(0, 40), /ends within its header/],
  ["half an array", fileOf(two, four).subarray(0, -1), /ends within the array b/],
  ["something after it", fileOf(two, new Uint8Array(5)), /1 bytes after the last array/],
  ["no JSON", fileOf("{a"), /JSON/],
  ["no text", fileOf("\u0000").fill(255, 8), /valid|encoded/],
  ["a list", fileOf("[]"), /no JSON object/],
  ["metadata that are no texts", fileOf({ __metadata__: { a: 1 } }), /metadata/],
  ["an unknown type", fileOf({ a: info("BF16", [2], 0, 4) }, four), /unknown type BF16/],
  ["a type of JavaScript", fileOf({ a: info("toString", [], 0, 4) }, four), /unknown type/],
  ["no array", fileOf({ a: 3 }), /unknown type undefined/],
  ["a negative shape", fileOf({ a: info("U8", [-2, -2], 0, 4) }, four), /a has no shape/],
  ["a text as shape", fileOf({ a: info("U8", "4", 0, 4) }, four), /a has no shape/],
  ["too few bytes", fileOf({ a: info("F32", [2], 0, 4) }, four), /must take 8 bytes, not 4/],
  ["one offset", fileOf({ a: { dtype: "U8", shape: [4], data_offsets: [0] } }, four), /no place/],
  ["fractions", fileOf({ a: info("U8", [0], 0.5, 0.5) }, four), /no place/],
  ["an overlap", fileOf({ ...two, b: info("U8", [2], 1, 3) }, four), /b does not begin where/],
  ["a gap", fileOf({ b: two.b }, four), /b does not begin where/],
]) {
  test(`${what} is refused`, () => assert.throws(() => readSafetensors(bytes), message));
}
