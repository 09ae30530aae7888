// Movements between what is shown and what is to be shown.

/** How long they take, in ms. */
export const DURATION = 600;

/**
 * Slow down at both ends.
 *
 * @param {number} share of the time, from 0 to 1
 * @returns {number} share of the way
 */
export function ease(share) {
  return share * share * (3 - 2 * share);
}

/**
 * Mix two sets of arrays.
 *
 * @param {Object<string, ArrayLike<number>>} from
 * @param {Object<string, Float64Array>} to of the same sizes; what `from` lacks is taken as it is
 * @param {number} share of `to`, from 0 to 1
 * @returns {Object<string, Float64Array>} what `to` has
 */
export function mix(from, to, share) {
  const mixed = Object.entries(to).map(([name, array]) => {
    const start = from[name] ?? array;
    return [name, array.map((value, i) => start[i] + share * (value - start[i]))];
  });
  return Object.fromEntries(mixed);
}
