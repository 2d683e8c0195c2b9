import * as fx from "fluxion";
import type { DitWork } from "./cases.js";

/** The parameters of a block of models.velocityDit, with a modulation that is not zero. */
interface Params {
  readonly attention: fx.nn.SelfAttentionParams;
  readonly mlp: fx.nn.SwigluParams;
  readonly modulation: fx.nn.LinearParams;
}

/** The work as a function without arguments, of constant inputs. */
export function ditProgram({ work, batch, tokens, width, heads, mlp }: DitWork): () => unknown {
  const side = Math.sqrt(tokens);
  const positions = fx.tensor(
    Array.from({ length: tokens }, (_, i) => [Math.floor(i / side), i % side]),
    { dtype: "int32" },
  );
  const attention = fx.nn.selfAttention({ dim: width, heads });
  const feedForward = fx.nn.swiglu({ dim: width, hidden: mlp });
  const modulation = fx.nn.linear({ in: width, out: 6 * width });
  const block = (params: Params, x: fx.Tensor, c: fx.Tensor): fx.Tensor => {
    const parts = fx.split(fx.expandDims(modulation.apply(params.modulation, c), 1), 6, 2);
    const [shift, scale, gate, secondShift, secondScale, secondGate] = parts as [
      fx.Tensor,
      fx.Tensor,
      fx.Tensor,
      fx.Tensor,
      fx.Tensor,
      fx.Tensor,
    ];
    const modulate = (y: fx.Tensor, by: fx.Tensor, factor: fx.Tensor) =>
      fx.rmsNorm(y).mul(factor.add(1)).add(by);
    const rotary = { positions, coordinates: 2, base: 100 };
    const attended = attention.apply(params.attention, modulate(x, shift, scale), { rotary });
    const between = x.add(gate.mul(attended));
    const fed = feedForward.apply(params.mlp, modulate(between, secondShift, secondScale));
    return between.add(secondGate.mul(fed));
  };

  const keys = fx.random.split(fx.random.key(0), 8);
  const params: Params = {
    attention: attention.init(keys[0]!),
    mlp: feedForward.init(keys[1]!),
    modulation: modulation.init(keys[2]!),
  };
  const [x, dx, w] = [3, 4, 5].map((i) => fx.random.normal(keys[i]!, [batch, tokens, width]));
  const [c, dc] = [6, 7].map((i) => fx.random.normal(keys[i]!, [batch, width]));
  if (work === "jvp") {
    const directed = (a: fx.Tensor, b: fx.Tensor) => block(params, a, b);
    return () => fx.jvp(directed, [x!, c!], [dx!, dc!]);
  }
  const loss = (both: { readonly params: Params; readonly x: fx.Tensor }) =>
    fx.sum(block(both.params, both.x, c!).mul(w!));
  return () => fx.grad(loss)({ params, x: x! });
}
