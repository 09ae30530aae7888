/* Failures in words that help: our own errors say it themselves, those of the browser do not. */

const OWN = ["InputError", "ReferenceFileError"];
const UNREADABLE = ["NotReadableError", "NotFoundError", "SecurityError"];

/**
 * Say what went wrong, and what to do.
 * @param {Error} error
 * @returns {string}
 */
export function inWords(error) {
  const { name, message } = error;
  if (OWN.includes(name)) return message;
  if (UNREADABLE.includes(name)) {
    return (
      "a file cannot be read any more: it was moved, changed or deleted since it was chosen. " +
      `Choose it again (${message})`
    );
  }
  if (isLackOfMemory(error)) {
    return (
      "the browser has not enough memory for so many cells: close other pages, or take a part of " +
      `the cells (${message})`
    );
  }
  return `this failed, perhaps since a file is damaged: ${message}`;
}

function isLackOfMemory({ name, message }) {
  if (name === "RangeError") return /allocation|array (buffer )?length|array size/i.test(message);
  return /out of memory|OOM|memory access out of bounds|Cannot enlarge memory/i.test(message);
}
