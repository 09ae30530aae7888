// The file of a reference map: read as Python reads it, and refused where it is damaged.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { gzipSync } from "node:zlib";

import { sha256 } from "../../rpumap/explorer/node_modules/@noble/hashes/sha2.js";
import { ReferenceFileError, readReference } from "../../rpumap/explorer/src/core/reference.js";
import { readSafetensors } from "../../rpumap/explorer/src/core/safetensors.js";
import { golden, goldenBytes } from "./golden.js";

const bytes = goldenBytes("small.rpumap");
const { about } = golden("cells");

test("a reference holds what Python wrote", () => {
  const reference = readReference(bytes, "small.rpumap");
  assert.equal(reference.fileName, "small.rpumap");
  assert.deepEqual(reference.genes, about.genes);
  assert.deepEqual(reference.labels, about.labels);
  const { tensors } = readSafetensors(bytes);
  const arrays = {
    "genes.mean": reference.mean,
    "genes.std": reference.std,
    "genes.mean_of_logs": reference.meanOfLogs,
    "genes.std_of_logs": reference.stdOfLogs,
    "cells.labels": reference.codes,
    "cells.map": reference.coordinates,
    "index.1.cells": reference.spaces[1].cells,
    "index.0.projection": reference.spaces[0].projection,
    "index.1.usual": reference.spaces[1].usual,
    "network.2.weight": reference.layers[1].weight,
    "network.4.bias": reference.layers[2].bias,
  };
  for (const [name, array] of Object.entries(arrays)) {
    assert.deepEqual(array, tensors.get(name).data, name);
  }
  assert.deepEqual(reference.layers.map(({ nIn, nOut }) => [nIn, nOut]), [
    [100, 128], [128, 128], [128, 2],
  ]);
  assert.deepEqual(reference.spaces.map(({ nComponents }) => nComponents), [10, 20]);
  assert.equal(reference.targetSum, 10000);
  assert.equal(reference.parameters.n_top_genes, 100);
  assert.equal(reference.librarySizeStored, true);
  for (const name of ["threshold", "quantile", "panel_share"]) {
    const camel = name.replace("_s", "S");
    assert.equal(reference[camel], about[name], name);
  }
  // what is said of it stands in its card
  const { quality } = reference;
  assert.match(about.card, new RegExp(`${quality.n_cells} cells that were held out`));
  assert.match(about.card, new RegExp(`of the map: ${quality.trust.toFixed(3)}`));
  assert.match(about.card, new RegExp(`rpumap ${reference.about.rpumap}, from`));
});

for (const version of [1, 2]) {
  test(`files of version ${version} are read`, () => {
    const path = new URL(`../data/reference_v${version}.rpumap`, import.meta.url);
    const reference = readReference(readFileSync(path), "old.rpumap");
    const nComponents = reference.spaces.map((space) => space.nComponents);
    assert.deepEqual(nComponents, version === 1 ? [10] : [10, 20]);
    assert.equal(reference.genes.length, 40);
    assert.equal(reference.coordinates.length, 2 * reference.codes.length);
  });
}

// --- files that are none ------------------------------------------------------------------------

function refusal(data) {
  let said;
  assert.throws(
    () => readReference(data, "a.rpumap"),
    (error) => {
      said = error.message;
      return error instanceof ReferenceFileError && said.includes("a.rpumap");
    },
  );
  return said;
}

const ascii = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
for (const [what, data, message] of [
  ["an empty file", new Uint8Array(0), /^a\.rpumap is empty$/],
  ["an HDF5 file", ascii("\x89HDF\r\n\x1a\n rest"), /an HDF5 file, as AnnData writes/],
  ["a zip archive", ascii("PK\x03\x04 rest"), /zip archive/],
  ["a pickle", ascii("\x80\x04\x95 rest"), /pickle, which could run code/],
  ["a gzip file", gzipSync(bytes), /compressed with gzip: decompress it first/],
  ["a text", ascii("cell,x,y\n1,2,3\n"), /no reference map, or is damaged or cut short/],
]) {
  test(`${what} is refused`, () => assert.match(refusal(data), message));
}

