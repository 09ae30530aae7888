/**
 * Matrices in HDF5 files, sparse or dense: handed on in pieces, so that few values are in memory.
 */

import { InputError } from "./input_error.js";
import { isDataset, nameOf, readData } from "./h5_file.js";

const PIECE = 1_000_000; // values that are read at once, where the file's own chunks allow it
const MOST_IN_CHUNKS = 16_000_000; // values up to which whole rows are read, if chunks are long
const NUMERIC = [0, 1, 8]; // classes of HDF5 types: integers, floats, and enumerations (booleans)

/**
 * Read a sparse matrix in pieces.
 *
 * @param {object} group An h5wasm Group with `data`, `indices` and `indptr`.
 * @param {number} nMajor Rows of a matrix in CSR format, columns of one in CSC format.
 * @param {number} nMinor The other dimension.
 * @param {function(Int32Array, Int32Array, ArrayLike<number>, number): boolean} take Gets the major
 *   and minor places and the values of so many entries; it returns true to stop.
 * @param {function(number): void} [onProgress] Gets the share that was read.
 * @throws {InputError} If the parts of the matrix do not belong together, or cannot be read.
 */
export function readSparse(group, nMajor, nMinor, take, onProgress = () => {}) {
  const [data, indices, indptr] = ["data", "indices", "indptr"].map((name) => group.get(name));
  const pointers = checkedPointers(group, [data, indices, indptr], nMajor);
  const n = pointers[nMajor];
  const step = alignedStep(Math.max(chunkOf(data, 0), chunkOf(indices, 0)), PIECE);
  const majors = new Int32Array(Math.min(step, n));
  for (let start = 0, major = 0; start < n; start += step) {
    const stop = Math.min(start + step, n);
    const values = readData(data, [[start, stop]]);
    const minors = asPlaces(readData(indices, [[start, stop]]), nMinor, indices);
    for (let at = start; at < stop; ) {
      while (pointers[major + 1] <= at) major++;
      const end = Math.min(pointers[major + 1], stop);
      majors.fill(major, at - start, end - start);
      at = end;
    }
    if (take(majors, minors, values, stop - start)) return;
    onProgress(stop / n);
  }
}

/**
 * Read a dense matrix in pieces.
 *
 * @param {object} dataset An h5wasm Dataset of two dimensions.
 * @param {function(ArrayLike<number>, number, number, number, number): boolean} take Gets a block
 *   (row-major), its first row and number of rows, and its first column and number of columns; it
 *   returns true to stop.
 * @param {function(number): void} [onProgress] Gets the share that was read.
 * @throws {InputError} If it holds no numbers, or cannot be read.
 */
export function readDense(dataset, take, onProgress = () => {}) {
  refuseOthers(dataset);
  const [nRows, nColumns] = dataset.shape;
  const [chunkRows, chunkColumns] = [chunkOf(dataset, 0), chunkOf(dataset, 1)];
  const wide = chunkRows * nColumns <= MOST_IN_CHUNKS;
  const columnStep = wide ? nColumns : alignedStep(chunkColumns, PIECE / chunkRows);
  const rowStep = alignedStep(chunkRows, PIECE / columnStep);
  for (let row = 0; row < nRows; row += rowStep) {
    const lastRow = Math.min(row + rowStep, nRows);
    for (let column = 0; column < nColumns; column += columnStep) {
      const lastColumn = Math.min(column + columnStep, nColumns);
      const ranges = [
        [row, lastRow],
        [column, lastColumn],
      ];
      const block = readData(dataset, ranges);
      if (take(block, row, lastRow - row, column, lastColumn - column)) return;
    }
    onProgress(lastRow / nRows);
  }
}

/** Return a multiple of the length of a chunk, about as long as wanted. */
function alignedStep(chunk, wanted) {
  return chunk * Math.max(1, Math.floor(wanted / chunk));
}

function chunkOf(dataset, axis) {
  return dataset.metadata.chunks?.[axis] ?? 1;
}

function refuseOthers(dataset) {
  if (!NUMERIC.includes(dataset.metadata.type)) {
    throw new InputError(`${nameOf(dataset)} holds no numbers: raw counts are needed`);
  }
}

function checkedPointers(group, parts, nMajor) {
  const name = nameOf(group);
  if (!parts.every(isDataset)) {
    throw new InputError(
      `${name} is no sparse matrix: it holds ${group.keys().join(", ") || "nothing"}, not data, ` +
        "indices and indptr",
    );
  }
  const [data, indices, indptr] = parts;
  refuseOthers(data);
  const pointers = readData(indptr);
  const last = pointers[pointers.length - 1] ?? 0;
  const ascend = pointers.every((place, i) => place >= (i ? pointers[i - 1] : 0));
  if (pointers.length !== nMajor + 1 || pointers[0] !== 0 || !ascend) {
    throw new InputError(
      `${nameOf(indptr)} must hold ${nMajor + 1} ascending places that begin with 0, but holds ` +
        `${pointers.length} others: the file is damaged`,
    );
  }
  if (data.shape[0] < last || indices.shape[0] < last) {
    throw new InputError(
      `${name} should hold ${last} values, but has ${data.shape[0]}, and ${indices.shape[0]} ` +
        "places of them: the file is damaged",
    );
  }
  return pointers;
}

/** Return places as 32-bit integers, all of them in the matrix. */
function asPlaces(values, length, dataset) {
  const places = values instanceof Int32Array ? values : Int32Array.from(values);
  for (let i = 0; i < places.length; i++) {
    if (places[i] < 0 || places[i] >= length) {
      throw new InputError(
        `${nameOf(dataset)} holds the place ${places[i]} of ${length}: the file is damaged`,
      );
    }
  }
  return places;
}
