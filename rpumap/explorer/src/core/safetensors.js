// Files of arrays in the safetensors format (https://github.com/huggingface/safetensors): the
// length of a header (8 bytes, little-endian), the header, which is JSON, and the bytes of all
// arrays. Reading decodes JSON and copies numbers.

const HEADER_START = 8;
const LARGEST_HEADER = 100_000_000; // bytes, as the safetensors library has it
const TYPES = {
  F64: { size: 8, from: (buffer) => new Float64Array(buffer) },
  F32: { size: 4, from: (buffer) => new Float32Array(buffer) },
  F16: { size: 2, from: (buffer) => Float32Array.from(new Uint16Array(buffer), halfToNumber) },
  I64: { size: 8, from: (buffer) => new BigInt64Array(buffer) },
  I32: { size: 4, from: (buffer) => new Int32Array(buffer) },
  U16: { size: 2, from: (buffer) => new Uint16Array(buffer) },
  U8: { size: 1, from: (buffer) => new Uint8Array(buffer) },
};

/**
 * @typedef {object} Tensor
 * @property {string} dtype such as "F32"
 * @property {number[]} shape
 * @property {Uint8Array} bytes its bytes as they are in the file, little-endian, row by row
 * @property {Float64Array|Float32Array|BigInt64Array|Int32Array|Uint16Array|Uint8Array} data
 *   its numbers; those of F16 as Float32Array
 */

/**
 * Read a safetensors file.
 *
 * @param {Uint8Array} bytes the whole file
 * @returns {{metadata: Object<string, string>, tensors: Map<string, Tensor>}} own copies of the
 *   numbers, so that their place in the file does not matter
 * @throws {Error} if it is no such file, or the header and the bytes do not fit together; the
 *   message says where
 */
export function readSafetensors(bytes) {
  // a Buffer of node is a Uint8Array whose slices are no copies
  bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  const { header, start } = readHeader(bytes);
  const metadata = header.__metadata__ ?? {};
  if (!isObject(metadata) || Object.values(metadata).some((text) => typeof text !== "string")) {
    throw new Error("its metadata are no JSON object of texts");
  }
  const entries = Object.entries(header).filter(([name]) => name !== "__metadata__");
  entries.forEach(([name, info]) => checkInfo(name, info));
  entries.sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0] ||
    a.data_offsets[1] - b.data_offsets[1]);
  let end = 0;
  const tensors = new Map();
  for (const [name, { dtype, shape, data_offsets: offsets }] of entries) {
    if (offsets[0] !== end) throw new Error(`array ${name} does not begin where the last one ends`);
    end = offsets[1];
    if (start + end > bytes.length) throw new Error(`the file ends within the array ${name}`);
    const copy = bytes.slice(start + offsets[0], start + end);
    const data = TYPES[dtype].from(littleEndian(copy, TYPES[dtype].size).buffer);
    tensors.set(name, { dtype, shape, bytes: copy, data });
  }
  if (start + end < bytes.length) {
    throw new Error(`${bytes.length - start - end} bytes after the last array belong to none`);
  }
  return { metadata, tensors };
}

function readHeader(bytes) {
  if (bytes.length < HEADER_START) throw new Error(`it has ${bytes.length} bytes only`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_START);
  const length = view.getUint32(0, true) + 2 ** 32 * view.getUint32(4, true);
  const start = HEADER_START + length;
  if (length > LARGEST_HEADER) throw new Error("the length of its header is none");
  if (start > bytes.length) throw new Error("the file ends within its header");
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const header = JSON.parse(decoder.decode(bytes.subarray(HEADER_START, start)));
  if (!isObject(header)) throw new Error("its header is no JSON object");
  return { header, start };
}

function checkInfo(name, info) {
  const isSize = (number) => Number.isSafeInteger(number) && number >= 0;
  const { dtype, shape, data_offsets: offsets } = isObject(info) ? info : {};
  if (!Object.hasOwn(TYPES, dtype)) throw new Error(`array ${name} has the unknown type ${dtype}`);
  if (!Array.isArray(shape) || !shape.every(isSize)) throw new Error(`array ${name} has no shape`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    throw new Error(`array ${name} has no place in the file`);
  }
  const expected = shape.reduce((product, size) => product * size, TYPES[dtype].size);
  if (offsets[1] - offsets[0] !== expected) {
    throw new Error(`array ${name} must take ${expected} bytes, not ${offsets[1] - offsets[0]}`);
  }
}

/** Return bytes in the order of this processor: they are in the file with the lowest first. */
function littleEndian(bytes, size) {
  const copy = bytes.slice();
  const isLittle = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
  if (isLittle) return copy;
  for (let i = 0; i < copy.length; i += size) copy.subarray(i, i + size).reverse();
  return copy;
}

function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = (bits & 0x3ff) / 1024;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
