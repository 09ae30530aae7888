/**
 * Tables of counts in whatever files they come: which kind it is, by the first bytes, and a reader.
 */

import { openCsv } from "./csv.js";
import { inWords, openH5 } from "./h5_file.js";
import { H5adTable, checkLayout } from "./h5ad.js";
import { InputError, fileSize } from "./input_error.js";
import { openMtx, roleOf } from "./mtx.js";
import { TenxTable, findTenx } from "./tenx_h5.js";
import { isGzip } from "./text_stream.js";

/** Bytes of a file that is still read. */
export const LARGEST_FILE = 16e9;

const HEAD = 512;
/** What files begin with that are no tables here. */
const SIGNATURES = [
  [[0x50, 0x4b, 0x03, 0x04], "a zip archive: unpack it first, and choose the files in it"],
  [[0x42, 0x5a, 0x68], "packed with bzip2: unpack it first"],
  [[0xfd, 0x37, 0x7a, 0x58, 0x5a], "packed with xz: unpack it first"],
  [[0x28, 0xb5, 0x2f, 0xfd], "packed with zstd: unpack it first"],
  [[0x50, 0x41, 0x52, 0x31], "a Parquet file: in Python, pandas.read_parquet(path).to_csv(...)"],
  [[0x93, 0x4e, 0x55, 0x4d, 0x50], "an array of NumPy, without names: write an h5ad file instead"],
  [[0x25, 0x50, 0x44, 0x46], "a PDF, not a table"],
  [[0xd0, 0xcf, 0x11, 0xe0], "a file of Excel or Word: save the table as CSV"],
];
const MATRIX_MARKET = Array.from("%%MatrixMarket", (letter) => letter.charCodeAt(0));
const HDF5 = [0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a];
/** What to do with files of other programs, by their names. */
const BY_NAME = [
  [/\.(rds|rda|rdata|robj)$/i, "a file of R: write an h5ad file with zellkonverter::writeH5AD"],
  [/\.(xlsx|xls|ods)$/i, "a spreadsheet: save the table as CSV"],
  [/\.(tar|tar\.gz|tgz|zip|7z|rar)$/i, "an archive: unpack it first, and choose the files in it"],
  [/\.rpumap$/i, "a reference map, not a table of counts: choose it as the reference"],
  [/\.(fastq|fq|bam|sam|cram)(\.gz)?$/i, "a file of reads: count them first, as Cell Ranger does"],
  [/\.zarr$/i, "a zarr store: in Python, anndata.read_zarr(path).write_h5ad('table.h5ad')"],
];

/**
 * A table of counts in files. Of the counts nothing is read before `read` is called.
 *
 * @typedef {object} Table
 * @property {"h5ad"|"10x h5"|"mtx"|"csv"} kind
 * @property {string} fileName
 * @property {number} bytes Of all its files.
 * @property {string} summary One line about it.
 * @property {string[]} remarks What was found or left out.
 * @property {number} nCells
 * @property {number} nGenes Of the default part.
 * @property {string[]} parts What may hold counts, such as "X", "layers/counts" and "raw/X".
 * @property {string} defaultPart
 * @property {?Float64Array} librarySize `obs["library_size"]` (n_cells), NaN where it is missing;
 *   null if there is none. It throws an InputError if that column holds no numbers.
 * @property {function(): string[]} cellNames
 * @property {function(string[]): void} orient Tell a table what the genes of the reference are: a
 *   text file turns so that rows are cells, which changes `nCells`, `nGenes` and `remarks`.
 * @property {function(string): {columns: Object<string, string[]>, defaultColumn: string}} genesOf
 *   Columns with names of the genes of a part, each read when it is first looked at.
 * @property {function(string, object, function(number)=): Promise<void>} read Hand the values of a
 *   part to a sink, in pieces: to its methods `entries` and `dense` as those of PanelCounts, until
 *   its `done` is true. The function gets the share of the file that was read.
 * @property {function(): void} close End the use of the files.
 */

/**
 * Open a table of counts.
 *
 * @param {File[]} files One file (h5ad, .h5 of Cell Ranger, or text), or the three of a matrix.
 * @param {?string[]} [genes] Genes of the reference, if it is known: see `orient`. Counts are read
 *   for a reference later, which turns the table in any case.
 * @returns {Promise<Table>}
 * @throws {InputError} If they are no such files, are empty, damaged or too large.
 */
export async function openTable(files, genes = null) {
  if (!files.length) throw new InputError("no file was chosen");
  files.forEach(checkSize);
  const heads = await Promise.all(files.map(headOf));
  files.forEach((file, i) => refuseOthers(file, heads[i]));
  const table = await openAs(files, heads);
  if (genes) table.orient(genes);
  return table;
}

async function openAs(files, heads) {
  const [file] = files;
  if (files.length > 1 || isOfMatrix(file, heads[0])) return openMtx(files);
  if (startsWith(heads[0], HDF5)) return openHdf5(file);
  return openCsv(file);
}

async function openHdf5(file) {
  const { root, close } = await openH5(file);
  try {
    const tenx = findTenx(root);
    if (tenx) return new TenxTable(tenx, close, file);
    checkLayout(root, file.name);
    return new H5adTable(root, close, file);
  } catch (error) {
    close();
    throw inWords(error, `${file.name} cannot be opened`);
  }
}

function checkSize(file) {
  if (!file.size) throw new InputError(`${file.name} is empty`);
  if (file.size > LARGEST_FILE) {
    throw new InputError(
      `${file.name} is ${fileSize(file.size)}; files up to ${fileSize(LARGEST_FILE)} can be read ` +
        "here. Take a part of its cells, or use ReferenceMap.map in Python",
    );
  }
}

async function headOf(file) {
  return new Uint8Array(await file.slice(0, HEAD).arrayBuffer());
}

function startsWith(bytes, signature) {
  return signature.every((byte, i) => bytes[i] === byte);
}

/** Tell whether a file is one of the three of a matrix. */
function isOfMatrix(file, head) {
  return roleOf(file) !== undefined || startsWith(head, MATRIX_MARKET);
}

function refuseOthers(file, head) {
  const isHdf5 = startsWith(head, HDF5);
  const named = BY_NAME.find(([pattern]) => pattern.test(file.name));
  const signed = SIGNATURES.find(([signature]) => startsWith(head, signature));
  const problem = named?.[1] ?? signed?.[1];
  if (problem) throw new InputError(`${file.name} is ${problem}`);
  const saysHdf5 = /\.(h5ad|h5|hdf5|loom)$/i.test(file.name);
  if (saysHdf5 && !isHdf5) {
    throw new InputError(
      `${file.name} is no HDF5 file, although its name says so` +
        (isGzip(head) ? ": it is packed with gzip. Unpack it first" : ": download it again"),
    );
  }
  const isTar = startsWith(head.subarray(257), [0x75, 0x73, 0x74, 0x61, 0x72]);
  if (isTar) throw new InputError(`${file.name} is ${BY_NAME[2][1]}`);
  if (!isHdf5 && !isGzip(head) && isBinary(head)) {
    throw new InputError(
      `${file.name} is of an unknown kind: an h5ad file, an .h5 file of Cell Ranger, the three ` +
        "files of a matrix, or a text file (CSV or TSV) is needed",
    );
  }
}

function isBinary(head) {
  const isUtf16 = (head[0] === 0xff && head[1] === 0xfe) || (head[0] === 0xfe && head[1] === 0xff);
  return !isUtf16 && head.includes(0);
}
