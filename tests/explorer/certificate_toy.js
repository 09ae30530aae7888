// A small certificate: 60 cells of three types, 5 genes, a plain network and a flat one.

import { randomNumbers } from "../../rpumap/explorer/src/core/attacks.js";
import { forward } from "../../rpumap/explorer/src/core/network.js";

const SIZES = [5, 8, 6, 2];
const N_CELLS = 60;

/** Layers with random weights; those of the flat network are smaller. */
function layersOf(seed, factor) {
  const random = randomNumbers(seed);
  const draw = (n) => Float32Array.from({ length: n }, () => factor * (2 * random() - 1));
  return SIZES.slice(1).map((nOut, i) => {
    return { weight: draw(SIZES[i] * nOut), bias: draw(nOut), nIn: SIZES[i], nOut };
  });
}

/** Arrays of a certificate by name, each with its shape. */
export function toyArrays() {
  const random = randomNumbers(1);
  const z = Float32Array.from({ length: N_CELLS * SIZES[0] }, () => 4 * random() - 2);
  const arrays = { "cells.z": { shape: [N_CELLS, SIZES[0]], data: z } };
  const networks = [layersOf(2, 1), layersOf(2, 0.5)];
  networks.forEach((layers, model) => {
    layers.forEach(({ weight, bias, nIn, nOut }, i) => {
      arrays[`model.${model}.${2 * i}.weight`] = { shape: [nOut, nIn], data: weight };
      arrays[`model.${model}.${2 * i}.bias`] = { shape: [nOut], data: bias };
    });
    const map = Float32Array.from(forward(layers, z, N_CELLS));
    arrays[`model.${model}.map`] = { shape: [N_CELLS, 2], data: map };
  });
  // types by the place on the plain map: left, middle and right
  const map = arrays["model.0.map"].data;
  const order = [...Array(N_CELLS).keys()].sort((a, b) => map[2 * a] - map[2 * b]);
  const codes = new Int32Array(N_CELLS);
  order.forEach((cell, rank) => (codes[cell] = Math.floor((3 * rank) / N_CELLS)));
  arrays["cells.labels"] = { shape: [N_CELLS], data: codes };
  return arrays;
}

/** What the metadata say of it. */
export const toyAbout = {
  labels: ["Alpha", "Beta", "Delta"],
  strengths: [0, 0.3],
  chosen: 1,
  start: 7,
  source: "toy cells",
};

/** The file of a certificate. */
export function toyBytes(arrays = toyArrays(), about = toyAbout) {
  const header = { __metadata__: { rpumap: JSON.stringify(about) } };
  const parts = [];
  let end = 0;
  for (const [name, { shape, data }] of Object.entries(arrays)) {
    const dtype = data instanceof Int32Array ? "I32" : "F32";
    header[name] = { dtype, shape, data_offsets: [end, (end += data.byteLength)] };
    parts.push(new Uint8Array(data.buffer));
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(new BigUint64Array([BigInt(text.length)]).buffer);
  return new Uint8Array(Buffer.concat([length, text, ...parts]));
}
