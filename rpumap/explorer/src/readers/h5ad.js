/**
 * Tables in h5ad files, which anndata writes: counts in X, in a layer, or in raw/X.
 */

import { InputError, some, withCommas } from "./input_error.js";
import { attribute, isDataset, nameOf } from "./h5_file.js";
import { once, openFrame } from "./h5_frame.js";
import { readDense, readSparse } from "./h5_matrix.js";

const LIBRARY_SIZE = "library_size";
const NAMES = "var_names";

/** A table in an h5ad file; see `openTable` for what all tables have in common. */
export class H5adTable {
  /**
   * @param {object} root The file, as h5wasm opened it.
   * @param {function(): void} close What ends the use of it.
   * @param {File} file
   * @throws {InputError} If it holds no cells, no genes or no counts.
   */
  constructor(root, close, file) {
    this.kind = "h5ad";
    this.fileName = file.name;
    this.bytes = file.size;
    this.remarks = [];
    this.close = close;
    this.orient = () => {};
    this._root = root;
    const uns = root.get("uns");
    this._obs = openFrame(root.get("obs"), uns);
    this._var = openFrame(root.get("var"), uns);
    this.nCells = this._obs.length;
    this.nGenes = this._var.length;
    this._parts = this._findParts(uns);
    this.parts = [...this._parts.keys()];
    this.defaultPart = this.parts[0];
    this._check();
    this.summary =
      `h5ad file of ${withCommas(this.nCells)} cells and ${withCommas(this.nGenes)} genes, with ` +
      this.parts.join(", ");
  }

  cellNames() {
    return this._obs.names();
  }

  genesOf(part) {
    return genesOf(this._parts.get(part).frame);
  }

  get librarySize() {
    try {
      return this._obs.numbers(LIBRARY_SIZE);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      throw new InputError(
        `obs['${LIBRARY_SIZE}'] cannot be used (${error.message}): it must hold the number of ` +
          "molecules of each cell in all genes. Without that column the sums of the cells' " +
          "counts are taken",
      );
    }
  }

  async read(part, sink, onProgress) {
    const { node, frame } = this._parts.get(part);
    const format = formatOf(node);
    const shape = isDataset(node) ? node.shape : shapeOf(node);
    if (shape?.[0] !== this.nCells || shape?.[1] !== frame.length) {
      throw new InputError(
        `${part} is of the shape ${shape?.join(" x ")}, but there are ${this.nCells} cells and ` +
          `${frame.length} genes: the file is damaged`,
      );
    }
    if (format === "dense") {
      readDense(
        node,
        (values, cell, nCells, column, nColumns) => {
          sink.dense(values, cell, nCells, column, nColumns);
          return sink.done;
        },
        onProgress,
      );
      return;
    }
    const byCell = format === "csr";
    readSparse(
      node,
      byCell ? this.nCells : frame.length,
      byCell ? frame.length : this.nCells,
      (majors, minors, values, n) => {
        if (byCell) sink.entries(majors, minors, values, n);
        else sink.entries(minors, majors, values, n);
        return sink.done;
      },
      onProgress,
    );
  }

  /** Find what may hold counts: X first, then the layers, those called counts first, then raw. */
  _findParts(uns) {
    const root = this._root;
    const parts = new Map();
    const add = (name, node, frame) => {
      if (node && !isEmpty(node)) parts.set(name, { node, frame });
    };
    add("X", root.get("X"), this._var);
    const layers = root.get("layers");
    const names = layers?.keys?.() ?? [];
    for (const name of names.sort((a, b) => (b === "counts") - (a === "counts"))) {
      add(`layers/${name}`, layers.get(name), this._var);
    }
    const ofRaw = (name) => root.get(`raw/${name}`) ?? root.get(`raw.${name}`);
    const [rawX, rawVar] = [ofRaw("X"), ofRaw("var")];
    if (rawX && rawVar) add("raw/X", rawX, openFrame(rawVar, uns));
    return parts;
  }

  _check() {
    const { nCells, nGenes, fileName } = this;
    if (!nCells || !nGenes) {
      throw new InputError(
        `${fileName} holds no counts: it has ${nCells} cells and ${nGenes} genes`,
      );
    }
    if (!this.parts.length) {
      throw new InputError(
        `${fileName} holds no counts: it has no X, no layers and no raw. In Python, store raw ` +
          "counts in adata.X or adata.layers['counts'], and write the table anew",
      );
    }
  }
}

/**
 * Tell whether an open HDF5 file is laid out as h5ad files are, and refuse what others write.
 *
 * @param {object} root The file.
 * @param {string} fileName
 * @throws {InputError} If it is not, with what to do instead.
 */
export function checkLayout(root, fileName) {
  const keys = root.keys();
  const has = (...names) => names.every((name) => keys.includes(name));
  if (has("obs", "var")) return;
  let problem = `it holds ${some(keys) || "nothing"}, not obs and var as h5ad files do`;
  if (has("row_attrs", "col_attrs")) {
    problem =
      "it is a loom file. In Python: scanpy.read_loom('FILE').write_h5ad('FILE.h5ad')";
  } else if (has("mod")) {
    problem =
      "it is a MuData file of several tables. In Python: " +
      "mudata.read('FILE')['rna'].write_h5ad('rna.h5ad')";
  } else if (has("assays") || has("cell.names")) {
    problem =
      "it is a file of Seurat. In R: SeuratDisk::Convert('FILE', dest = 'h5ad')";
  }
  throw new InputError(`${fileName} cannot be used: ${problem.replaceAll("FILE", fileName)}`);
}

/**
 * Describe the names of genes of a frame: columns that are read when they are first looked at.
 *
 * @param {object} frame As `openFrame` returns it.
 * @returns {{columns: Object<string, string[]>, defaultColumn: string}}
 */
function genesOf(frame) {
  const columns = {};
  const add = (name, values) =>
    Object.defineProperty(columns, name, { get: once(values), enumerable: true });
  add(NAMES, () => frame.names());
  for (const name of frame.textColumns) {
    if (name !== NAMES) add(name, () => frame.text(name));
  }
  return { columns, defaultColumn: NAMES };
}

function formatOf(node) {
  if (isDataset(node)) return "dense";
  const format = attribute(node, "encoding-type") ?? attribute(node, "h5sparse_format") ?? "";
  const known = { csr_matrix: "csr", csr: "csr", csc_matrix: "csc", csc: "csc" };
  if (!known[format]) {
    throw new InputError(
      `${nameOf(node)} is stored as ${format || "something unknown"}, which is no matrix of ` +
        "numbers",
    );
  }
  return known[format];
}

function shapeOf(group) {
  const shape = attribute(group, "shape") ?? attribute(group, "h5sparse_shape");
  return shape && Array.from(shape);
}

/** Tell whether a part holds nothing, as X of a table without X in some versions. */
function isEmpty(node) {
  return isDataset(node) ? !node.shape?.length : !node.get?.("data");
}
