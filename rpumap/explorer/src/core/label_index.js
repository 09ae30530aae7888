// The index of a reference: label, confidence and novelty of cells by their nearest stored cells
// in the space of genes. It mirrors `LabelIndex` of `rpumap.reference.label_index`, where the
// formulas stand.

import { Smallest } from "./nearest.js";

const [LEAST_NEIGHBORS, MOST_NEIGHBORS] = [5, 30];
const NEAREST_OF_TYPE = 5;
const prepared = new WeakMap();

/**
 * @typedef {object} Found what the index tells of n cells
 * @property {Int32Array} label places in `reference.labels`
 * @property {Float64Array} confidence share of the votes for it
 * @property {Float64Array} novelty above 1: not in the reference
 * @property {Float64Array} strangeness of each label, (n x nLabels); low: it fits
 */

/**
 * Place cells among those that are stored.
 *
 * @param {import("./reference.js").Reference} reference
 * @param {Float64Array} scaled counts of its genes, scaled to its target sum, (n x nGenes); NaN for
 *   a gene that was not measured, which then counts as average
 * @param {number} n
 * @returns {Float32Array} (n x all components): for each cell those of all spaces in turn
 */
export function indexCoordinates(reference, scaled, n) {
  const { projection, width } = prepare(reference);
  const { meanOfLogs, stdOfLogs } = reference;
  const nGenes = meanOfLogs.length;
  const coordinates = new Float32Array(n * width);
  const sums = new Float64Array(width);
  for (let cell = 0; cell < n; cell++) {
    sums.fill(0);
    for (let g = 0; g < nGenes; g++) {
      const value = scaled[cell * nGenes + g];
      if (Number.isNaN(value)) continue;
      const log = value === 0 ? 0 : Math.log1p(value);
      const z = (log - meanOfLogs[g]) / stdOfLogs[g];
      for (let m = 0, at = g * width; m < width; m++, at++) sums[m] += z * projection[at];
    }
    coordinates.set(sums, cell * width);
  }
  return coordinates;
}

/**
 * Find label, confidence, novelty and how strange each label would be.
 *
 * @param {import("./reference.js").Reference} reference
 * @param {Float32Array} coordinates from `indexCoordinates`, (n x all components)
 * @param {number} n
 * @returns {Found}
 */
export function queryIndex(reference, coordinates, n) {
  const { spaces, labels, width, k } = prepare(reference);
  const nLabels = labels.length;
  const found = {
    label: new Int32Array(n),
    confidence: new Float64Array(n),
    novelty: new Float64Array(n),
    strangeness: new Float64Array(n * nLabels),
  };
  for (let cell = 0; cell < n; cell++) {
    let start = cell * width;
    const guess = cell ? found.label[cell - 1] : 0;
    const near = spaces[0].near(coordinates, start, guess, true);
    const [label, votes] = commonest(near.owners, nLabels);
    let product = 1;
    for (const space of spaces) {
      if (space !== spaces[0]) space.near(coordinates, start, label, false);
      product *= meanRoot(space.all.values, k) / space.usual[label];
      start += space.nComponents;
    }
    found.label[cell] = label;
    found.confidence[cell] = votes / k;
    found.novelty[cell] = product ** (1 / spaces.length) / reference.threshold;
    const row = found.strangeness.subarray(cell * nLabels, (cell + 1) * nLabels);
    fillStrangeness(row, spaces[0].ofLabels);
  }
  return found;
}

/** The number of neighbours that vote: an eighth of the stored cells, from 5 to 30. */
function nNeighbors(nStored) {
  const eighth = Math.floor(nStored / 8);
  return Math.min(MOST_NEIGHBORS, Math.max(LEAST_NEIGHBORS, eighth), nStored);
}

/** Return the label of most owners, of equally common ones the first, and how many have it. */
function commonest(codes, nLabels) {
  const votes = new Int32Array(nLabels);
  for (const code of codes) votes[code]++;
  let label = 0;
  for (let code = 1; code < nLabels; code++) if (votes[code] > votes[label]) label = code;
  return [label, votes[label]];
}

function meanRoot(squares, n) {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += Math.sqrt(squares[i]);
  return sum / n;
}

