/* Work in a worker: one promise for each task, and a new worker when one is cancelled or fails.

   To the worker go {id, task, content}; back come {id, stage, share} while it works, and at the end
   {id, answer} or {id, failure}, a text. */

/** A task that was cancelled, on purpose. */
export class Cancelled extends Error {}

/** What runs tasks, one after the other. */
export class Tasks {
  /**
   * @param {function(): Worker} start starts a worker
   */
  constructor(start) {
    this.start = start;
    this.worker = null; // started with the first task
    this.pending = new Map();
    this.lastId = 0;
  }

  startWorker() {
    const worker = this.start();
    worker.onmessage = ({ data }) => this.receive(data);
    worker.onerror = (event) => {
      event.preventDefault?.();
      this.end(new Error(`the computation ended unexpectedly (${event.message || "no reason"})`));
    };
    return worker;
  }

  /**
   * Let the worker do something.
   * @param {string} task
   * @param {any} content
   * @param {function({stage: string, share: number})} [onProgress]
   * @returns {Promise<any>} its answer
   * @throws {Cancelled} if it is cancelled
   * @throws {Error} with the worker's message if it fails
   */
  run(task, content, onProgress = () => {}) {
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      this.worker ??= this.startWorker();
      this.pending.set(id, { resolve, reject, onProgress });
      this.worker.postMessage({ id, task, content });
    });
  }

  receive({ id, stage, share, answer, failure }) {
    const waiting = this.pending.get(id);
    if (!waiting) return;
    if (stage !== undefined) {
      waiting.onProgress({ stage, share });
      return;
    }
    this.pending.delete(id);
    if (failure === undefined) waiting.resolve(answer);
    else waiting.reject(new Error(failure));
  }

  /** End what is running. The next task gets a new worker, which holds nothing. */
  cancel() {
    this.end(new Cancelled("cancelled"));
  }

  end(reason) {
    this.worker?.terminate();
    this.worker = null;
    const waiting = [...this.pending.values()];
    this.pending.clear();
    for (const { reject } of waiting) reject(reason);
  }
}
