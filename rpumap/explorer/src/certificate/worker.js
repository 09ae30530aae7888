// The worker of the certificate explorer: it holds the networks, and answers one request at a time.

import { readCertificate } from "./data.js";
import { boundAndAttack, crownBoxes, judge } from "./slow.js";

let data = null;

const ANSWERS = {
  data: (bytes) => void (data = readCertificate(bytes)),
  bounds: (state) => boundAndAttack(data, state),
  labels: ({ state, boxes, points }) => judge(data, state, boxes, points),
  guide: (states) => crownBoxes(data, states),
};

globalThis.onmessage = ({ data: { kind, content } }) => {
  const answer = ANSWERS[kind](content);
  globalThis.postMessage({ kind, content: kind === "data" ? null : content, answer });
};
