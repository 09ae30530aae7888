/* The page "Map your cells": an app in each place that asks for one. The scripts before this one
   hold a reference, and h5wasm, which reads HDF5, as the beginning of the worker. */

import source from "worker:./worker.js";

import { followSystemTheme } from "../ui/theme.js";
import { startWorker } from "../ui/worker.js";
import { App } from "./app.js";

followSystemTheme();
for (const mount of document.querySelectorAll(".rpumap-explorer[data-app=map-cells]")) {
  const app = new App(mount, () => startWorker(`${globalThis.rpumapHdf5}\n${source}`));
  app.start(globalThis.rpumapReference);
}
