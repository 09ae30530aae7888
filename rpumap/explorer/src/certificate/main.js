// The script of pages with a certificate explorer. The data are in a script before this one.

import { fromBase64 } from "../ui/base64.js";
import { element } from "../ui/dom.js";
import { followSystemTheme } from "../ui/theme.js";
import workerSource from "worker:./worker.js";
import { CertificateApp } from "./app.js";
import { readCertificate } from "./data.js";
import { Hooks } from "./hooks.js";

const MOUNTS = ".rpumap-explorer[data-app=certificate]";

/** Fill all mounts of the page. Without data their text stays as it is. */
function start() {
  followSystemTheme();
  const mounts = document.querySelectorAll(MOUNTS);
  if (!mounts.length || globalThis.rpumapCertificate === undefined) return;
  try {
    const bytes = fromBase64(globalThis.rpumapCertificate);
    const data = readCertificate(bytes);
    for (const mount of mounts) {
      mount.rpumap = new Hooks(new CertificateApp(mount, data, bytes, workerSource));
    }
  } catch (error) {
    console.error(error);
    for (const mount of mounts) {
      const text = `This cannot be shown, since its data are damaged: ${error.message}.`;
      mount.append(element("p", { role: "alert", text }));
    }
  }
}

start();
