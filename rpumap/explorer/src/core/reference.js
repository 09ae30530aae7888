// The file of a reference map: read, checked, never executed. It mirrors `read_file` of
// `rpumap.reference.file` and `from_parts` of `rpumap.reference.schema`, which describe it.

import { sha256 } from "@noble/hashes/sha2.js";

import { readSafetensors } from "./safetensors.js";

const ENTRY = "rpumap";
const VERSION = 2;
const FORMAT = /^rpumap reference map, version ([1-9][0-9]{0,8})$/;
const LARGEST_FILE = 256 * 2 ** 20; // bytes; a map of 300 genes takes less than one MiB
const [SMALLEST_SUM, LARGEST_SUM] = [1e-30, 1e30];
const WIDEST = 4096;
const POSITIVE = /\.(std|std_of_logs|usual)$/;
const IN_VERSION_1 = new Map([
  ["index.projection", "index.0.projection"],
  ["cells.components", "index.0.cells"],
  ["index.usual", "index.0.usual"],
]);
// what numpy calls the types, of which the checksum is made
const NUMPY_NAMES = {
  F64: "float64", F32: "float32", F16: "float16", I64: "int64", I32: "int32", U16: "uint16",
};
const BEGINNINGS = [
  ["\x89HDF", "an HDF5 file, as AnnData writes: open it as the table of cells to be mapped"],
  ["PK\x03\x04", "a zip archive, perhaps a model saved with torch.save: these are not opened"],
  ["\x80\x02", "a pickle, which could run code: pickles are not opened"],
  ["\x80\x03", "a pickle, which could run code: pickles are not opened"],
  ["\x80\x04", "a pickle, which could run code: pickles are not opened"],
  ["\x80\x05", "a pickle, which could run code: pickles are not opened"],
  ["\x1f\x8b", "compressed with gzip: decompress it first"],
];

/** A file that is no reference map, is damaged, or was written by a newer version. */
export class ReferenceFileError extends Error {
  name = "ReferenceFileError";
}

/**
 * @typedef {object} Space stored cells in a few components, and what is usual among them
 * @property {Float32Array} projection from z-scores to components, (nGenes x nComponents)
 * @property {Float32Array} cells (nStored x nComponents)
 * @property {Float64Array} usual usual distance of a cell of each label to its neighbours
 * @property {number} nComponents
 *
 * @typedef {object} Reference
 * @property {string} fileName
 * @property {string[]} genes
 * @property {Float64Array} mean of scaled counts, (nGenes)
 * @property {Float64Array} std
 * @property {Float64Array} meanOfLogs of the logarithms of 1 + scaled counts, (nGenes)
 * @property {Float64Array} stdOfLogs
 * @property {number} targetSum library size to which cells are scaled, counts
 * @property {number} panelShare share of a library that lies in the genes, median
 * @property {boolean} librarySizeStored whether the training cells had obs["library_size"]
 * @property {number} nFeaturesIn number of genes of the training table
 * @property {import("./network.js").Layer[]} layers
 * @property {string[]} labels
 * @property {Int32Array} codes labels of the stored cells, as places in `labels`
 * @property {Float32Array} coordinates of the stored cells on the map, (nStored x 2)
 * @property {Space[]} spaces the first gives the label, all together the novelty
 * @property {number} threshold of novelty, Infinity if there were too few cells
 * @property {number} quantile largest strangeness in a label set, or Infinity
 * @property {object} about what the reference was made from
 * @property {object} quality scores of held-out cells
 * @property {object} parameters of the constructor
 */

/**
 * Read and check a reference map.
 *
 * @param {Uint8Array} bytes the whole file
 * @param {string} fileName for messages
 * @returns {Reference}
 * @throws {ReferenceFileError} if it is no reference map, is damaged, or of a newer version than 2
 */
export function readReference(bytes, fileName) {
  const { header, tensors } = readFile(bytes, fileName);
  try {
    return { fileName, ...fromParts(header, tensors) };
  } catch (error) {
    throw new ReferenceFileError(`${fileName} holds no valid reference map (${error.message})`);
  }
}

// --- the file -----------------------------------------------------------------------------------

