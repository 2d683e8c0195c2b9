import { BackendError } from "../../errors.js";

/**
 * Compiles JavaScript source once. Generated kernels take sizes, strides, offsets and constants as arguments, so
 * the same expression on other shapes finds its function here. The source names its dtypes, so that functions
 * for different array types are different functions, each with its own type feedback in the engine.
 */
const compiled = new Map<string, unknown>();
const capacity = 1024;

/** The value of the function body `source`, in which the names of `scope` are bound. The scope must be a constant of the caller. */
export function compileSource<T>(source: string, scope: Readonly<Record<string, unknown>> = {}): T {
  let value = compiled.get(source);
  if (value === undefined) {
    try {
      value = new Function(...Object.keys(scope), `"use strict";\n${source}`)(...Object.values(scope));
    } catch (error) {
      // An environment may forbid code generation (a page's content security policy).
      throw new BackendError(`typescript backend: cannot compile a kernel: ${String(error)}`);
    }
  } else compiled.delete(source); // to the end of the order: the least recently used is the first
  compiled.set(source, value);
  if (compiled.size > capacity) compiled.delete(compiled.keys().next().value!);
  return value as T;
}
