// jax-js's side of the bench, on WebAssembly: the same training step, jitted whole. See process.ts and serve.mjs.
//
// usage: node jax_peer.mjs FOLDER     (in whose node_modules @jax-js/jax is)
//
// jax-js frees an array when all its references are used up: `x.ref` is one more.
import { initial, load, serve, shapesOf } from "./serve.mjs";

const {
  defaultDevice,
  init,
  jit,
  jvp,
  lax,
  nn,
  numpy: np,
  random,
  tree,
  valueAndGrad,
} = await load("@jax-js/jax");
await init("wasm");
defaultDevice("wasm");

const [rate, beta1, beta2, epsilon] = [3e-3, 0.9, 0.999, 1e-8];

function network(params, input) {
  let h = input;
  params.forEach(([w, b], i) => {
    h = np.matmul(i === 0 ? h : nn.gelu(h, { approximate: false }), w).add(b);
  });
  return h;
}

const squares = (x) => np.square(x);

/** Points uniform on the dark tiles of a 4 x 4 board over [-2, 2]^2. */
function checkerboard(key, count) {
  const [a, b, c] = keys(key, 3);
  const column = np.floor(random.uniform(a, [count, 1]).mul(4));
  const odd = column.ref.sub(np.floor(column.ref.mul(0.5)).mul(2));
  const row = np
    .floor(random.uniform(b, [count, 1]).mul(2))
    .mul(2)
    .add(odd);
  return np
    .concatenate([column, row], 1)
    .add(random.uniform(c, [count, 2]))
    .sub(2);
}

function keys(key, count) {
  const all = random.split(key, count);
  return Array.from({ length: count }, (_, i) => (i < count - 1 ? all.ref : all).slice(i));
}

/** The loss of a batch, as a function of the parameters. */
function lossOf({ objective, batch }, key) {
  const [dataKey, noiseKey, firstKey, secondKey] = keys(key, 4);
  const x = checkerboard(dataKey, batch);
  const e = random.normal(noiseKey, [batch, 2]);
  const first = random.uniform(firstKey, [batch, 1]);
  const second = random.uniform(secondKey, [batch, 1]);
  const v = e.ref.sub(x.ref);
  const along = (t) => x.ref.mul(t.ref.mul(-1).add(1)).add(t.mul(e.ref));

  if (objective === "fm")
    return (params) =>
      np.mean(squares(network(params, np.concatenate([along(first.ref), first.ref], 1)).sub(v.ref)));

  const u = (params, z, r, t) => network(params, np.concatenate([z, t, r], 1));
  const points = objective === "mf75" ? Math.round(0.75 * batch) : 0;
  const rows = (a, from, to) => a.ref.slice([from, to]);
  const intervalErrors = (params, from) => {
    const [a, b] = [rows(first, from, batch), rows(second, from, batch)];
    const r = np.minimum(a.ref, b.ref);
    const t = np.maximum(a, b);
    const z = rows(along(t0(t.ref, from)), from, batch);
    const mine = rows(v, from, batch);
    const tangent =
      objective === "imf" ? lax.stopGradient(u(tree.ref(params), z.ref, t.ref, t.ref)) : mine.ref;
    const [value, slope] = jvp(
      (zz, tt) => u(tree.ref(params), zz, r.ref, tt),
      [z, t.ref],
      [tangent, np.ones([batch - from, 1])],
    );
    return squares(value.sub(lax.stopGradient(mine.sub(t.sub(r.ref).mul(slope)))));
  };
  // z of all rows from the times of the later ones: the earlier rows are cut off again
  const t0 = (t, from) => (from === 0 ? t : np.concatenate([rows(first, 0, from), t], 0));
  return (params) => {
    if (points === 0) return np.mean(intervalErrors(params, 0));
    const t = rows(first, 0, points);
    const z = rows(along(first.ref), 0, points);
    const pointErrors = squares(u(tree.ref(params), z, t.ref, t).sub(rows(v, 0, points)));
    return np.mean(np.concatenate([pointErrors, intervalErrors(params, points)], 0));
  };
}

function trainingStep(request) {
  return jit((params, first, second, count, key) => {
    const [next, now] = keys(key, 2);
    const [loss, gradients] = valueAndGrad(lossOf(request, now))(tree.ref(params));
    const step = count.add(1);
    const m = tree.map((a, g) => a.mul(beta1).add(g.ref.mul(1 - beta1)), first, tree.ref(gradients));
    const s = tree.map((a, g) => a.mul(beta2).add(np.square(g).mul(1 - beta2)), second, gradients);
    const scale = (beta) => np.power(beta, step.ref).mul(-1).add(1);
    const [c1, c2] = [scale(beta1), scale(beta2)];
    const updated = tree.map(
      (p, a, b) =>
        p.sub(
          a
            .div(c1.ref)
            .mul(rate)
            .div(np.sqrt(b.div(c2.ref)).add(epsilon)),
        ),
      params,
      tree.ref(m),
      tree.ref(s),
    );
    return [updated, m, s, step, next, loss];
  });
}

await serve((request) => {
  const step = trainingStep(request);
  const zeros = () => shapesOf(request).map(([i, o]) => [np.zeros([i, o]), np.zeros([o])]);
  const params = shapesOf(request).map(([i, o]) => [
    np.array(initial([i, o])).reshape([i, o]),
    np.array(initial([i, o], o)),
  ]);
  let state = [params, zeros(), zeros(), np.array(0, { dtype: np.float32 }), random.key(0)];
  return async () => {
    const [p, m, s, count, key, loss] = step(...state);
    state = [p, m, s, count, key];
    const [value] = await loss.data();
    if (!Number.isFinite(value)) throw new Error(`the loss is ${value}`);
  };
});
