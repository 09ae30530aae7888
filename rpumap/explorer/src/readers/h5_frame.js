/**
 * Tables `obs` and `var` of h5ad files: names and columns, in all formats of anndata.
 *
 * Columns are groups or data sets in a group; categories of older files stand in
 * `__categories`; still older files hold a data set of a compound type, with categories in `uns`.
 */

import { InputError } from "./input_error.js";
import { attribute, isDataset, nameOf, readData } from "./h5_file.js";

const STRING = 3; // class of HDF5 types
const NUMERIC = [0, 1];

/**
 * Open `obs` or `var` of an h5ad file.
 *
 * @param {object} node An h5wasm Group, or Dataset of a compound type.
 * @param {?object} [uns] Where the oldest files keep categories.
 * @returns {{length: number, names: function(): string[], textColumns: string[],
 *   text: function(string): string[], numbers: function(string): ?Float64Array}} Its number of
 *   rows; the names of the rows; the names of columns of text; the text of such a column; and the
 *   numbers of a column, NaN where they are missing, null if there is no such column, an InputError
 *   if it holds others.
 * @throws {InputError} If it has no index.
 */
export function openFrame(node, uns = null) {
  const columns = isDataset(node) ? compoundColumns(node, uns) : groupColumns(node);
  const { index } = columns;
  return {
    length: index.length,
    names: once(() => index.text()),
    textColumns: Object.keys(columns.others).filter((name) => columns.others[name].isText),
    text: (name) => columns.others[name].text(),
    numbers: (name) => columns.others[name]?.numbers() ?? null,
  };
}

/**
 * Call a function when it is first needed, and keep what it returns.
 *
 * @param {function(): *} make
 * @returns {function(): *}
 */
export function once(make) {
  let made;
  return () => (made ??= { value: make() }).value;
}

// --- today's format -----------------------------------------------------------------------------

function groupColumns(group) {
  const indexName = attribute(group, "_index") ?? ["_index", "index"].find((key) => group.get(key));
  const index = indexName === undefined ? null : group.get(indexName);
  if (!index) {
    throw new InputError(`${nameOf(group)} has no names: the file is no h5ad, or is damaged`);
  }
  const categories = group.get("__categories");
  const others = {};
  for (const name of group.keys()) {
    if (name === indexName || name === "__categories") continue;
    others[name] = column(group.get(name), categories?.get(name));
  }
  return { index: column(index), others };
}

/** Describe a column: a data set, or a group that anndata calls categorical or nullable. */
function column(node, categories = null) {
  if (isDataset(node) && categories) return categorical(node, column(categories));
  if (isDataset(node)) return plain(node);
  const [codes, values] = [node?.get?.("codes"), node?.get?.("values")];
  if (codes) return categorical(codes, column(node.get("categories")));
  if (values) return nullable(plain(values), node.get("mask"));
  return { length: NaN, isText: false, text: () => [], numbers: () => refuseOthers(node) };
}

function plain(dataset) {
  const { type, shape } = dataset.metadata;
  return {
    length: shape?.[0] ?? 0,
    isText: type === STRING,
    text: () => Array.from(readData(dataset), String),
    numbers() {
      return NUMERIC.includes(type) ? Float64Array.from(readData(dataset)) : refuseOthers(dataset);
    },
  };
}

function categorical(codes, names) {
  return {
    length: codes.shape[0],
    isText: true,
    text() {
      const texts = names.text();
      return Array.from(readData(codes), (code) => texts[code] ?? "nan");
    },
    numbers: () => refuseOthers(codes),
  };
}

function nullable(values, mask) {
  const isMissing = () => readData(mask);
  return {
    ...values,
    text() {
      const missing = isMissing();
      return values.text().map((text, i) => (missing[i] ? "<NA>" : text));
    },
    numbers() {
      const missing = isMissing();
      return values.numbers().map((value, i) => (missing[i] ? NaN : value));
    },
  };
}

function refuseOthers(node) {
  throw new InputError(`${nameOf(node)} holds no numbers`);
}

// --- the format of anndata before 0.7 -----------------------------------------------------------

function compoundColumns(dataset, uns) {
  const rows = once(() => readData(dataset));
  const { members } = dataset.metadata.compound_type;
  const columns = members.map(({ name, type }, place) => {
    const categories = uns?.get(`${name}_categories`);
    const values = memberColumn(dataset, name, type, () => rows().map((row) => row[place]));
    return categories ? codedColumn(values, categories) : values;
  });
  const others = Object.fromEntries(members.slice(1).map(({ name }, i) => [name, columns[i + 1]]));
  return { index: columns[0], others };
}

function memberColumn(dataset, name, type, values) {
  return {
    length: dataset.shape[0],
    isText: type === STRING,
    text: () => values().map(String),
    numbers() {
      if (NUMERIC.includes(type)) return Float64Array.from(values(), Number);
      throw new InputError(`column '${name}' of ${nameOf(dataset)} holds no numbers`);
    },
  };
}

function codedColumn(codes, categories) {
  const names = plain(categories);
  return {
    ...codes,
    isText: true,
    text() {
      const texts = names.text();
      return Array.from(codes.numbers(), (code) => texts[code] ?? "nan");
    },
  };
}