/** The logarithm of the distance to each label, less the least of these for other labels. */
function fillStrangeness(row, ofLabels) {
  if (ofLabels.length === 1) return;
  ofLabels.forEach((near, code) => {
    row[code] = Math.log(meanRoot(near.values, near.k) + 1e-9);
  });
  const [least, second] = row.slice().sort();
  for (let code = 0; code < row.length; code++) row[code] -= row[code] === least ? second : least;
}

/** Stored cells of one space, those of one label beside each other, in double precision. */
class StoredCells {
  constructor({ cells, usual, nComponents }, codes, nLabels, k) {
    Object.assign(this, { usual, nComponents });
    this.point = new Float64Array(nComponents);
    const order = Array.from(codes.keys()).sort((a, b) => codes[a] - codes[b]);
    this.cells = new Float64Array(cells.length);
    order.forEach((place, i) => {
      const row = cells.subarray(place * nComponents, (place + 1) * nComponents);
      this.cells.set(row, i * nComponents);
    });
    this.all = new Smallest(k);
    const counts = new Int32Array(nLabels);
    for (const code of codes) counts[code]++;
    this.ofLabels = Array.from(counts, (count) => new Smallest(Math.min(NEAREST_OF_TYPE, count)));
    this.starts = new Int32Array(nLabels + 1); // where the cells of each label begin
    counts.forEach((count, code) => (this.starts[code + 1] = this.starts[code] + count));
  }

  /**
   * Find the nearest stored cells.
   *
   * @param {Float32Array} coordinates one cell begins at `start`
   * @param {number} start
   * @param {number} first label that is looked at first; the nearer its cells, the sooner others
   *   are seen to be too far
   * @param {boolean} ofEach whether those of each label are wanted as well
   * @returns {Smallest} squares of distances, with labels; of each label they are in `ofLabels`
   */
  near(coordinates, start, first, ofEach) {
    const { all, ofLabels, nComponents } = this;
    for (let m = 0; m < nComponents; m++) this.point[m] = coordinates[start + m];
    all.clear();
    if (ofEach) for (const near of ofLabels) near.clear();
    this.#visit(first, ofEach);
    for (let code = 0; code < ofLabels.length; code++) {
      if (code !== first) this.#visit(code, ofEach);
    }
    return all;
  }

  #visit(code, ofEach) {
    const { all, cells, point, nComponents, starts } = this;
    const own = this.ofLabels[code];
    const end = starts[code + 1] * nComponents;
    let most = ofEach ? Math.max(own.most, all.most) : all.most;
    for (let at = starts[code] * nComponents; at < end; at += nComponents) {
      let square = 0;
      let m = 0;
      for (; m + 4 <= nComponents && square < most; m += 4) {
        const a = point[m] - cells[at + m];
        const b = point[m + 1] - cells[at + m + 1];
        const c = point[m + 2] - cells[at + m + 2];
        const d = point[m + 3] - cells[at + m + 3];
        square += a * a + b * b + (c * c + d * d);
      }
      if (!(square < most)) continue;
      for (; m < nComponents; m++) square += (point[m] - cells[at + m]) ** 2;
      if (square < all.most) all.add(square, code);
      if (ofEach && square < own.most) own.add(square, code);
      most = ofEach ? Math.max(own.most, all.most) : all.most;
    }
  }
}

function prepare(reference) {
  if (!prepared.has(reference)) {
    const { spaces, codes, labels } = reference;
    const k = nNeighbors(codes.length);
    const width = spaces.reduce((sum, { nComponents }) => sum + nComponents, 0);
    prepared.set(reference, {
      spaces: spaces.map((space) => new StoredCells(space, codes, labels.length, k)),
      projection: joined(spaces, reference.genes.length, width),
      labels,
      width,
      k,
    });
  }
  return prepared.get(reference);
}

/** Put the projections side by side, (nGenes x all components). */
function joined(spaces, nGenes, width) {
  const all = new Float64Array(nGenes * width);
  let offset = 0;
  for (const { projection, nComponents } of spaces) {
    for (let g = 0; g < nGenes; g++) {
      const row = projection.subarray(g * nComponents, (g + 1) * nComponents);
      all.set(row, g * width + offset);
    }
    offset += nComponents;
  }
  return all;
}
