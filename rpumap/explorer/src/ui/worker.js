/* Workers of which the source is text in the page's own script: a page opened from a disk may start
   no worker from another file. */

/**
 * Start a worker.
 * @param {string} source a classic script
 * @returns {Worker}
 */
export function startWorker(source) {
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url);
  URL.revokeObjectURL(url);
  return worker;
}
