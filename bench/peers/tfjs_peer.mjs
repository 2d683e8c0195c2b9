// tfjs's side of the bench, on its WebAssembly backend: the training step of flow matching. See process.ts and
// serve.mjs. tfjs has no forward mode, so that it has no part in mean flow.
//
// usage: node tfjs_peer.mjs FOLDER     (in whose node_modules @tensorflow/tfjs and its wasm backend are)
import { initial, load, serve, shapesOf } from "./serve.mjs";

console.log = console.info = console.warn = console.error; // stdout is for answers

const tf = (await load("@tensorflow/tfjs")).default;
await load("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");

const gelu = (x) => x.mul(x.mul(Math.SQRT1_2).erf().add(1)).mul(0.5);

/** Points uniform on the dark tiles of a 4 x 4 board over [-2, 2]^2. */
function checkerboard(count) {
  const column = tf.floor(tf.randomUniform([count, 1], 0, 4));
  const odd = column.sub(tf.floor(column.mul(0.5)).mul(2));
  const row = tf
    .floor(tf.randomUniform([count, 1], 0, 2))
    .mul(2)
    .add(odd);
  return tf
    .concat([column, row], 1)
    .add(tf.randomUniform([count, 2]))
    .sub(2);
}

await serve((request) => {
  const params = shapesOf(request).map(([i, o]) => [
    tf.variable(tf.tensor(initial([i, o]), [i, o])),
    tf.variable(tf.tensor(initial([i, o], o), [o])),
  ]);
  const network = (input) => params.reduce((h, [w, b], i) => (i === 0 ? h : gelu(h)).matMul(w).add(b), input);
  const optimizer = tf.train.adam(3e-3);
  const loss = () => {
    const x = checkerboard(request.batch);
    const e = tf.randomNormal([request.batch, 2]);
    const t = tf.randomUniform([request.batch, 1]);
    const z = t.mul(-1).add(1).mul(x).add(t.mul(e));
    return network(tf.concat([z, t], 1))
      .sub(e.sub(x))
      .square()
      .mean();
  };
  return async () => {
    const value = optimizer.minimize(loss, true);
    const [number] = await value.data();
    value.dispose();
    if (!Number.isFinite(number)) throw new Error(`the loss is ${number}`);
  };
});
