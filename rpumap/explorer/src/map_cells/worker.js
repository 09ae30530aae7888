/* The worker of the page: it does what it is told, and says how far it is. See tasks.js. */

import { inWords } from "./failures.js";
import { Session } from "./session.js";

const PAUSE = 50; // milliseconds between two reports of one stage
const session = new Session();
let last = Promise.resolve();

// one after the other, also where a task waits for a file
self.onmessage = ({ data }) => {
  last = last.then(() => work(data));
};

async function work({ id, task, content }) {
  try {
    self.postMessage({ id, answer: await session[task](content, reporter(id)) });
  } catch (error) {
    self.postMessage({ id, failure: inWords(error) });
  }
}

/** Tell the page how far a task is, but not at each step. */
function reporter(id) {
  let [known, time] = ["", 0];
  return (stage, share) => {
    const now = performance.now();
    if (stage === known && now - time < PAUSE) return;
    [known, time] = [stage, now];
    self.postMessage({ id, stage, share });
  };
}
