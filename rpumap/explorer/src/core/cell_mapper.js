// What a reference says of cells: coordinates, labels, novelty, certificates and verdicts. It
// mirrors `CellMapper` of `rpumap.reference.cell_mapper`, with the bounds of `crown_ibp`.

import { boundFrom } from "./bounds.js";
import { indexCoordinates, queryIndex } from "./label_index.js";
import { MapLabels } from "./labels.js";
import { applyLayer, forwardFrom, inDouble } from "./network.js";

const CELLS_AT_ONCE = 250; // between two reports of progress
const onMaps = new WeakMap();
// Numbers of verdicts; further ones are pairs of labels.
export const [CERTAIN, LIKELY, NEW, BETWEEN] = [0, 1, 2, 3];

/**
 * @typedef {object} MappedCells what is said of n cells; labels are places in `reference.labels`
 * @property {number} n
 * @property {Float32Array} coordinates (n x 2)
 * @property {Int32Array} label by the index
 * @property {Float64Array} confidence share of the votes for it
 * @property {Float64Array} novelty above 1: not in the reference
 * @property {Int32Array} mapLabel by the neighbours on the map
 * @property {Float32Array} lower ends of the certified boxes, (n x 2), rounded outward
 * @property {Float32Array} upper
 * @property {Float64Array} radius half the diagonal of a box
 * @property {Int32Array} verdict see `verdictName`
 */

/**
 * Map cells: place them, label them, and say what is certain.
 *
 * @param {import("./reference.js").Reference} reference
 * @param {Float32Array} panel raw counts of its genes, (n x nGenes); a gene that was not measured
 *   is a column of NaN
 * @param {Float64Array} librarySize molecules of each cell in all genes, (n)
 * @param {object} [options]
 * @param {number} [options.eps=0.05] radius of the balls that certificates are about, in standard
 *   deviations of a gene: the largest change of each gene
 * @param {(nDone: number, n: number) => void} [options.onProgress] called now and then
 * @returns {MappedCells}
 * @throws {RangeError} if `panel` has another number of values, or `eps` is no radius
 */
export function mapCells(reference, panel, librarySize, { eps = 0.05, onProgress } = {}) {
  const n = librarySize.length;
  const nGenes = reference.genes.length;
  if (panel.length !== n * nGenes) {
    throw new RangeError(
      `${n} cells need ${n * nGenes} counts, ${nGenes} each, got ${panel.length}`,
    );
  }
  const cells = emptyCells(n);
  for (let start = 0; start < n; start += CELLS_AT_ONCE) {
    const stop = Math.min(start + CELLS_AT_ONCE, n);
    const part = panel.subarray(start * nGenes, stop * nGenes);
    const block = mapBlock(reference, part, librarySize.subarray(start, stop), eps);
    for (const [name, values] of Object.entries(block)) {
      cells[name].set(values, (start * values.length) / (stop - start));
    }
    onProgress?.(stop, n);
  }
  return cells;
}

function emptyCells(n) {
  return {
    n,
    coordinates: new Float32Array(2 * n),
    label: new Int32Array(n),
    confidence: new Float64Array(n),
    novelty: new Float64Array(n),
    mapLabel: new Int32Array(n),
    lower: new Float32Array(2 * n),
    upper: new Float32Array(2 * n),
    radius: new Float64Array(n),
    verdict: new Int32Array(n),
  };
}

function mapBlock(reference, panel, librarySize, eps) {
  const n = librarySize.length;
  const scaled = scale(reference, panel, librarySize);
  const { coordinates, lower, upper } = place(reference, zScores(reference, scaled), n, eps);
  const found = queryIndex(reference, indexCoordinates(reference, scaled, n), n);
  const mapLabels = labelsOnMap(reference);
  const mapLabel = mapLabels.at(coordinates, n);
  const certain = mapLabels.certain(lower, upper, n);
  const verdict = Int32Array.from({ length: n }, (_, i) => {
    const isCertain = certain[i] === 1 && mapLabel[i] === found.label[i];
    return verdictOf(reference, found, i, isCertain);
  });
  const radius = Float64Array.from({ length: n }, (_, i) => {
    return Math.hypot(upper[2 * i] - lower[2 * i], upper[2 * i + 1] - lower[2 * i + 1]) / 2;
  });
  const { label, confidence, novelty } = found;
  return { coordinates, label, confidence, novelty, mapLabel, lower, upper, radius, verdict };
}