function readFile(bytes, fileName) {
  if (bytes.length > LARGEST_FILE) {
    throw new ReferenceFileError(
      `${fileName} is larger than ${LARGEST_FILE / 2 ** 20} MiB: it is no reference map`,
    );
  }
  let about, tensors;
  try {
    const read = readSafetensors(bytes);
    tensors = read.tensors;
    about = entryOf(read.metadata);
    for (const [name, { dtype }] of tensors) {
      if (!NUMPY_NAMES[dtype]) throw new Error(`array ${name} has the type ${dtype}`);
    }
  } catch (error) {
    throw new ReferenceFileError(noMap(bytes, fileName, error));
  }
  checkVersion(about, fileName);
  if (about.sha256 !== checksum(about.header ?? "", tensors)) {
    throw new ReferenceFileError(
      `${fileName} is damaged: its checksum is not that of its content. Copy or download it again`,
    );
  }
  return { header: parseHeader(about.header, fileName), tensors };
}

function entryOf(metadata) {
  const about = JSON.parse(Object.hasOwn(metadata, ENTRY) ? metadata[ENTRY] : "{}");
  if (!isObject(about) || !Object.values(about).every((text) => typeof text === "string")) {
    throw new Error(`its entry '${ENTRY}' is no JSON object of texts`);
  }
  return about;
}

function checkVersion({ format = "" }, fileName) {
  const found = FORMAT.exec(format);
  if (!found) {
    throw new ReferenceFileError(
      `${fileName} is a safetensors file, but holds no reference map: ReferenceMap.save writes ` +
        "them",
    );
  }
  if (Number(found[1]) > VERSION) {
    throw new ReferenceFileError(
      `${fileName} has version ${found[1]} of the format, and this page reads versions up to ` +
        `${VERSION}: use the page of a newer rpumap`,
    );
  }
}

