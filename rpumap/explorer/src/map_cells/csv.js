/* The table of results as CSV (RFC 4180), in pieces: no text of the whole table is built. */

import { verdictName } from "../core/cell_mapper.js";

const CELLS_AT_ONCE = 10_000;
const COLUMNS = [
  "cell", "umap_1", "umap_2", "label", "confidence", "novelty", "map_label", "radius", "verdict",
  "lower_1", "lower_2", "upper_1", "upper_2",
];

/**
 * Write results as CSV.
 * @param {import("./session.js").Result} result
 * @returns {string[]} pieces of the file, each of whole lines
 */
export function csvOf(result) {
  const pieces = [`${COLUMNS.join(",")}\r\n`];
  for (let start = 0; start < result.n; start += CELLS_AT_ONCE) {
    const end = Math.min(start + CELLS_AT_ONCE, result.n);
    const lines = [];
    for (let i = start; i < end; i++) lines.push(lineOf(result, i));
    pieces.push(`${lines.join("\r\n")}\r\n`);
  }
  return pieces;
}

function lineOf(result, i) {
  const { labels, coordinates, lower, upper } = result;
  const [x, y] = [2 * i, 2 * i + 1];
  return [
    textField(result.cellNames[i]),
    single(coordinates[x]),
    single(coordinates[y]),
    textField(labels[result.label[i]]),
    result.confidence[i],
    result.novelty[i],
    textField(labels[result.mapLabel[i]]),
    result.radius[i],
    textField(verdictName(result.verdict[i], labels)),
    single(lower[x]),
    single(lower[y]),
    single(upper[x]),
    single(upper[y]),
  ].join(",");
}

/** A number of single precision, with the nine digits that tell it from all others. */
function single(value) {
  return Number(value.toPrecision(9));
}

/**
 * A text as a field: quoted where it must be, and never a formula.
 *
 * Spreadsheets compute what begins with = + - or @, also after a tab or a line break. An apostrophe
 * before it stops that.
 * @param {string} text
 * @returns {string}
 */
export function textField(text) {
  const safe = /^[=+\-@\t\r\n]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/**
 * Name of the file for the results.
 * @param {string} fileName name of a file with the counts
 * @returns {string} such as `cells_mapped.csv`
 */
export function csvName(fileName) {
  const stem = fileName.replace(/(\.(h5ad|h5|mtx|csv|tsv|txt|gz))+$/i, "");
  return `${stem || "cells"}_mapped.csv`;
}
