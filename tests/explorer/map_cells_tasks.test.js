// Tasks of a worker end with an answer or an error, whatever happens to the worker.

import assert from "node:assert/strict";
import test from "node:test";

import { Cancelled, Tasks } from "../../rpumap/explorer/src/map_cells/tasks.js";

/** Tasks in workers that do nothing, and what was done to these. */
function startTasks() {
  const workers = [];
  const tasks = new Tasks(() => {
    const worker = {
      sent: [],
      isEnded: false,
      postMessage: (message) => worker.sent.push(message),
      terminate: () => (worker.isEnded = true),
      answer: (data) => worker.onmessage({ data }),
    };
    workers.push(worker);
    return worker;
  });
  return { tasks, workers };
}

test("each task gets its own answer", async () => {
  const { tasks, workers } = startTasks();
  const first = tasks.run("open", 1);
  const second = tasks.run("map", 2);
  const [one, two] = workers[0].sent;
  assert.deepEqual([one.task, one.content, two.task, two.content], ["open", 1, "map", 2]);
  workers[0].answer({ id: two.id, answer: "two" });
  workers[0].answer({ id: one.id, answer: "one" });
  assert.deepEqual(await Promise.all([first, second]), ["one", "two"]);
});

test("progress is passed on, and only to its task", async () => {
  const { tasks, workers } = startTasks();
  const [seen, others] = [[], []];
  const task = tasks.run("map", null, (progress) => seen.push(progress));
  tasks.run("box", null, (progress) => others.push(progress));
  const { id } = workers[0].sent[0];
  workers[0].answer({ id, stage: "reading", share: 0.5 });
  workers[0].answer({ id, answer: undefined });
  await task;
  assert.deepEqual(seen, [{ stage: "reading", share: 0.5 }]);
  assert.deepEqual(others, []);
});

test("a failure is an error with its words, and the worker goes on", async () => {
  const { tasks, workers } = startTasks();
  const task = tasks.run("open", null);
  workers[0].answer({ id: workers[0].sent[0].id, failure: "it is empty" });
  await assert.rejects(task, /^Error: it is empty$/);
  assert.equal(workers.length, 1);
});

test("what is cancelled ends at once, and a new worker takes what comes next", async () => {
  const { tasks, workers } = startTasks();
  const task = tasks.run("map", null);
  tasks.cancel();
  await assert.rejects(task, Cancelled);
  assert.ok(workers[0].isEnded);
  const next = tasks.run("map", null);
  workers[0].answer({ id: 1, answer: "of the old worker" });
  workers[1].answer({ id: workers[1].sent[0].id, answer: "of the new one" });
  assert.equal(await next, "of the new one");
});

test("a worker that dies is an error, and the next task gets another one", async () => {
  const { tasks, workers } = startTasks();
  const task = tasks.run("map", null);
  workers[0].onerror({ message: "out of memory" });
  await assert.rejects(task, /ended unexpectedly \(out of memory\)/);
  assert.equal(workers.length, 1, "one that dies at its start must not be started for ever");
  tasks.run("map", null);
  assert.equal(workers.length, 2);
});

test("a worker that cannot be started is an error", async () => {
  const tasks = new Tasks(() => {
    throw new Error("forbidden");
  });
  await assert.rejects(tasks.run("open", null), /forbidden/);
});
