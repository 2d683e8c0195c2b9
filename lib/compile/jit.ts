import { traceFunction } from "../autodiff/function.js";
import { currentBackend } from "../backend/index.js";
import { TraceError, ValueError } from "../errors.js";
import { isTracing } from "../graph/trace.js";
import { show } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { flatten, type Structure, unflatten } from "../tensor/tree.js";
import { Program, RecentlyUsed, settingsOf } from "./program.js";

interface Compiled {
  readonly program: Program;
  readonly captured: readonly Tensor[];
  readonly result: Structure;
}

/** A compiled function: called as the function itself, or `async` to run off the main thread. */
// biome-ignore lint/suspicious/noExplicitAny: the signature of f is kept whole.
export type Jitted<F extends (...args: any[]) => unknown> = F & {
  async: (...args: Parameters<F>) => Promise<ReturnType<F>>;
};

/**
 * Compiles f. It is traced once for each combination of argument structure, shapes, dtypes, and values of
 * arguments that are not tensors (numbers, strings: they are constants of the program); later calls run the
 * compiled program. Inside of another trace, f is traced as part of it.
 *
 * `jitted.async(...)` gives a promise and computes off the main thread; the event loop stays free.
 * f must be pure: what it does besides its result happens only while it is traced.
 */
// biome-ignore lint/suspicious/noExplicitAny: the signature of f is kept whole.
export function jit<F extends (...args: any[]) => unknown>(f: F): Jitted<F> {
  if (typeof f !== "function") throw new ValueError(`jit: expected a function, got ${typeof f}`);
  const cache = new RecentlyUsed<Compiled>(64);

  const compiled = (args: readonly unknown[]): { entry: Compiled; inputs: Tensor[] } => {
    const { leaves, structure } = flatten(args);
    for (const leaf of leaves)
      if (leaf.isSymbolic)
        throw new TraceError(
          `jit: got a symbolic tensor (${leaf.dtype}${show(leaf.shape)}) after its trace had ended`,
        );
    const backend = currentBackend();
    const specs = leaves.map((x) => `${x.dtype}${show(x.shape)}`).join();
    const entry = cache.get(`${settingsOf(backend)} ${structure.key} ${specs}`, () => {
      const { graph, result } = traceFunction("jit", f, structure, leaves, false);
      return { program: new Program(graph, backend), captured: graph.captured, result };
    });
    return { entry, inputs: [...leaves, ...entry.captured] };
  };

  const jitted = (...args: Parameters<F>) => {
    if (isTracing()) return f(...args);
    const { entry, inputs } = compiled(args);
    return unflatten(entry.result, entry.program.run(inputs));
  };
  const async = async (...args: Parameters<F>) => {
    if (isTracing()) throw new TraceError("jit: async() cannot be called inside of a traced function");
    const { entry, inputs } = compiled(args);
    return unflatten(entry.result, await entry.program.runAsync(inputs));
  };
  return Object.assign(jitted, { async }) as unknown as Jitted<F>;
}
