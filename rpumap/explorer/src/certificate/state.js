// What the reader has chosen: a cell, a ball of noise about it, and a map. States are not changed;
// each choice makes a new one.

/**
 * @typedef {object} State
 * @property {number} cell
 * @property {number} eps radius of the ball, in standard deviations of a gene
 * @property {"linf"|"l2"|"l1"} norm what is at most eps
 * @property {number} model place in the list of models, 0 for the plain map
 */

/** Of each norm: what the choice is called, and the largest eps that can be chosen. */
export const NORMS = {
  linf: { name: "l∞: change of each gene", most: 0.4 },
  l2: { name: "l2: length of the change", most: 4 },
  l1: { name: "l1: sum of all changes", most: 20 },
};
const SLIDER_STEPS = 200;
/** Noise of the guided steps: a little, and ten times that. */
export const LITTLE = 0.02;
export const MUCH = 0.2;

/**
 * @param {"linf"|"l2"|"l1"} norm
 * @returns {number} by how much one step of the slider changes eps
 */
export function stepOf(norm) {
  return NORMS[norm].most / SLIDER_STEPS;
}

/**
 * Change the norm, and eps with it to the same share of what can be chosen.
 *
 * @param {State} state
 * @param {"linf"|"l2"|"l1"} norm
 * @returns {State}
 */
export function withNorm(state, norm) {
  const share = state.eps / NORMS[state.norm].most;
  const eps = Math.round(share * SLIDER_STEPS) * stepOf(norm);
  return { ...state, norm, eps: Number(eps.toPrecision(6)) };
}

/**
 * The three guided steps for a cell: little noise, more noise, and the same on a robust map.
 *
 * @param {number} cell
 * @param {number} robust place of the robust model
 * @returns {State[]}
 */
export function guidedStates(cell, robust) {
  return [
    { cell, eps: LITTLE, norm: "linf", model: 0 },
    { cell, eps: MUCH, norm: "linf", model: 0 },
    { cell, eps: MUCH, norm: "linf", model: robust },
  ];
}

/**
 * @param {State} a
 * @param {State} b
 * @returns {boolean} whether they show the same
 */
export function same(a, b) {
  return a.cell === b.cell && a.eps === b.eps && a.norm === b.norm && a.model === b.model;
}

/**
 * Find the cell that is nearest in a direction, within 45 degrees of it.
 *
 * @param {ArrayLike<number>} map coordinates of cells, (n x 2)
 * @param {number} cell where one stands
 * @param {[number, number]} direction such as [1, 0], to the right
 * @returns {number} its place, or `cell` if there is none
 */
export function nextCell(map, cell, [dx, dy]) {
  let [best, least] = [cell, Infinity];
  for (let i = 0; 2 * i < map.length; i++) {
    const [x, y] = [map[2 * i] - map[2 * cell], map[2 * i + 1] - map[2 * cell + 1]];
    const along = x * dx + y * dy;
    const aside = Math.abs(x * dy - y * dx);
    const distance = along * along + aside * aside;
    if (along > 0 && aside <= along && distance < least) [best, least] = [i, distance];
  }
  return best;
}
