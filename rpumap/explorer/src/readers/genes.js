/**
 * Gene names of a table as the reference has them: never guessed, only as told.
 *
 * Mirrors rpumap/reference/genes.py, and `_name_mismatch` of rpumap/preprocessing.py.
 */

import { InputError, some } from "./input_error.js";

const withoutVersion = (name) => name.replace(/\.\d+$/, "");
const lowerCase = (name) => name.toLowerCase();

/** What may differ between names of the table and of the reference. */
export const MATCHES = {
  exact: (name) => name,
  version: withoutVersion,
  case: lowerCase,
};

/** What names may differ in, and what to do then. Nothing is matched by these unasked. */
const SPELLINGS = [
  ["upper and lower case", lowerCase, "match names without regard to case"],
  [
    "white space or quotes as a prefix or suffix",
    (name) => name.replace(/^[ \t\r\n\xa0\ufeff'"]+|[ \t\r\n\xa0\ufeff'"]+$/g, ""),
    "rename them",
  ],
  ["a version suffix such as '.7'", withoutVersion, "match names without versions"],
  [
    "a prefix such as 'GRCh38_'",
    (name) => name.replace(/^(grc[hm]|hg|mm)\d+[_-]+/i, ""),
    "rename them",
  ],
  ["dashes and underscores", (name) => name.replaceAll("_", "-"), "rename them"],
];

/**
 * Find the genes of the reference among the columns of a table; as `rename_genes`.
 *
 * Names of the table may repeat where they are none of the reference: such genes count for library
 * sizes only.
 *
 * @param {string[]} names Names of the table's genes, one for each column.
 * @param {string[]} genes Names of the reference's genes.
 * @param {"exact"|"version"|"case"} [match] What may differ: nothing, the version of an Ensembl id,
 *   or upper and lower case.
 * @returns {Int32Array} For each column its place among `genes`, -1 if it is none of them.
 * @throws {InputError} If `match` is unknown, or two genes of the table, or of the reference, would
 *   become the same one.
 */
export function matchGenes(names, genes, match = "exact") {
  if (!Object.hasOwn(MATCHES, match)) {
    throw new InputError(`match must be one of ${some(Object.keys(MATCHES))}, got '${match}'`);
  }
  const spell = MATCHES[match];
  const places = new Map();
  genes.forEach((gene, place) => {
    const other = places.get(spell(gene));
    if (other !== undefined) {
      throw new InputError(
        `match '${match}' cannot tell '${genes[other]}' and '${gene}' of the reference apart`,
      );
    }
    places.set(spell(gene), place);
  });
  const found = Int32Array.from(names, (name) => places.get(spell(name)) ?? -1);
  refuseRepeated(found, genes);
  return found;
}

function refuseRepeated(found, genes) {
  const seen = new Uint8Array(genes.length);
  const repeated = new Set();
  for (const place of found) {
    if (place < 0) continue;
    if (seen[place]) repeated.add(genes[place]);
    seen[place] = 1;
  }
  if (repeated.size) {
    throw new InputError(
      "several genes of the table become the same gene of the reference " +
        `(${some([...repeated].sort())}): add up their counts first, or keep one of them`,
    );
  }
}

/**
 * Say what would make most missing genes match names of the table; they are never matched so. As
 * `_name_mismatch` of rpumap/preprocessing.py.
 *
 * @param {string[]} missing Genes of the reference that the table seems to lack.
 * @param {object} table
 * @param {string[]} table.names Names of its genes, as they are used.
 * @param {Object<string, string[]>} [table.columns] Other columns with names of its genes.
 * @param {string[]} [table.cellNames] Names of its cells.
 * @param {Object<string, string[]>} [table.parts] Names of the genes of its other parts.
 * @returns {string} Empty, or ". " and the advice.
 */
export function mismatchHint(missing, { names, columns = {}, cellNames = [], parts = {} }) {
  const bySpelling = (others, place = "") =>
    waysToSpell().map(([spelling, spell, toDo]) => {
      const n = nCommon(missing, others, spell);
      return [n, `${n} would match${place} but for ${spelling}: ${toDo}`];
    });
  const asTheyAre = (others, place, toDo) => {
    const n = nCommon(missing, others);
    return [n, `${place} ${n} of them: ${toDo}`];
  };
  const elsewhere = [];
  for (const [name, others] of Object.entries(columns)) {
    elsewhere.push(asTheyAre(others, `the gene column '${name}' holds`, "choose that column"));
  }
  elsewhere.push(
    asTheyAre(cellNames, "the names of cells hold", "cells and genes are exchanged: transpose it"),
  );
  for (const [name, others] of Object.entries(parts)) {
    elsewhere.push(asTheyAre(others, `${name} has`, "choose that part of the table"));
  }
  for (const [name, others] of Object.entries(columns)) {
    elsewhere.push(...bySpelling(others, ` the gene column '${name}'`));
  }
  const best = [bySpelling(names), elsewhere].map(firstOfMost);
  const most = Math.max(...best.map(([n]) => n));
  if (!most) return "";
  return `. ${best.flatMap(([n, advice]) => (n === most ? [advice] : [])).join("; ")}`;
}

function waysToSpell() {
  const all = (name) => SPELLINGS.reduce((spelt, [, spell]) => spell(spelt), name);
  const several = `several of these: ${SPELLINGS.map(([spelling]) => spelling).join(", ")}`;
  return [...SPELLINGS, [several, all, "rename them"]];
}

function nCommon(missing, names, spell = (name) => name) {
  const others = new Set(names.map(spell));
  return [...new Set(missing.map(spell))].filter((name) => others.has(name)).length;
}

function firstOfMost(ways) {
  return ways.reduce((best, way) => (way[0] > best[0] ? way : best));
}
