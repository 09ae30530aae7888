/**
 * Tables in three files, as Cell Ranger and STARsolo write them: a matrix in Matrix Market format,
 * and lists of its features and of its barcodes. Any of them may be packed with gzip.
 */

import { chooseGenes, ofGenes, takeGenes } from "./features.js";
import { InputError, withCommas } from "./input_error.js";
import { numberFrom, readLines, text, textBlocks } from "./text_stream.js";

const [LINE_FEED, RETURN, SPACE, TAB] = [10, 13, 32, 9];
const [ZERO, NINE] = [48, 57];
const SHORTEST_ENTRY = 6; // bytes: "1 1 1\n"

// browsers add a number to what is downloaded twice
const ROLES = {
  matrix: {
    pattern: /\.mtx( ?\(\d+\))?(\.gz)?$/i,
    file: "the matrix (matrix.mtx or matrix.mtx.gz)",
  },
  barcodes: {
    pattern: /barcodes?( ?\(\d+\))?\.(tsv|txt)( ?\(\d+\))?(\.gz)?$/i,
    file: "the cells (barcodes.tsv or barcodes.tsv.gz)",
  },
  features: {
    pattern: /(features?|genes?)( ?\(\d+\))?\.(tsv|txt)( ?\(\d+\))?(\.gz)?$/i,
    file: "the genes (features.tsv, features.tsv.gz or genes.tsv)",
  },
};

/** A table in three files; see `openTable` for what all tables have in common. */
class MtxTable {
  /**
   * @param {{matrix: File, barcodes: File, features: File}} files As `assignFiles` returns them.
   * @param {{nRows: number, nColumns: number, nEntries: number}} size Of the matrix.
   * @param {string[]} barcodes
   * @param {string[][]} features For each feature the fields of its line: its id, its symbol and
   *   its type, of which the last ones may be missing.
   * @throws {InputError} If the three do not belong together, or hold no cells or no genes.
   */
  constructor(files, size, barcodes, features) {
    this.kind = "mtx";
    this.fileName = files.matrix.name;
    this.bytes = files.matrix.size + files.barcodes.size + files.features.size;
    this.close = this.orient = () => {};
    this.parts = ["the matrix"];
    this.defaultPart = this.parts[0];
    this.librarySize = null;
    this._files = files;
    this._size = size;
    this._barcodes = barcodes;
    this._byGene = this._findDirection(features.length);
    const types = features.map((fields) => fields[2]).filter((type) => type !== undefined);
    this._genes = chooseGenes(
      types.length === features.length ? types : [],
      features.length,
      files.features.name,
    );
    this._columns = namesOf(features, this._genes);
    this.nCells = barcodes.length;
    this.nGenes = this._genes.n;
    this.remarks = [...this._genes.remarks];
    if (!this._byGene) {
      this.remarks.push(`${this.fileName} has cells in rows and genes in columns, and was read so`);
    }
    this.summary =
      `three files of ${withCommas(this.nCells)} cells and ${withCommas(this.nGenes)} genes`;
  }

  cellNames() {
    return this._barcodes;
  }

  genesOf() {
    return { columns: this._columns, defaultColumn: Object.keys(this._columns)[0] };
  }

  async read(part, sink, onProgress) {
    let n = 0;
    const { nEntries, nRows, nColumns } = this._size;
    const parse = entryParser(nRows, nColumns, this.fileName);
    let isFirst = true;
    for await (const block of textBlocks(this._files.matrix, onProgress)) {
      const start = isFirst ? readHead(block, this.fileName).end : 0;
      isFirst = false;
      const { rows, columns, values, n: nRead } = parse(block, start);
      n += nRead;
      const [features, cells] = this._byGene ? [rows, columns] : [columns, rows];
      if (takeGenes(sink, this._genes, cells, features, values, nRead)) return;
    }
    if (n !== nEntries) {
      throw new InputError(
        `${this.fileName} should hold ${withCommas(nEntries)} values, but holds ` +
          `${withCommas(n)}: it is cut short or damaged. Copy or download it again`,
      );
    }
  }

  /** Tell whether genes are rows, as usual, by the numbers of rows and columns. */
  _findDirection(nFeatures) {
    const { nRows, nColumns } = this._size;
    const nBarcodes = this._barcodes.length;
    if (!nBarcodes || !nFeatures || !nRows || !nColumns) {
      throw new InputError(
        `${this.fileName} holds no counts: there are ${nBarcodes} cells and ${nFeatures} genes`,
      );
    }
    if (nRows === nFeatures && nColumns === nBarcodes) return true;
    if (nRows === nBarcodes && nColumns === nFeatures) return false;
    throw new InputError(
      `the three files do not belong together: ${this.fileName} has ${nRows} rows and ` +
        `${nColumns} columns, but ${this._files.features.name} has ${nFeatures} lines and ` +
        `${this._files.barcodes.name} has ${nBarcodes}. Choose the three files of one sample, ` +
        "without headers in the lists",
    );
  }
}

/**
 * Open the three files.
 *
 * @param {File[]} files In any order.
 * @returns {Promise<MtxTable>}
 * @throws {InputError} If one is missing, or they do not belong together.
 */
export async function openMtx(files) {
  const roles = assignFiles(files);
  const size = await readSize(roles.matrix);
  const barcodes = (await readLines(roles.barcodes)).map((line) => line.split("\t")[0]);
  const features = (await readLines(roles.features)).map((line) => line.split("\t"));
  return new MtxTable(roles, size, barcodes, features);
}

/**
 * Tell which of the three files a file is, by its name.
 *
 * @param {File} file
 * @returns {"matrix"|"barcodes"|"features"|undefined}
 */