function checksum(header, tensors) {
  const digest = sha256.create();
  const encoder = new TextEncoder();
  digest.update(encoder.encode(header));
  for (const name of [...tensors.keys()].sort()) {
    const { dtype, shape, bytes } = tensors.get(name);
    const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
    digest.update(encoder.encode(`\n${name} ${NUMPY_NAMES[dtype]} ${tuple}\n`));
    digest.update(bytes);
  }
  return Array.from(digest.digest(), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function parseHeader(text, fileName) {
  let header;
  try {
    header = JSON.parse(text);
  } catch (error) {
    throw new ReferenceFileError(`the header of ${fileName} cannot be read: ${error.message}`);
  }
  if (!isObject(header)) {
    throw new ReferenceFileError(`the header of ${fileName} is no JSON object`);
  }
  return header;
}

function noMap(bytes, fileName, error) {
  if (!bytes.length) return `${fileName} is empty`;
  const start = String.fromCharCode(...bytes.subarray(0, 4));
  const [, what] = BEGINNINGS.find(([beginning]) => start.startsWith(beginning)) ?? [];
  if (what) return `${fileName} is no reference map but ${what}`;
  return (
    `${fileName} is no reference map, or is damaged or cut short (${error.message}): ` +
    "ReferenceMap.save writes them. If it was one, copy or download it again"
  );
}

// --- what is in it ------------------------------------------------------------------------------

function fromParts(header, tensors) {
  const arrays = new Map(Array.from(tensors, ([name, t]) => [IN_VERSION_1.get(name) ?? name, t]));
  const genes = texts(header.genes, "genes");
  const labels = texts(header.labels, "labels");
  const sizes = hiddenSizes(header.hidden_sizes);
  const names = [...arrays.keys()];
  const nSpaces = Math.max(1, names.filter((name) => name.endsWith(".cells")).length);
  checkArrays(arrays, shapesOf(genes.length, sizes, labels.length, nSpaces, arrays));
  const array = (name) => arrays.get(name).data;
  checkCodes(array("cells.labels"), labels.length);
  return {
    genes,
    mean: array("genes.mean"),
    std: array("genes.std"),
    meanOfLogs: array("genes.mean_of_logs"),
    stdOfLogs: array("genes.std_of_logs"),
    targetSum: number(header.target_sum, "target_sum", SMALLEST_SUM, LARGEST_SUM),
    panelShare: number(header.panel_share, "panel_share"),
    librarySizeStored: Boolean(header.library_size_stored),
    nFeaturesIn: integer(header.n_features_in, "n_features_in", 1),
    layers: layersOf([genes.length, ...sizes, 2], array),
    labels,
    codes: array("cells.labels"),
    coordinates: array("cells.map"),
    spaces: Array.from({ length: nSpaces }, (_, i) => ({
      projection: array(`index.${i}.projection`),
      cells: array(`index.${i}.cells`),
      usual: array(`index.${i}.usual`),
      nComponents: arrays.get(`index.${i}.cells`).shape[1],
    })),
    threshold: numberOrInfinity(header.threshold, "threshold"),
    quantile: numberOrInfinity(header.quantile, "quantile"),
    ...described(header),
  };
}

/** Return the parts that tell people of the reference; all that is said of it must be there. */
function described({ about, quality, parameters }) {
  for (const [name, part] of Object.entries({ about, quality, parameters })) {
    if (!isObject(part)) throw new Error(`${name} must be an object`);
  }
  for (const name of ["n_used", "n_cells", "n_genes"]) integer(about[name], `about.${name}`, 0);
  for (const name of ["rpumap", "source"]) {
    if (typeof about[name] !== "string") throw new Error(`about.${name} must be a text`);
  }
  integer(quality.n_cells, "quality.n_cells", 0);
  for (const name of ["trust", "index_accuracy", "map_accuracy", "coverage"]) {
    number(quality[name], `quality.${name}`);
  }
  return { about, quality, parameters };
}

function layersOf(widths, array) {
  return widths.slice(1).map((nOut, i) => ({
    weight: array(`network.${2 * i}.weight`),
    bias: array(`network.${2 * i}.bias`),
    nIn: widths[i],
    nOut,
  }));
}

function shapesOf(nGenes, sizes, nLabels, nSpaces, arrays) {
  const shapeOf = (name) => {
    if (!arrays.has(name)) throw new Error(`array ${name} is missing`);
    return arrays.get(name).shape;
  };
  const nStored = shapeOf("cells.labels")[0] ?? 0;
  const shapes = new Map([
    ["genes.mean", ["F64", nGenes]],
    ["genes.std", ["F64", nGenes]],
    ["genes.mean_of_logs", ["F64", nGenes]],
    ["genes.std_of_logs", ["F64", nGenes]],
    ["cells.labels", ["I32", nStored]],
    ["cells.map", ["F32", nStored, 2]],
  ]);
  for (let i = 0; i < nSpaces; i++) {
    const nComponents = shapeOf(`index.${i}.cells`)[1] ?? 0;
    shapes.set(`index.${i}.projection`, ["F32", nGenes, nComponents]);
    shapes.set(`index.${i}.cells`, ["F32", nStored, nComponents]);
    shapes.set(`index.${i}.usual`, ["F64", nLabels]);
  }
  [nGenes, ...sizes].forEach((nIn, i) => {
    const nOut = sizes[i] ?? 2;
    shapes.set(`network.${2 * i}.weight`, ["F32", nOut, nIn]);
    shapes.set(`network.${2 * i}.bias`, ["F32", nOut]);
  });
  return shapes;
}

function checkArrays(arrays, shapes) {
  const wrong = [...shapes.keys()].filter((name) => !arrays.has(name));
  wrong.push(...[...arrays.keys()].filter((name) => !shapes.has(name)));
  if (wrong.length) {
    throw new Error(`arrays are missing or unknown: ${wrong.sort().slice(0, 5).join(", ")}`);
  }
  for (const [name, [dtype, ...shape]] of shapes) {
    const found = arrays.get(name);
    const isSame = found.dtype === dtype && String(found.shape) === String(shape);
    if (!isSame) {
      throw new Error(
        `${name} must be ${NUMPY_NAMES[dtype]} of shape (${shape.join(", ")}), not ` +
          `${NUMPY_NAMES[found.dtype]} of (${found.shape.join(", ")})`,
      );
    }
    if (!found.data.every(Number.isFinite)) throw new Error(`${name} must be finite`);
    const isPositive = found.data.every((value) => value > 0);
    if (POSITIVE.test(name) && !isPositive) throw new Error(`${name} must be above 0`);
  }
}

function checkCodes(codes, nLabels) {
  const found = new Set(codes);
  const isComplete = found.size === nLabels && codes.every((code) => code >= 0 && code < nLabels);
  if (!isComplete) throw new Error("each label must be that of a stored cell");
}

function texts(list, name) {
  const isGood = Array.isArray(list) && list.every((text) => typeof text === "string");
  if (!isGood || !list.length || new Set(list).size < list.length) {
    throw new Error(`${name} must be a list of different texts`);
  }
  return list;
}

function hiddenSizes(sizes) {
  if (!Array.isArray(sizes)) throw new Error("hidden_sizes must be a list");
  return sizes.map((size) => integer(size, "hidden_sizes", 1, WIDEST));
}

function number(value, name, least = -Infinity, most = Infinity) {
  if (!Number.isFinite(value) || value < least || value > most) {
    throw new Error(`${name} must be a finite number, got ${JSON.stringify(value)}`);
  }
  return value;
}

function integer(value, name, least, most = Infinity) {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new Error(`${name} must be a whole number of at least ${least}, got ${value}`);
  }
  return value;
}

function numberOrInfinity(value, name) {
  return value === null ? Infinity : number(value, name);
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
