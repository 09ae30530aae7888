/**
 * What is wrong with a table or with a choice, in words that say what to do.
 */

/** What the user's table, or a choice, must be changed in; any other error is one of this code. */
export class InputError extends Error {
  /**
   * @param {string} message What is wrong, and what to do.
   * @param {{seeOtherParts?: boolean}} [options] Whether another part of the same table may hold
   *   what is needed, so that it is worth a look.
   */
  constructor(message, { seeOtherParts = false } = {}) {
    super(message);
    this.name = "InputError";
    this.seeOtherParts = seeOtherParts;
  }
}

/**
 * Name up to five names, for messages; as `some` of rpumap/_counts.py.
 *
 * @param {string[]} names
 * @returns {string} Such as "'Ins1', 'Gcg'".
 */
export function some(names) {
  const first = names.slice(0, 5).map((name) => `'${name}'`);
  return first.join(", ") + (names.length > 5 ? ", ..." : "");
}

/**
 * Write a number with so many significant digits, as `%g` does.
 *
 * @param {number} value
 * @param {number} digits
 * @returns {string}
 */
export function shortNumber(value, digits) {
  return String(Number(value.toPrecision(digits)));
}

/**
 * Write a whole number with commas between thousands.
 *
 * @param {number} value
 * @returns {string}
 */
export function withCommas(value) {
  return value.toLocaleString("en");
}

/**
 * Write the size of a file.
 *
 * @param {number} bytes
 * @returns {string} Such as "12.3 MB".
 */
export function fileSize(bytes) {
  const [unit, of] = bytes < 1e6 ? ["kB", 1e3] : bytes < 1e9 ? ["MB", 1e6] : ["GB", 1e9];
  return `${shortNumber(bytes / of, 3)} ${unit}`;
}
