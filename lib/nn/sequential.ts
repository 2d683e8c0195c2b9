import { ValueError } from "../errors.js";
import { split } from "../random/index.js";
import type { Tensor } from "../tensor/tensor.js";
import type { Module, NoParams } from "./module.js";

// biome-ignore lint/suspicious/noExplicitAny: modules of any parameters; the tuple type below keeps each one's.
type Part = Module<any> | ((x: Tensor) => Tensor);

/** The parameters of each part; a plain function has none. */
export type SequentialParams<Parts extends readonly Part[]> = {
  -readonly [I in keyof Parts]: Parts[I] extends Module<infer P> ? P : NoParams;
};

/**
 * Modules, or plain functions of a tensor, applied one after another: `sequential(linear(...), activation("silu"),
 * linear(...))`. The parameters are an array with one entry for each part ({} for a function).
 */
export function sequential<const Parts extends readonly Part[]>(
  ...parts: Parts
): Module<SequentialParams<Parts>> {
  parts.forEach((part, i) => {
    if (typeof part !== "function" && typeof part?.apply !== "function")
      throw new ValueError(`sequential: part ${i} is neither a module { init, apply } nor a function`);
  });
  return {
    init(key) {
      const keys = parts.length === 0 ? [] : split(key, parts.length);
      return parts.map((part, i) =>
        typeof part === "function" ? {} : part.init(keys[i]!),
      ) as SequentialParams<Parts>;
    },
    apply(params, x) {
      const list = params as readonly unknown[];
      if (list.length !== parts.length)
        throw new ValueError(`sequential: has ${parts.length} parts, got parameters for ${list.length}`);
      return parts.reduce(
        (h: Tensor, part, i) => (typeof part === "function" ? part(h) : part.apply(list[i], h)),
        x,
      );
    },
  };
}
