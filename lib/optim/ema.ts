import { add, mul, sub } from "../ops/index.js";
import { checkNumber } from "../options.js";
import * as tree from "../tensor/tree.js";

/** An exponential moving average of parameters. */
export interface Ema {
  /** The average before the first step: the parameters themselves. */
  init<P>(params: P): P;
  /** The average after a step that gave these parameters. */
  update<P>(average: P, params: P): P;
}

/** a <- decay a + (1 - decay) p, with 0 <= decay <= 1, starting from the first parameters. */
export function ema(decay: number): Ema {
  const keep = checkNumber("ema", "decay", decay, { min: 0, max: 1 });
  return {
    init: (params) => params,
    update: (average, params) => tree.map((a, p) => add(a, mul(sub(p, a), 1 - keep)), average, params),
  };
}
