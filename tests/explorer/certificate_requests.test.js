// The worker gets one request at a time, the most urgent first, and of each kind the latest.

import assert from "node:assert/strict";
import test from "node:test";

import { Requests } from "../../rpumap/explorer/src/certificate/requests.js";

function start() {
  const [sent, answered] = [[], []];
  const worker = { postMessage: ({ kind, content }) => sent.push([kind, content]) };
  const onAnswer = (...answer) => answered.push(answer);
  const requests = new Requests(worker, ["data", "bounds", "labels"], onAnswer);
  const answer = (value) => {
    const [kind, content] = sent[sent.length - 1];
    worker.onmessage({ data: { kind, content, answer: value } });
  };
  return { requests, sent, answered, answer };
}

test("what waits is replaced by what was asked last", () => {
  const { requests, sent, answer, answered } = start();
  for (const eps of [1, 2, 3]) requests.ask("bounds", eps);
  assert.deepEqual(sent, [["bounds", 1]]);
  answer("a");
  assert.deepEqual(sent, [["bounds", 1], ["bounds", 3]]);
  answer("b");
  assert.deepEqual(answered, [["bounds", 1, "a"], ["bounds", 3, "b"]]);
  assert.ok(requests.done);
});

test("what is more urgent goes first, and nothing is lost", () => {
  const { requests, sent, answer } = start();
  requests.ask("data", 0);
  requests.ask("labels", 1);
  requests.ask("bounds", 2);
  assert.ok(!requests.done);
  answer();
  answer();
  assert.deepEqual(sent, [["data", 0], ["bounds", 2], ["labels", 1]]);
  assert.ok(!requests.done, "the last is still to be answered");
  answer();
  assert.ok(requests.done);
});
