/**
 * Tables in text files: fields between commas, tabs, semicolons or spaces, a header, and names in
 * the first column. Cells are rows or, where the names say so, genes are.
 *
 * A file is read twice: for the names, and for the counts. Only one line at a time becomes numbers.
 */

import Papa from "papaparse";

import { MATCHES } from "./genes.js";
import { InputError, withCommas } from "./input_error.js";
import { linesOf, numberFrom, text, textBlocks } from "./text_stream.js";

const DELIMITERS = [",", "\t", ";", " "];
const [MINUS, POINT, QUOTE, ZERO, NINE] = [45, 46, 34, 48, 57];
const MOST_EXACT = 2 ** 53; // below it whole numbers, and quotients by powers of ten, are exact
const POWERS = Float64Array.from({ length: 23 }, (_, i) => Number(`1e${i}`));
const QUOTED = -1;

/** A table in a text file; see `openTable` for what all tables have in common. */
class CsvTable {
  /**
   * @param {File} file
   * @param {Layout} layout As `findLayout` returns it.
   * @param {string[]} rowNames The first field of each line after the header.
   */
  constructor(file, layout, rowNames) {
    this.kind = "csv";
    this.fileName = file.name;
    this.bytes = file.size;
    this.close = () => {};
    this.parts = ["the table"];
    this.defaultPart = this.parts[0];
    this.librarySize = null;
    this._file = file;
    this._layout = layout;
    this._rowNames = rowNames;
    this._genesInRows = false;
    this._hasNames = true;
    const [nRows, nColumns] = [rowNames.length, layout.columnNames.length];
    this.summary = `text file of ${withCommas(nRows)} rows and ${withCommas(nColumns)} columns`;
  }

  get nCells() {
    return this.cellNames().length;
  }

  get nGenes() {
    return this._geneNames().length;
  }

  get remarks() {
    const { corner } = this._layout;
    const remarks = [];
    if (this._genesInRows) {
      remarks.push(`${this.fileName} has genes in rows and cells in columns, and was read so`);
    }
    if (!this._hasNames) {
      remarks.push(
        `the first column of ${this.fileName} is the gene '${corner}', so that cells have no ` +
          "names: they are numbered",
      );
    }
    return remarks;
  }

  cellNames() {
    if (this._genesInRows) return this._layout.columnNames;
    return this._hasNames ? this._rowNames : this._rowNames.map((_, row) => String(row + 1));
  }

  genesOf() {
    return { columns: { name: this._geneNames() }, defaultColumn: "name" };
  }

  orient(genes) {
    const { corner, columnNames } = this._layout;
    this._genesInRows = mostMatching(this._rowNames, genes) > mostMatching(columnNames, genes);
    this._hasNames = this._genesInRows || !genes.includes(corner);
  }

  async read(part, sink, onProgress) {
    const { delimiter, columnNames } = this._layout;
    const values = new Float64Array(columnNames.length + !this._hasNames);
    const parse = lineParser(this._file, delimiter, this._hasNames, this._columnNames());
    await forEachRow(this._file, onProgress, (block, [start, end, line], row) => {
      parse(block, start, end, line, values);
      if (this._genesInRows) sink.dense(values, 0, values.length, row, 1);
      else sink.dense(values, row, 1, 0, values.length);
      return sink.done;
    });
  }

  _columnNames() {
    const { corner, columnNames } = this._layout;
    return this._hasNames ? columnNames : [corner, ...columnNames];
  }

  _geneNames() {
    return this._genesInRows ? this._rowNames : this._columnNames();
  }
}

/**
 * Open a text file.
 *
 * @param {File} file
 * @returns {Promise<CsvTable>}
 * @throws {InputError} If it is no table.
 */
export async function openCsv(file) {
  const layout = await findLayout(file);
  const rowNames = [];
  await forEachRow(file, undefined, (block, [start, end, line]) => {
    rowNames.push(rowName(block, start, end, layout.delimiter, file, line));
    return false;
  });
  return new CsvTable(file, layout, rowNames);
}

/** Count names that are genes, whatever of case and version may differ. */
function mostMatching(names, genes) {
  const counts = Object.values(MATCHES).map((spell) => {
    const known = new Set(genes.map(spell));
    return names.reduce((n, name) => n + known.has(spell(name)), 0);
  });
  return Math.max(...counts);
}

/** Call a function with each line that is not empty, and its number, until it returns true. */
async function forEachLine(file, onProgress, take) {
  let line = 0;
  for await (const block of textBlocks(file, onProgress)) {
    for (const [start, end] of linesOf(block)) {
      line++;
      if (end > start && take(block, [start, end, line])) return;
    }
  }
}

/** The same without the header, and with the number of the row. */
async function forEachRow(file, onProgress, take) {
  let row = -1;
  await forEachLine(file, onProgress, (block, line) => {
    const isHeader = row++ < 0;
    return !isHeader && take(block, line, row - 1);
  });
}

// --- layout -------------------------------------------------------------------------------------

/**
 * @typedef {object} Layout
 * @property {string} delimiter
 * @property {?string} corner The first field of the header; null if the header has one field less
 *   than other lines.
 * @property {string[]} columnNames The other fields of the header.
 */

/**
 * Find out how a table is laid out, by its first two lines.
 *
 * @param {File} file
 * @returns {Promise<Layout>}
 * @throws {InputError} If it has no second line, or no fields.
 */
async function findLayout(file) {
  const lines = [];
  await forEachLine(file, undefined, (block, [start, end]) => {
    lines.push(text(block, start, end));
    return lines.length === 2;
  });
  if (lines.length < 2) {
    const found = lines.length ? "a header but no other line" : "no line";
    throw new InputError(`${file.name} holds no table: it has ${found}`);
  }
  const { delimiter, header, second } = splitBest(lines, file);
  if (second.length === header.length + 1) return { delimiter, corner: null, columnNames: header };
  return { delimiter, corner: header[0], columnNames: header.slice(1) };
}

