import type { Batch, Dual } from "../graph/callee.js";
import type { Attributes } from "../graph/primitives.js";
import { emitSeveral, traceGraph } from "../graph/trace.js";
import { repeated } from "../ops/batching.js";
import * as raw from "../ops/raw.js";
import type { Tangent } from "../ops/rules.js";
import type { Tensor } from "../tensor/tensor.js";
import { inBlocks } from "./attention-blocks.js";
import { pushForward } from "./differentiate.js";
import type { SeveralRule } from "./several.js";

type Attention = Attributes["attention"];

/** Number of inputs that are not directions. */
const fixedInputs = ({ part, masked }: Attention) => 3 + (masked ? 1 : 0) + (part === "value" ? 0 : 2);

/** "tangent" or "cotangent", for the directions that are there. */
function linearPart(
  part: "tangent" | "cotangent",
  fixed: readonly Tensor[],
  directions: readonly Tangent[],
  attrs: Attention,
): Tensor[] {
  const given = directions.filter((d) => d !== undefined);
  const flags = directions.map((d) => d !== undefined);
  return emitSeveral("attention", [...fixed, ...given], { ...attrs, part, directions: flags });
}

/** The directions by their place, from those that are there. */
function placed(list: readonly Tangent[], { directions }: Attention): Tangent[] {
  const rest = [...list];
  return directions.map((there) => (there ? rest.shift() : undefined));
}

/**
 * The tangent of "value" is "tangent", whose transpose is "cotangent", whose transpose is "tangent". What remains are
 * derivatives of the linear parts by q, k, v, o and l: of these, those of the same computation in blocks are taken.
 */
export const attentionRule: SeveralRule<"attention"> = {
  jvp(x, dx, attrs, split): Dual {
    const values = emitSeveral("attention", x, attrs);
    if (attrs.part === "value")
      return { values, tangents: linearPart("tangent", [...x, ...values], dx.slice(0, 3), attrs) };
    const count = fixedInputs(attrs);
    if (dx.slice(0, count).every((d) => d === undefined)) {
      const directions = placed(dx.slice(count), attrs);
      return { values, tangents: linearPart(attrs.part, x.slice(0, count), directions, attrs) };
    }
    const graph = traceGraph((inputs) => inBlocks(inputs, attrs), x);
    return { values, tangents: pushForward(graph, x, dx, split).tangents };
  },

  transpose(ct, x, attrs): Tangent[] {
    const count = fixedInputs(attrs);
    const fixed = x.slice(0, count) as Tensor[];
    const other = attrs.part === "tangent" ? "cotangent" : "tangent";
    const found = linearPart(other, fixed, ct, attrs);
    return [...fixed.map(() => undefined), ...found.filter((_, i) => attrs.directions[i])];
  },

  batch(x, attrs, batched, size): Batch {
    const isMask = (i: number) => attrs.masked && i === 3;
    const all = x.map((t, i) => {
      if (batched[i]) return t;
      // A mask broadcasts by itself.
      return isMask(i) ? raw.reshape(t, [1, ...t.shape]) : repeated(t, size);
    });
    const values = emitSeveral("attention", all, attrs);
    return { values, batched: values.map(() => true) };
  },
};
