/**
 * HDF5 files: opened without reading them whole, and read with errors that can be understood.
 *
 * In a web worker the file stays on the disk, and HDF5 reads what it needs. Elsewhere, as in
 * tests, it is held in memory.
 */

import { File as H5File, ready } from "h5wasm";

import { InputError, fileSize } from "./input_error.js";

const FLOAT = 1; // class of HDF5 types
const LARGEST_IN_MEMORY = 1.5e9;
const BLOCK = 1 << 20; // bytes that are read from the disk at once
const MOST_BLOCKS = 8;
/** Names of filters of compression that are not built into HDF5. */
const FILTERS = {
  4: "szip",
  305: "lzo",
  307: "bzip2",
  32000: "lzf",
  32001: "blosc",
  32004: "lz4",
  32008: "bitshuffle",
  32013: "zfp",
  32015: "zstd",
  32026: "blosc2",
};
const BUILT_IN = [1, 2, 3, 5, 6]; // deflate, shuffle, fletcher32, nbit, scale-offset

let nMounted = 0;

/**
 * Open an HDF5 file for reading.
 *
 * @param {File} file
 * @returns {Promise<{root: object, close: function(): void}>} Its root, an h5wasm File, and what
 *   ends the use of it.
 * @throws {InputError} If it is too large for the memory, cut short, or damaged.
 */
export async function openH5(file) {
  const module = await ready;
  // without it h5wasm returns what was in the memory before, where something cannot be read
  module.activate_throwing_error_handler();
  const { path, unmount } = await mountFile(module.FS, file);
  try {
    const root = new H5File(path, "r");
    return { root, close: () => (root.close(), unmount()) };
  } catch (error) {
    unmount();
    throw inWords(error, `${file.name} cannot be opened`);
  }
}

/** Make a file visible to HDF5, on the disk if this is a web worker. */
async function mountFile(FS, file) {
  const folder = `/mounted-${nMounted++}`;
  const name = "table.h5";
  const path = `${folder}/${name}`;
  FS.mkdir(folder);
  if (typeof WorkerGlobalScope !== "undefined") {
    FS.mount(FS.filesystems.WORKERFS, { blobs: [{ name, data: file }] }, folder);
    const { node } = FS.lookupPath(path);
    node.stream_ops = { ...node.stream_ops, read: withReadAhead(node.stream_ops.read) };
    return { path, unmount: () => (FS.unmount(folder), FS.rmdir(folder)) };
  }
  if (file.size > LARGEST_IN_MEMORY) {
    throw new InputError(
      `${file.name} is ${fileSize(file.size)}; outside a web worker it must be held in memory, ` +
        `which is possible up to ${fileSize(LARGEST_IN_MEMORY)}`,
    );
  }
  FS.writeFile(path, new Uint8Array(await file.arrayBuffer()), { canOwn: true });
  return { path, unmount: () => (FS.unlink(path), FS.rmdir(folder)) };
}

/**
 * Read a file in large blocks, of which the last ones are kept: HDF5 asks for thousands of small
 * pieces that lie side by side, and a browser takes a millisecond for each.
 *
 * @param {function} read What reads from an open file: (stream, buffer, offset, length, position).
 * @returns {function} The same with blocks.
 */
export function withReadAhead(read) {
  const blocks = new Map(); // by their numbers, the one that was used last at the end
  const blockAt = (stream, number) => {
    let block = blocks.get(number);
    blocks.delete(number);
    if (!block) {
      const bytes = new Uint8Array(BLOCK);
      block = bytes.subarray(0, read(stream, bytes, 0, BLOCK, number * BLOCK));
      if (blocks.size >= MOST_BLOCKS) blocks.delete(blocks.keys().next().value);
    }
    blocks.set(number, block);
    return block;
  };
  return (stream, buffer, offset, length, position) => {
    if (length >= BLOCK) return read(stream, buffer, offset, length, position);
    let nRead = 0;
    while (nRead < length) {
      const at = position + nRead;
      const number = Math.floor(at / BLOCK);
      const start = at - number * BLOCK;
      const piece = blockAt(stream, number).subarray(start, start + length - nRead);
      if (!piece.length) break;
      buffer.set(piece, offset + nRead);
      nRead += piece.length;
    }
    return nRead;
  };
}