function splitBest(lines, file) {
  const ways = DELIMITERS.map((delimiter) => {
    const [header, second] = lines.map((line) => fieldsOf(line, delimiter));
    const fits = second.length === header.length || second.length === header.length + 1;
    return { delimiter, header, second, score: fits ? 2 * second.length : header.length };
  });
  const best = ways.reduce((one, other) => (other.score > one.score ? other : one));
  if (best.second.length < 2 && best.header.length < 2) {
    throw new InputError(
      `${file.name} is no table: its lines have one field each. Fields must stand between ` +
        "commas, tabs or semicolons, with the names of genes in the first line",
    );
  }
  return best;
}

function fieldsOf(line, delimiter) {
  return Papa.parse(line, { delimiter, quoteChar: '"' }).data[0] ?? [];
}

// --- lines --------------------------------------------------------------------------------------

/** Return the first field of a line. */
function rowName(block, start, end, delimiter, file, line) {
  const next = afterName(block, start, end, delimiter.charCodeAt(0), file, line);
  const name = text(block, start, next ? next - 1 : end);
  return block[start] === QUOTE ? name.slice(1, -1).replaceAll('""', '"') : name;
}

/** Find where the second field begins; 0 if there is none. */
function afterName(block, start, end, delimiter, file, line) {
  let at = start;
  if (block[start] === QUOTE) {
    at = afterQuote(block, start, end);
    if (!at) refuse(file, line, "the quote of its first field is not closed");
  }
  const next = block.indexOf(delimiter, at);
  return next < 0 || next >= end ? 0 : next + 1;
}

/** Find the place after the quote that closes a field; 0 if there is none. Two are one in it. */
function afterQuote(block, start, end) {
  for (let at = start + 1; at < end; at++) {
    if (block[at] !== QUOTE) continue;
    if (block[at + 1] !== QUOTE) return at + 1;
    at++;
  }
  return 0;
}

/** Make a function that reads the numbers of a line. */
function lineParser(file, delimiter, hasNames, columnNames) {
  const code = delimiter.charCodeAt(0);
  let problem = null;
  const onText = (field, place) => {
    const value = numberFrom(field);
    if (value === null) problem ??= { field, name: columnNames[place] };
    return value;
  };
  const parseQuoted = (line, values) => {
    const fields = fieldsOf(line, delimiter).slice(hasNames ? 1 : 0);
    fields.forEach((field, place) => (values[place] = onText(field, place)));
    return fields.length;
  };
  return (block, start, end, line, values) => {
    problem = null;
    const first = hasNames ? afterName(block, start, end, code, file, line) : start;
    let n = hasNames && !first ? 0 : parseFields(block, first, end, code, values, onText);
    if (n === QUOTED) n = parseQuoted(text(block, start, end), values);
    if (n !== values.length) refuseLength(n, values.length, hasNames, file, line);
    if (problem) refuseText(problem, file, line);
  };
}

/**
 * Read fields from bytes. Short decimals are exact: a whole number below 2**53 divided by a power
 * of ten up to 22 is rounded once.
 *
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {number} end Of the line, where another byte follows.
 * @param {number} delimiter Its code.
 * @param {Float64Array} values Filled.
 * @param {function(string, number): number} onText Turns other fields into numbers; it gets their
 *   place as well.
 * @returns {number} How many fields there are, which may be more than `values` has place for;
 *   QUOTED if one of them is in quotes.
 */
function parseFields(bytes, start, end, delimiter, values, onText) {
  let n = 0;
  for (let at = start; at <= end; at++, n++) {
    const fieldStart = at;
    const isNegative = bytes[at] === MINUS;
    if (isNegative) at++;
    let [digits, nDigits, nDecimals] = [0, 0, 0];
    for (; bytes[at] >= ZERO && bytes[at] <= NINE; at++, nDigits++) {
      digits = 10 * digits + bytes[at] - ZERO;
    }
    if (bytes[at] === POINT) {
      for (at++; bytes[at] >= ZERO && bytes[at] <= NINE; at++, nDigits++, nDecimals++) {
        digits = 10 * digits + bytes[at] - ZERO;
      }
    }
    const isPlain = nDigits > 0 && digits < MOST_EXACT && nDecimals < POWERS.length;
    if (isPlain && (at >= end || bytes[at] === delimiter)) {
      const value = nDecimals ? digits / POWERS[nDecimals] : digits;
      values[n] = isNegative ? -value : value;
      continue;
    }
    if (bytes[fieldStart] === QUOTE) return QUOTED;
    const next = bytes.indexOf(delimiter, fieldStart);
    at = next < 0 || next > end ? end : next;
    values[n] = onText(text(bytes, fieldStart, at), n);
  }
  return n;
}

function refuseLength(n, nExpected, hasNames, file, line) {
  const names = hasNames ? 1 : 0;
  refuse(
    file,
    line,
    `it has ${n + names} fields, but must have ${nExpected + names} by the header: the file may ` +
      "be cut short",
  );
}

function refuseText({ field, name }, file, line) {
  const isDecimal = /^\s*[+-]?\d+,\d+\s*$/.test(field);
  const toDo = isDecimal
    ? "write decimals with points, not with commas"
    : "leave that column or row out, since a table holds counts only, besides one header and one " +
      "column of names";
  refuse(file, line, `column '${name}' holds '${field.slice(0, 40)}', which is no number: ${toDo}`);
}

function refuse(file, line, problem) {
  throw new InputError(`line ${withCommas(line)} of ${file.name} cannot be used: ${problem}`);
}
