import type { TypedArray } from "../../tensor/dtype.js";
import type { Backend } from "../backend.js";
import { createExecutable } from "./executable.js";

/**
 * The reference backend: every dtype, on any machine that runs JavaScript, a browser included. Kernels are
 * generated as JavaScript source.
 *
 * `runAsync` and loops run on one worker thread, shared by all executables and started when first used; it does
 * not keep the process alive. Where there is no worker (or, for loops, no shared memory: a page that is not
 * cross-origin isolated), they run on the main thread, after a turn of the event loop and, loops, with further
 * turns in between.
 */
export const typescriptBackend: Backend<TypedArray> = {
  name: "typescript",
  compile: createExecutable,
};