/**
 * Read a data set, or a part of it.
 *
 * @param {object} dataset An h5wasm Dataset.
 * @param {number[][]} [ranges] For each dimension the first place and the one after the last.
 * @returns {string[]|TypedArray|Array[]} Values; of 64-bit integers as Float64Array, of text as
 *   strings, of a compound type one array for each row.
 * @throws {InputError} If it is compressed in a way that is not known here, or damaged.
 */
export function readData(dataset, ranges) {
  const shape = dataset.shape ?? [0];
  const empty = shape.some((length, axis) => (ranges?.[axis]?.[1] ?? length) === 0);
  if (empty) return [];
  refuseFilters(dataset);
  refuseHalves(dataset);
  try {
    return withoutBigInts(ranges ? dataset.slice(ranges) : dataset.value);
  } catch (error) {
    throw inWords(error, `${nameOf(dataset)} cannot be read`);
  }
}

/**
 * Read an attribute.
 *
 * @param {object} node An h5wasm Group or Dataset.
 * @param {string} name
 * @returns {*} Its value, with 64-bit integers as numbers; undefined if there is none.
 */
export function attribute(node, name) {
  const found = node.attrs[name];
  if (found === undefined) return undefined;
  const { value } = found;
  return typeof value === "bigint" ? Number(value) : withoutBigInts(value);
}

/**
 * Name a group or data set for messages.
 *
 * @param {object} node
 * @returns {string} Such as "X/data".
 */
export function nameOf(node) {
  return node.path.replace(/^\/+/, "");
}

/**
 * Tell whether something is a data set, not a group or undefined.
 *
 * @param {?object} node
 * @returns {boolean}
 */
export function isDataset(node) {
  return node?.type === "Dataset";
}

/** Turn 64-bit integers into numbers, exact up to 2**53. */
function withoutBigInts(values) {
  if (!(values instanceof BigInt64Array) && !(values instanceof BigUint64Array)) return values;
  const { buffer, byteOffset, length } = values;
  const low = new Uint32Array(buffer, byteOffset, 2 * length);
  const isSigned = values instanceof BigInt64Array;
  const high = new (isSigned ? Int32Array : Uint32Array)(buffer, byteOffset, 2 * length);
  const numbers = new Float64Array(length);
  for (let i = 0; i < length; i++) numbers[i] = high[2 * i + 1] * 2 ** 32 + low[2 * i];
  return numbers;
}

function refuseFilters(dataset) {
  for (const { id, name } of dataset.filters) {
    if (BUILT_IN.includes(id)) continue;
    throw new InputError(
      `${nameOf(dataset)} is compressed with ${FILTERS[id] ?? name ?? `filter ${id}`}, which ` +
        "cannot be read here: in Python, write the table anew with adata.write_h5ad(path, " +
        "compression='gzip')",
    );
  }
}

function refuseHalves(dataset) {
  const { type, size } = dataset.metadata;
  if (type === FLOAT && size !== 4 && size !== 8) {
    throw new InputError(
      `${nameOf(dataset)} holds numbers of ${8 * size} bits, which cannot be read here: in ` +
        "Python, turn them into float32 and write the table anew",
    );
  }
}

/**
 * Say in plain words why HDF5 failed.
 *
 * @param {Error} error
 * @param {string} what What could not be done, for messages.
 * @returns {Error} An InputError; the same error if it is none of HDF5, but of the browser.
 */
export function inWords(error, what) {
  const innermost = messageOf(error);
  if (innermost === null) return error;
  const reason = /truncated file/.test(innermost)
    ? "the file is cut short"
    : `the file may be damaged (${innermost})`;
  return new InputError(`${what}: ${reason}. Copy or download it again`);
}

/** Return the innermost message of an error of HDF5, or of WebAssembly; else null. */
function messageOf(error) {
  if (error instanceof WebAssembly.RuntimeError) return error.message;
  const messages = [...String(error.message).matchAll(/#\d+: .* line \d+ in \w+\(\): (.*)/g)];
  return messages.length ? messages[messages.length - 1][1] : null;
}
