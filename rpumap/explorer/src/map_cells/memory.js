/* An own account of the memory that is held, since most browsers do not tell. */

/**
 * Bytes that are held for a result. Files are read in pieces, which are let go.
 * @param {object} held
 * @param {import("../core/reference.js").Reference} held.reference
 * @param {{panel: Float32Array, librarySize: Float64Array}} held.counts
 * @param {import("./session.js").Result} held.result
 * @param {Uint8Array} held.hdf5 memory of the HDF5 library, which never shrinks
 * @returns {{reference: number, counts: number, results: number, hdf5: number}}
 */
export function bytesOf({ reference, counts, result, hdf5 }) {
  return {
    reference: arraysIn(reference),
    counts: counts.panel.byteLength + counts.librarySize.byteLength,
    results: arraysIn(result) + textIn(result.cellNames),
    hdf5: hdf5.byteLength,
  };
}

/** Bytes of all typed arrays in an object, and in the objects in it. */
function arraysIn(value) {
  if (ArrayBuffer.isView(value)) return value.byteLength;
  if (typeof value !== "object" || value === null) return 0;
  return Object.values(value).reduce((sum, inner) => sum + arraysIn(inner), 0);
}

/** Bytes of texts, of which each letter takes one. */
function textIn(texts) {
  return texts.reduce((sum, text) => sum + text.length, 0);
}

/**
 * A number of bytes as text.
 * @param {number} bytes
 * @returns {string} such as `12 MB`
 */
export function megabytes(bytes) {
  const amount = bytes / 1e6;
  return `${amount < 10 ? amount.toFixed(1) : Math.round(amount)} MB`;
}
