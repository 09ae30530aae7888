// Requests to the worker: one is under way at a time, and of each kind only the latest waits.

export class Requests {
  /**
   * @param {{postMessage: function(any), onmessage: any}} worker answers {kind, content} with
   *   {kind, content, answer}
   * @param {string[]} kinds from what is sent first to what is sent last
   * @param {function(string, any, any)} onAnswer is given the kind, what was asked, and the answer
   */
  constructor(worker, kinds, onAnswer) {
    Object.assign(this, { worker, kinds, onAnswer });
    this.waiting = new Map();
    this.busy = false;
    worker.onmessage = ({ data: { kind, content, answer } }) => {
      this.busy = false;
      this.#next();
      this.onAnswer(kind, content, answer);
    };
  }

  /**
   * Ask for something, in place of what waits of the same kind.
   *
   * @param {string} kind
   * @param {any} content
   */
  ask(kind, content) {
    this.waiting.set(kind, content);
    if (!this.busy) this.#next();
  }

  /** @returns {boolean} whether all was answered */
  get done() {
    return !this.busy && this.waiting.size === 0;
  }

  #next() {
    const kind = this.kinds.find((name) => this.waiting.has(name));
    if (kind === undefined) return;
    const content = this.waiting.get(kind);
    this.waiting.delete(kind);
    this.busy = true;
    this.worker.postMessage({ kind, content });
  }
}
