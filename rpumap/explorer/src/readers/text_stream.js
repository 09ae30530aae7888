/**
 * Text files, packed with gzip or not: read in blocks of whole lines, and numbers from their bytes.
 */

import { InputError } from "./input_error.js";

const BLOCK = 1 << 20; // bytes of a block, about
const LONGEST_LINE = 1 << 28;
const [LINE_FEED, RETURN] = [10, 13];
const decoder = new TextDecoder();

/**
 * Read a text file in blocks that end in a line end; one is added to the last line if it has none.
 *
 * @param {File} file Of UTF-8, with a byte order mark or without; packed or not.
 * @param {function(number): void} [onProgress] Gets the share of the file that was read.
 * @returns {AsyncGenerator<Uint8Array>}
 * @throws {InputError} If it is no such file, cannot be unpacked, or a line is too long.
 */
export async function* textBlocks(file, onProgress = () => {}) {
  let pieces = [];
  let waiting = 0;
  let isFirst = true;
  for await (const chunk of chunksOf(file, onProgress)) {
    const end = chunk.lastIndexOf(LINE_FEED) + 1;
    pieces.push(chunk);
    waiting += chunk.length;
    if (!end || waiting < BLOCK) {
      if (waiting < LONGEST_LINE) continue;
      refuseLongLine(file);
    }
    const rest = chunk.subarray(end);
    pieces[pieces.length - 1] = chunk.subarray(0, end);
    const block = joined(pieces);
    if (isFirst) refuseUtf16(block, file);
    isFirst = false;
    yield block;
    pieces = [rest];
    waiting = rest.length;
  }
  const last = joined(pieces);
  if (!last.length) return;
  if (isFirst) refuseUtf16(last, file);
  yield last[last.length - 1] === LINE_FEED ? last : joined([last, Uint8Array.of(LINE_FEED)]);
}

/**
 * Go through the lines of a block.
 *
 * @param {Uint8Array} block As `textBlocks` gives it.
 * @param {number} [start] Where to begin.
 * @returns {Generator<number[]>} Where each line begins and where it ends, without the line end.
 */
export function* linesOf(block, start = 0) {
  for (let at = start; at < block.length; ) {
    const next = block.indexOf(LINE_FEED, at);
    yield [at, next > at && block[next - 1] === RETURN ? next - 1 : next];
    at = next + 1;
  }
}

/**
 * Read all lines of a small file.
 *
 * @param {File} file As `textBlocks` takes it.
 * @returns {Promise<string[]>} Those that are not empty.
 */
export async function readLines(file) {
  const lines = [];
  for await (const block of textBlocks(file)) {
    for (const [start, end] of linesOf(block)) if (end > start) lines.push(text(block, start, end));
  }
  return lines;
}

/**
 * Turn bytes into text, without a byte order mark at its beginning.
 *
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {number} end
 * @returns {string}
 */
export function text(bytes, start, end) {
  return decoder.decode(bytes.subarray(start, end));
}

const MISSING = new Set(
  ["", "NA", "N/A", "#N/A", "<NA>", "n/a", "NaN", "nan", "-nan", "NULL", "null", "None"],
);

/**
 * Read a number.
 *
 * @param {string} field Text, with spaces around it or not.
 * @returns {?number} NaN for what stands for a missing value; null for what is no number.
 */
export function numberFrom(field) {
  const trimmed = field.trim();
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(trimmed)) return Number(trimmed);
  if (MISSING.has(trimmed)) return NaN;
  const infinite = /^([+-]?)inf(inity)?$/i.exec(trimmed);
  return infinite ? (infinite[1] === "-" ? -Infinity : Infinity) : null;
}

/**
 * Tell whether a file is packed with gzip, by its first bytes.
 *
 * @param {Uint8Array} bytes The first two bytes, or more.
 * @returns {boolean}
 */
export function isGzip(bytes) {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

async function* chunksOf(file, onProgress) {
  let seen = 0;
  const report = (length) => onProgress(Math.min(1, (seen += length) / file.size));
  if (!isGzip(new Uint8Array(await file.slice(0, 2).arrayBuffer()))) {
    for (let at = 0; at < file.size; at += BLOCK) {
      const chunk = new Uint8Array(await file.slice(at, at + BLOCK).arrayBuffer());
      yield chunk;
      report(chunk.length);
    }
    return;
  }
  const counted = new TransformStream({
    transform(chunk, controller) {
      report(chunk.length);
      controller.enqueue(chunk);
    },
  });
  const stream = file.stream().pipeThrough(counted).pipeThrough(new DecompressionStream("gzip"));
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => refusePacked(file, error));
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {}); // where not all of it is wanted
  }
}

function joined(pieces) {
  if (pieces.length === 1) return pieces[0];
  const all = new Uint8Array(pieces.reduce((n, piece) => n + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

function refuseUtf16([a, b], file) {
  if ((a === 0xff && b === 0xfe) || (a === 0xfe && b === 0xff)) {
    throw new InputError(`${file.name} is text of UTF-16: save it as UTF-8`);
  }
}

function refusePacked(file, error) {
  const reason = error?.cause?.message ?? error?.message ?? error;
  throw new InputError(
    `${file.name} cannot be unpacked (${reason}): it is cut short or damaged, or consists of ` +
      "several parts, as bgzip writes them. Download it again, or unpack it with gunzip",
  );
}

function refuseLongLine(file) {
  throw new InputError(
    `${file.name} has a line of more than ${LONGEST_LINE >> 20} MB: it is no table of text, or ` +
      "its lines do not end in line feeds",
  );
}