test("a file that is cut short anywhere is refused", () => {
  for (let length = 0; length < bytes.length; length += Math.ceil(bytes.length / 97)) {
    refusal(bytes.subarray(0, length));
  }
  assert.match(refusal(bytes.subarray(0, -1)), /cut short \(the file ends within the array/);
});

test("a file with one changed byte is refused, wherever it is", () => {
  for (let at = 0; at < bytes.length; at += Math.ceil(bytes.length / 97)) {
    const damaged = bytes.slice();
    damaged[at] ^= 4;
    refusal(damaged);
  }
  const damaged = bytes.slice();
  damaged[bytes.length - 1] ^= 1;
  assert.match(refusal(damaged), /damaged: its checksum is not that of its content/);
});

// --- files with other contents, whose checksum is right -----------------------------------------

const NAMES = { F64: "float64", F32: "float32", I32: "int32", F16: "float16" };

/** Write a reference anew, as rpumap/reference/file.py does, after a change of its parts. */
function rewritten({ change = () => {}, entry = (about) => about, header = (text) => text } = {}) {
  const { metadata, tensors } = readSafetensors(bytes);
  const own = JSON.parse(metadata.rpumap);
  const parts = { header: JSON.parse(own.header), tensors };
  change(parts);
  const text = header(JSON.stringify(parts.header));
  const names = [...tensors.keys()].sort();
  const digest = sha256.create().update(new TextEncoder().encode(text));
  for (const name of names) {
    const { dtype, shape, bytes: data } = tensors.get(name);
    const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
    digest.update(new TextEncoder().encode(`\n${name} ${NAMES[dtype]} ${tuple}\n`)).update(data);
  }
  const about = { ...own, header: text, sha256: Buffer.from(digest.digest()).toString("hex") };
  return written(names.map((name) => [name, tensors.get(name)]), entry(about));
}

function written(arrays, about) {
  const header = { __metadata__: about === undefined ? {} : { rpumap: JSON.stringify(about) } };
  let size = 0;
  for (const [name, { dtype, shape, bytes: data }] of arrays) {
    header[name] = { dtype, shape, data_offsets: [size, size + data.length] };
    size += data.length;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeUInt32LE(text.length);
  return new Uint8Array(Buffer.concat([length, text, ...arrays.map(([, { bytes: b }]) => b)]));
}

/** Return a tensor with one number changed. */
function withNumber(tensor, place, value) {
  const data = tensor.data.slice();
  data[place] = value;
  return { ...tensor, bytes: new Uint8Array(data.buffer) };
}

function changed(name, place, value) {
  return ({ tensors }) => tensors.set(name, withNumber(tensors.get(name), place, value));
}

test("what is written anew is read", () => {
  const reference = readReference(rewritten(), "a.rpumap");
  assert.deepEqual(reference, readReference(bytes, "a.rpumap"));
});

test("null is an infinite threshold", () => {
  const change = ({ header }) => Object.assign(header, { threshold: null, quantile: null });
  const reference = readReference(rewritten({ change }), "a.rpumap");
  assert.deepEqual([reference.threshold, reference.quantile], [Infinity, Infinity]);
});

test("names in any script are read", () => {
  const change = ({ header }) => header.labels.splice(0, 1, "β-Zellen 細胞");
  assert.equal(readReference(rewritten({ change }), "a.rpumap").labels[0], "β-Zellen 細胞");
});

for (const [what, change, message] of [
  ["a newer version", { entry: (a) => ({ ...a, format: "rpumap reference map, version 3" }) },
    /has version 3 of the format, and this page reads versions up to 2: use the page of a newer/],
  ["another format", { entry: (a) => ({ ...a, format: "rpumap reference map, version 02" }) },
    /a safetensors file, but holds no reference map/],
  ["no format", { entry: () => ({}) }, /a safetensors file, but holds no reference map/],
  ["no entry", { entry: () => undefined }, /a safetensors file, but holds no reference map/],
  ["an entry that is no object", { entry: () => [1] }, /its entry 'rpumap' is no JSON object/],
  ["an entry with numbers", { entry: (a) => ({ ...a, more: 1 }) }, /is no JSON object of texts/],
  ["no checksum", { entry: ({ sha256: _, ...rest }) => rest }, /its checksum is not/],
  ["a header that is no JSON", { header: () => "{" }, /the header of a\.rpumap cannot be read/],
  ["a header that is a list", { header: () => "[]" }, /header of a\.rpumap is no JSON object/],
  ["another type of numbers", { change: ({ tensors }) => {
    const { shape, data } = tensors.get("cells.map");
    const wide = new Uint8Array(Float64Array.from(data).buffer);
    tensors.set("cells.map", { dtype: "F64", shape, bytes: wide });
  } }, /cells\.map must be float32 of shape \(\d+, 2\), not float64/],
  ["a missing array", { change: ({ tensors }) => tensors.delete("genes.mean") },
    /missing or unknown: genes\.mean\)/],
  ["no stored cells", { change: ({ tensors }) => tensors.delete("index.0.cells") },
    /array index\.0\.cells is missing/],
  ["an unknown array", { change: ({ tensors }) => tensors.set("more", tensors.get("genes.std")) },
    /missing or unknown: more\)/],
  ["another shape", { change: ({ tensors }) => {
    const { bytes: data, ...rest } = tensors.get("genes.mean");
    tensors.set("genes.mean", { ...rest, shape: [99], bytes: data.subarray(0, 99 * 8) });
  } }, /genes\.mean must be float64 of shape \(100\), not float64 of \(99\)/],
  ["NaN", { change: changed("network.0.weight", 5, NaN) }, /network\.0\.weight must be finite/],
  ["infinity", { change: changed("cells.map", 5, Infinity) }, /cells\.map must be finite/],
  ["a spread of 0", { change: changed("genes.std", 5, 0) }, /genes\.std must be above 0/],
  ["a usual distance of 0", { change: changed("index.1.usual", 1, 0) },
    /index\.1\.usual must be above 0/],
  ["a label that is none", { change: changed("cells.labels", 5, 99) },
    /each label must be that of a stored cell/],
  ["a label without cells", { change: ({ header, tensors }) => {
    header.labels.push("nobody");
    for (const i of [0, 1]) {
      const { bytes: data, ...rest } = tensors.get(`index.${i}.usual`);
      const more = new Uint8Array([...data, ...new Uint8Array(Float64Array.of(1).buffer)]);
      tensors.set(`index.${i}.usual`, { ...rest, shape: [rest.shape[0] + 1], bytes: more });
    }
  } }, /each label must be that of a stored cell/],
  ["a gene twice", { change: ({ header }) => header.genes.splice(0, 1, header.genes[1]) },
    /genes must be a list of different texts/],
  ["a gene without name", { change: ({ header }) => header.genes.splice(0, 1, null) },
    /genes must be a list of different texts/],
  ["no labels", { change: ({ header }) => delete header.labels }, /labels must be a list/],
  ["a width of 0", { change: ({ header }) => header.hidden_sizes.splice(0, 1, 0) },
    /hidden_sizes must be a whole number/],
  ["another width", { change: ({ header }) => header.hidden_sizes.splice(0, 1, 127) },
    /network\.0\.weight must be float32 of shape \(127, 100\)/],
  ["no widths", { change: ({ header }) => delete header.hidden_sizes }, /hidden_sizes must be/],
  ["a target sum of 0", { change: ({ header }) => (header.target_sum = 0) }, /target_sum must/],
  ["a threshold that is text", { change: ({ header }) => (header.threshold = "1") },
    /threshold must be a finite number, got "1"/],
  ["no quantile", { change: ({ header }) => delete header.quantile }, /quantile must be/],
  ["no quality", { change: ({ header }) => delete header.quality }, /quality must be an object/],
  ["a score that is none", { change: ({ header }) => (header.quality.trust = null) },
    /quality\.trust must be/],
  ["no source", { change: ({ header }) => delete header.about.source }, /about\.source must be/],
]) {
  test(`${what} is refused`, () => assert.match(refusal(rewritten(change)), message));
}
