import { DTypeError, ShapeError } from "../errors.js";
import { emitSeveral } from "../graph/trace.js";
import { checkFlag, checkNumber, checkOptions } from "../options.js";
import { broadcastShapes, sameShape, show } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkTensor, needBool, needFloat, operation } from "./operation.js";
import * as raw from "./raw.js";

export interface AttentionOptions {
  /** bool, broadcastable to [..., n, m]: false hides a key from a query. Default: every key is visible. */
  readonly mask?: Tensor;
  /** Key j is visible to query i only where j <= i. Default false. */
  readonly causal?: boolean;
  /** Factor of the scores. Default 1 / sqrt(d). */
  readonly scale?: number;
}

/**
 * Scaled dot-product attention, softmax(scale q k^T) v over the last two axes (Vaswani et al. 2017, "Attention is all
 * you need"). The [n, m] matrix of scores is never stored: value, jvp and vjp run as kernels of their own, and
 * derivatives of any higher order block by block of queries, so that memory grows with n + m.
 *
 * @param q queries [..., n, d]
 * @param k keys [..., m, d]
 * @param v values [..., m, e]; the axes before the last two broadcast
 * @returns [..., n, e]; a query to which every key is hidden gets zeros
 * @throws ShapeError where shapes do not fit; DTypeError where dtypes differ or are no floats, or the mask is not bool;
 *   ValueError for other wrong options
 */
export const attention = operation(
  (q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor => {
    checkOptions("attention", options, ["mask", "causal", "scale"]);
    for (const x of [q, k, v]) {
      needFloat("attention", checkTensor("attention", x));
      if (x.dtype !== q.dtype)
        throw new DTypeError(`attention: dtypes differ: ${q.dtype} and ${x.dtype}; use cast(x, dtype)`);
      if (x.rank < 2)
        throw new ShapeError(`attention: q, k and v need at least two axes, got shape ${show(x.shape)}`);
    }
    const [n, d] = q.shape.slice(-2) as [number, number];
    const [m, e] = v.shape.slice(-2) as [number, number];
    if (!sameShape(k.shape.slice(-2), [m, d]))
      throw new ShapeError(
        `attention: q ${show(q.shape)}, k ${show(k.shape)} and v ${show(v.shape)} do not fit: q is [..., n, d], k [..., m, d], v [..., m, e]`,
      );
    const { mask } = options;
    const causal = checkFlag("attention", "causal", options.causal ?? false);
    if (mask !== undefined) needBool("attention: mask", checkTensor("attention: mask", mask));
    const scale = checkNumber("attention", "scale", options.scale ?? 1 / Math.sqrt(Math.max(1, d)), {});
    const batch = broadcastShapes(
      "attention",
      ...[q, k, v].map((x) => x.shape.slice(0, -2)),
      mask?.shape.slice(0, -2) ?? [],
    );
    const wide = (x: Tensor, rows: number, columns: number) => raw.broadcastTo(x, [...batch, rows, columns]);
    const inputs = [wide(q, n, d), wide(k, m, d), wide(v, m, e)];
    if (mask !== undefined) {
      if (!sameShape(broadcastShapes("attention: mask", mask.shape, [...batch, n, m]), [...batch, n, m]))
        throw new ShapeError(
          `attention: mask ${show(mask.shape)} does not broadcast to ${show([...batch, n, m])}`,
        );
      const missing = batch.length + 2 - mask.rank;
      inputs.push(raw.reshape(mask, [...Array<number>(missing).fill(1), ...mask.shape]));
    }
    const attrs = { part: "value", scale, causal, masked: mask !== undefined, directions: [] } as const;
    return emitSeveral("attention", inputs, attrs)[0]!;
  },
);
