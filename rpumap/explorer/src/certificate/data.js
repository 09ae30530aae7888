// What the certificate explorer shows, as book/explorer_data.py wrote it: some cells, and networks
// that map them, one plain and the others trained against noise.

import { readSafetensors } from "../core/safetensors.js";

/**
 * @typedef {object} Model
 * @property {number} strength of robust training (lambda of `rpumap.robustify`), 0 for none
 * @property {import("../core/network.js").Layer[]} layers
 * @property {Float32Array} map coordinates of the cells, (nCells x 2)
 * @property {[number, number, number, number]} range of the map: left, bottom, right, top
 *
 * @typedef {object} Certificate
 * @property {string[]} labels names of cell types
 * @property {string} source what the cells are
 * @property {number} nCells
 * @property {number} nGenes
 * @property {Int32Array} codes type of each cell, a place in `labels`
 * @property {Float32Array} z z-scores, (nCells x nGenes)
 * @property {Model[]} models from plain to most robust
 * @property {number} chosen place of the model that stands for robust ones
 * @property {number} start place of the cell that is shown first
 */

/**
 * Read the networks and cells.
 *
 * @param {Uint8Array} bytes a safetensors file
 * @returns {Certificate}
 * @throws {Error} if it is no such file, an array is missing or has another shape than it must
 */
export function readCertificate(bytes) {
  const { metadata, tensors } = readSafetensors(bytes);
  if (metadata.rpumap === undefined) throw new Error("the entry rpumap is missing in its metadata");
  const about = JSON.parse(metadata.rpumap);
  const { shape, data: z } = arrayOf(tensors, "cells.z");
  const [nCells, nGenes] = shape;
  const codes = arrayOf(tensors, "cells.labels", [nCells]).data;
  const models = about.strengths.map((strength, i) => {
    const map = arrayOf(tensors, `model.${i}.map`, [nCells, 2]).data;
    return { strength, layers: layersOf(tensors, i, nGenes), map, range: rangeOf(map) };
  });
  checkPlace("cell", about.start, nCells);
  checkPlace("model", about.chosen, models.length);
  codes.forEach((code) => checkPlace("label", code, about.labels.length));
  const { labels, source, chosen, start } = about;
  return { labels, source, nCells, nGenes, codes, z, models, chosen, start };
}

/**
 * @param {Certificate} data
 * @param {number} cell
 * @returns {Float32Array} its z-scores, (nGenes)
 */
export function valuesOf({ z, nGenes }, cell) {
  return z.subarray(cell * nGenes, (cell + 1) * nGenes);
}

/** Layers by the names of torch: 0, 2, 4 and so on, with a ReLU between each two. */
function layersOf(tensors, model, nGenes) {
  const layers = [];
  for (let nIn = nGenes, i = 0; tensors.has(`model.${model}.${i}.weight`); i += 2) {
    const { data: weight, shape } = arrayOf(tensors, `model.${model}.${i}.weight`);
    const nOut = shape[0];
    if (shape[1] !== nIn) {
      throw new Error(`layer ${i} of network ${model} takes ${shape[1]} values, not ${nIn}`);
    }
    const bias = arrayOf(tensors, `model.${model}.${i}.bias`, [nOut]).data;
    layers.push({ weight, bias, nIn, nOut });
    nIn = nOut;
  }
  if (layers[layers.length - 1]?.nOut !== 2) {
    throw new Error(`network ${model} must end in two coordinates`);
  }
  return layers;
}

function arrayOf(tensors, name, shape) {
  const tensor = tensors.get(name);
  if (!tensor) throw new Error(`the array ${name} is missing`);
  if (shape && String(shape) !== String(tensor.shape)) {
    throw new Error(`the array ${name} must have shape ${shape}, got ${tensor.shape}`);
  }
  return tensor;
}

function checkPlace(what, place, n) {
  if (!(Number.isInteger(place) && place >= 0 && place < n)) {
    throw new Error(`there is no ${what} ${place}: there are ${n}`);
  }
}

function rangeOf(map) {
  const range = [Infinity, Infinity, -Infinity, -Infinity];
  map.forEach((value, i) => {
    range[i % 2] = Math.min(range[i % 2], value);
    range[2 + (i % 2)] = Math.max(range[2 + (i % 2)], value);
  });
  return range;
}