/** Return coordinates and certified boxes; the first layer is computed once for both. */
function place({ layers }, X, n, eps) {
  const net = inDouble(layers);
  const { nIn, nOut } = net[0];
  const first = applyLayer(net[0], X, n);
  const [lower, upper] = [new Float32Array(2 * n), new Float32Array(2 * n)];
  for (let cell = 0; cell < n; cell++) {
    let largest = 0;
    for (let at = cell * nIn; at < (cell + 1) * nIn; at++) {
      largest = Math.max(largest, Math.abs(X[at]));
    }
    const own = first.subarray(cell * nOut, (cell + 1) * nOut);
    const bounds = boundFrom("crown_ibp", layers, own, largest, { eps });
    lower.set(bounds.lower.map((value) => outward(value, -1)), 2 * cell);
    upper.set(bounds.upper.map((value) => outward(value, 1)), 2 * cell);
  }
  return { coordinates: Float32Array.from(forwardFrom(net, first, n)), lower, upper };
}

/** Round to single precision, down for the sign -1 and up for 1. */
function outward(value, sign) {
  const rounded = Math.fround(value);
  if (sign * rounded >= sign * value) return rounded;
  const step = Math.max(Math.abs(rounded) * 2 ** -23, 2 ** -149);
  return Math.fround(rounded + sign * step);
}

/**
 * Scale counts to the target sum of the reference, as `Preprocessor.scale`.
 *
 * @param {import("./reference.js").Reference} reference
 * @param {Float32Array} panel raw counts, (n x nGenes)
 * @param {Float64Array} librarySize (n)
 * @returns {Float64Array} (n x nGenes); NaN stays, and a cell without counts stays at 0
 */
export function scale({ genes, targetSum }, panel, librarySize) {
  const scaled = new Float64Array(panel.length);
  const nGenes = genes.length;
  for (let cell = 0, at = 0; cell < librarySize.length; cell++) {
    const factor = librarySize[cell] > 0 ? targetSum / librarySize[cell] : 0;
    for (let g = 0; g < nGenes; g++, at++) scaled[at] = panel[at] * factor;
  }
  return scaled;
}

/**
 * Turn scaled counts into z-scores, as `Preprocessor.standardize`.
 *
 * @param {import("./reference.js").Reference} reference
 * @param {Float64Array} scaled (n x nGenes)
 * @returns {Float32Array} (n x nGenes); 0, the training mean, for NaN
 */
export function zScores({ mean, std }, scaled) {
  const X = new Float32Array(scaled.length);
  for (let at = 0, g = 0; at < scaled.length; at++, g++) {
    if (g === mean.length) g = 0;
    const z = (scaled[at] - mean[g]) / std[g];
    X[at] = Number.isNaN(z) ? 0 : z;
  }
  return X;
}

/**
 * Compute the z-scores of one cell, which bounds and attacks take.
 *
 * @param {import("./reference.js").Reference} reference
 * @param {Float32Array} panel as in `mapCells`
 * @param {Float64Array} librarySize
 * @param {number} i which cell
 * @returns {Float32Array} (nGenes)
 */
export function standardize(reference, panel, librarySize, i) {
  const nGenes = reference.genes.length;
  const own = panel.subarray(i * nGenes, (i + 1) * nGenes);
  return zScores(reference, scale(reference, own, librarySize.subarray(i, i + 1)));
}

/**
 * The stored cells of a reference on its map, which vote for labels; made once.
 *
 * @param {import("./reference.js").Reference} reference
 * @returns {MapLabels}
 */
export function labelsOnMap(reference) {
  if (!onMaps.has(reference)) {
    const { coordinates, codes, labels } = reference;
    onMaps.set(reference, new MapLabels(coordinates, codes, labels.length));
  }
  return onMaps.get(reference);
}

/** Return the number of the verdict of cell i. */
function verdictOf({ labels, quantile }, { novelty, strangeness }, i, isCertain) {
  if (novelty[i] > 1) return NEW;
  const row = strangeness.subarray(i * labels.length, (i + 1) * labels.length);
  const nFitting = row.reduce((sum, value) => sum + (value <= quantile), 0);
  if (nFitting <= 1) return isCertain ? CERTAIN : LIKELY;
  const order = Array.from(row.keys()).sort((a, b) => row[a] - row[b]);
  const [a, b] = order.slice(0, 2).sort((one, other) => one - other);
  return BETWEEN + a * labels.length + b;
}

/**
 * Put a verdict into words.
 *
 * @param {number} verdict as in `MappedCells`
 * @param {string[]} labels
 * @returns {string} "certain", "likely", "not in the reference" or "between a and b"
 */
export function verdictName(verdict, labels) {
  const known = ["certain", "likely", "not in the reference"];
  if (verdict < BETWEEN) return known[verdict];
  const pair = verdict - BETWEEN;
  const [a, b] = [Math.floor(pair / labels.length), pair % labels.length];
  return `between ${labels[a]} and ${labels[b]}`;
}