export function roleOf(file) {
  return Object.keys(ROLES).find((role) => ROLES[role].pattern.test(file.name));
}

/**
 * Tell which file is which, by their names.
 *
 * @param {File[]} files
 * @returns {{matrix: File, barcodes: File, features: File}}
 * @throws {InputError} If one is missing, or there are several of one kind.
 */
function assignFiles(files) {
  const roles = {};
  for (const file of files) {
    const role = roleOf(file);
    if (role === undefined) {
      throw new InputError(
        `'${file.name}' is none of the three files of a matrix: choose those whose names end in ` +
          "matrix.mtx, barcodes.tsv and features.tsv (or genes.tsv), or one file of another kind",
      );
    }
    if (roles[role]) {
      throw new InputError(
        `'${roles[role].name}' and '${file.name}' are both ${ROLES[role].file}: choose the three ` +
          "files of one sample",
      );
    }
    roles[role] = file;
  }
  const missing = Object.keys(ROLES).filter((role) => !roles[role]);
  if (missing.length) {
    const lacking = missing.map((role) => ROLES[role].file).join(" and ");
    throw new InputError(
      `a matrix comes in three files, and ${lacking} ${missing.length > 1 ? "are" : "is"} ` +
        "missing: choose all three together",
    );
  }
  return roles;
}

function namesOf(features, genes) {
  const columns = {};
  const nFields = Math.min(...features.map((fields) => fields.length));
  if (nFields > 1) columns.symbol = ofGenes(features.map((fields) => fields[1]), genes);
  columns[nFields > 1 ? "id" : "name"] = ofGenes(features.map((fields) => fields[0]), genes);
  return columns;
}

// --- the matrix ---------------------------------------------------------------------------------

async function readSize(file) {
  for await (const block of textBlocks(file)) return readHead(block, file.name);
  throw new InputError(`${file.name} is empty`);
}

/** Read the lines before the entries: what the matrix is, comments, and its size. */
function readHead(block, name) {
  let at = 0;
  const nextLine = () => {
    const end = block.indexOf(LINE_FEED, at);
    if (end < 0) refuseHead(name, "it ends before the size of the matrix");
    const line = text(block, at, end).trim();
    at = end + 1;
    return line;
  };
  const banner = nextLine();
  checkBanner(banner, name);
  let line = nextLine();
  while (line === "" || line.startsWith("%")) line = nextLine();
  const size = line.split(/\s+/).map(Number);
  if (size.length !== 3 || !size.every((value) => Number.isInteger(value) && value >= 0)) {
    refuseHead(name, `'${line.slice(0, 60)}' should be the numbers of rows, columns and values`);
  }
  return { nRows: size[0], nColumns: size[1], nEntries: size[2], end: at };
}

function checkBanner(banner, name) {
  const words = banner.toLowerCase().split(/\s+/);
  if (words[0] !== "%%matrixmarket") {
    refuseHead(name, `it should begin with '%%MatrixMarket', not '${banner.slice(0, 40)}'`);
  }
  const [, , format, numbers, symmetry] = words;
  if (format !== "coordinate" || !["integer", "real"].includes(numbers) || symmetry !== "general") {
    refuseHead(
      name,
      `it is '${[format, numbers, symmetry].join(" ")}', but must be 'coordinate integer ` +
        "general' or 'coordinate real general'",
    );
  }
}

function refuseHead(name, problem) {
  throw new InputError(`${name} is no matrix of counts in Matrix Market format: ${problem}`);
}

/**
 * Make a function that turns the lines of a block into entries, whose arrays are used again.
 *
 * Most lines are three whole numbers, which are read digit by digit.
 */
function entryParser(nRows, nColumns, name) {
  let [rows, columns, values] = [new Int32Array(0), new Int32Array(0), new Float64Array(0)];
  return (block, start) => {
    const most = Math.ceil((block.length - start) / SHORTEST_ENTRY);
    if (rows.length < most) {
      [rows, columns] = [new Int32Array(most), new Int32Array(most)];
      values = new Float64Array(most);
    }
    let n = 0;
    for (let at = start; at < block.length; ) {
      if (block[at] <= SPACE) {
        at++;
        continue;
      }
      const lineStart = at;
      let row = 0;
      for (; block[at] >= ZERO && block[at] <= NINE; at++) row = 10 * row + block[at] - ZERO;
      while (block[at] === SPACE || block[at] === TAB) at++;
      let column = 0;
      for (; block[at] >= ZERO && block[at] <= NINE; at++) column = 10 * column + block[at] - ZERO;
      while (block[at] === SPACE || block[at] === TAB) at++;
      const valueStart = at;
      let value = 0;
      for (; block[at] >= ZERO && block[at] <= NINE; at++) value = 10 * value + block[at] - ZERO;
      if (at === valueStart || (block[at] !== LINE_FEED && block[at] !== RETURN)) {
        at = block.indexOf(LINE_FEED, valueStart);
        value = numberFrom(text(block, valueStart, at));
      }
      if (value === null || !(row >= 1 && row <= nRows && column >= 1 && column <= nColumns)) {
        const line = text(block, lineStart, block.indexOf(LINE_FEED, lineStart));
        refuseLine(name, line, nRows, nColumns);
      }
      rows[n] = row - 1;
      columns[n] = column - 1;
      values[n++] = value;
    }
    return { rows, columns, values, n };
  };
}

function refuseLine(name, line, nRows, nColumns) {
  throw new InputError(
    `the line '${line.trim().slice(0, 60)}' of ${name} is no row (1 to ${nRows}), column (1 to ` +
      `${nColumns}) and value: the file is damaged`,
  );
}
