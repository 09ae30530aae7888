// Random networks, of which golden.py knows coordinates, bounds and attacks.

import { golden } from "./golden.js";

const { about, array } = golden("networks");

/** Each network, with its cells and what Python computed of them. */
export const networks = about.map(({ widths, n_cells: nCells, radii, norms }, i) => ({
  name: widths.join("-"),
  layers: widths.slice(1).map((nOut, depth) => ({
    weight: array(`${i}.${depth}.weight`),
    bias: array(`${i}.${depth}.bias`),
    nIn: widths[depth],
    nOut,
  })),
  nOut: widths[widths.length - 1],
  nCells,
  radii,
  norms,
  X: array(`${i}.x`),
  cells: Array.from({ length: nCells }, (_, cell) => {
    return array(`${i}.x`).subarray(cell * widths[0], (cell + 1) * widths[0]);
  }),
  directions: rows(array(`${i}.directions`), widths[widths.length - 1]),
  array: (name) => array(`${i}.${name}`),
}));

/** The balls about its cells. */
export function ballsOf({ radii, norms }) {
  return norms.flatMap((norm) => radii.map((eps) => ({ eps, norm })));
}

/** As Python writes a radius. */
export function nameOf({ norm, eps }) {
  return `${norm}.${Number.isInteger(eps) ? eps.toFixed(1) : eps}`;
}

/** Cut an array into rows. */
export function rows(values, width) {
  return Array.from({ length: values.length / width }, (_, i) => {
    return values.subarray(i * width, (i + 1) * width);
  });
}
