import * as fx from "fluxion";
import t, { type Test } from "tap";
import { openCuda } from "#lib/backend/cuda/load.js";
import { isOnDevice } from "#lib/tensor/storage.js";
import { cudaDevice } from "./support/cuda-device.js";

// The cuda backend behind the public face, on a device (see support/cuda-device.ts).

type T = fx.Tensor;

const missing = cudaDevice();
const skip = missing ? { skip: missing } : {};

const cuda = (name: string, body: (t: Test) => void | Promise<void>) =>
  t.test(name, skip, async (t) => {
    fx.setBackend("cuda");
    fx.setMatmulPrecision("float32");
    await body(t);
  });

const onDevice = (x: T) => isOnDevice(x.storage("the test"));
const bytesInUse = () => openCuda().addon.memory().used;
const numbers = (x: T) => Array.from(x.toTypedArray());

cuda("results stay on the device until they are read", async (t) => {
  const x = fx.tensor([1, 2, 3]);
  const y = fx.mul(x, 2);
  t.notOk(onDevice(x), "what the user gave stays where it is");
  t.ok(onDevice(y));
  const z = fx.jit((a: T) => fx.add(a, 1))(y);
  t.ok(onDevice(z));
  t.same(numbers(z), [3, 5, 7]);
  t.same(Array.from(await z.read()), [3, 5, 7]);
  t.equal(fx.sum(z).item(), 15);
  t.equal(String(y), "Tensor(float32[3], [2,4,6])");
  fx.setBackend("typescript");
  t.same(numbers(fx.add(y, z)), [5, 9, 13], "another backend reads what it needs");
});

cuda("dispose gives the memory back at once", async (t) => {
  const host = fx.ones([1 << 18]);
  const sum = fx.jit((x: T) => fx.sum(x));
  host.dispose();
  const x = fx.add(fx.zeros([1 << 18]), 1);
  const before = bytesInUse();
  const y = fx.add(x, 1);
  t.ok(bytesInUse() >= before + (1 << 20));
  y.dispose();
  t.equal(bytesInUse(), before);
  t.equal(sum(x).item(), 1 << 18);
  const given = fx.tensor(new Float32Array(1 << 18));
  const held = bytesInUse();
  t.equal(sum(given).item(), 0);
  t.ok(bytesInUse() >= held + (1 << 20), "a copy of what the user gave is there for the next program");
  given.dispose();
  t.ok(bytesInUse() < held + (1 << 20));
});

cuda("what does not fit on the device is an error that names the sizes", async (t) => {
  const small = fx.ones([4]);
  const { total } = openCuda().addon.memory();
  t.throws(() => fx.broadcastTo(small, [2 * total, 4]), {
    name: "BackendError",
    message: new RegExp(
      `out of memory on the device: ${8 * total} elements of float32 need ${32 * total} bytes`,
    ),
  });
  const half = Math.ceil(total / 32) * 4;
  t.throws(() => [1, 2, 3].map(() => fx.add(fx.zeros([half]), 1)), {
    name: "BackendError",
    message: /out of memory on the device: .* needs \d+ bytes; \d+ .* in use/,
  });
  t.same(numbers(fx.add(small, 1)), [2, 2, 2, 2], "and the device goes on");
});

cuda("an index out of range names the line, and the device goes on", async (t) => {
  const x = fx.tensor([1, 2, 3]);
  const pick = fx.jit((i: T) => fx.take(x, i, 0));
  const wrong = fx.tensor([0, 7, -9], { dtype: "int32" });
  const expected = {
    name: "BackendError",
    message: /index 7 is out of range for an axis of size 3 .*cuda-backend\.test/,
  };
  t.throws(() => pick(wrong), expected);
  await t.rejects(pick.async(wrong), expected);
  t.same(numbers(pick(fx.tensor([0, -1, 2], { dtype: "int32" }))), [1, 3, 3]);
});

cuda("less exact products are taken only where they are asked for", async (t) => {
  const key = fx.random.key(3);
  const a = fx.random.normal(key, [96, 200]);
  const product = fx.jit((x: T) => fx.matmul(x, fx.transpose(x)));
  const exact = numbers(fx.matmul(fx.cast(a, "float64"), fx.transpose(fx.cast(a, "float64"))));
  const error = (precision: fx.MatmulPrecision) => {
    fx.setMatmulPrecision(precision);
    t.equal(fx.matmulPrecision(), precision);
    return Math.max(...numbers(product(a)).map((v, i) => Math.abs(v - exact[i]!)));
  };
  const [strict, tf32, bfloat16] = [error("float32"), error("tf32"), error("bfloat16")];
  t.ok(strict < 2e-4, `float32 is off by ${strict}`);
  t.ok(tf32 > 4 * strict && tf32 < 0.1, `tf32 is off by ${tf32}`);
  t.ok(bfloat16 > 2 * tf32 && bfloat16 < 1, `bfloat16 is off by ${bfloat16}`);
  t.equal(error("float32"), strict, "and back");
});

t.test("a precision that there is none of is an error", async (t) => {
  const expected = { name: "ValueError", message: /unknown precision "half".*float32, tf32, bfloat16/ };
  t.throws(() => fx.setMatmulPrecision("half" as fx.MatmulPrecision), expected);
  t.throws(() => trainer("fm", { matmulPrecision: "half" as fx.MatmulPrecision }), expected);
});

const network = { dim: 2, hidden: 32, layers: 3 } as const;

function trainer(kind: "fm" | "mf" | "imf", options: object = {}) {
  const common = {
    data: fx.data.checkerboard(),
    optimizer: fx.optim.adam({ learningRate: 1e-3 }),
    batchSize: 300,
    seed: 7,
  };
  if (kind === "fm")
    return new fx.Trainer({
      ...common,
      model: fx.models.velocityMlp(network),
      objective: fx.flow.flowMatching(),
      ...options,
    });
  const objective = kind === "mf" ? fx.flow.meanFlow({ equalTimeFraction: 0.5 }) : fx.flow.improvedMeanFlow();
  return new fx.Trainer({ ...common, model: fx.models.averageVelocityMlp(network), objective, ...options });
}

for (const kind of ["fm", "mf", "imf"] as const) {
  cuda(`training by ${kind} goes as on the other backends`, async (t) => {
    const losses = async (options: object) => {
      const it = trainer(kind, options);
      await it.fit({ steps: 7, progress: false });
      await it.fit({ steps: 6, progress: false });
      return Array.from(it.losses);
    };
    const got = await losses({ backend: "cuda" });
    const want = await losses({ backend: "typescript" });
    t.equal(got.length, 13);
    got.forEach((loss, i) => {
      t.ok(Math.abs(loss - want[i]!) < 2e-5 * want[i]!, `step ${i}: ${loss}, ${want[i]}`);
    });
    const rough = await losses({ backend: "cuda", matmulPrecision: "tf32" });
    t.not(rough.join(), got.join());
    rough.forEach((loss, i) => {
      t.ok(Math.abs(loss - want[i]!) < 5e-3 * want[i]!, `tf32, step ${i}: ${loss}, ${want[i]}`);
    });
  });
}

cuda("a training that stops being finite keeps the last good state", async (t) => {
  const it = trainer("fm", { optimizer: fx.optim.sgd({ learningRate: 1e30 }) });
  await t.rejects(it.fit({ steps: 50, progress: false }), { name: "NonFiniteError" });
  t.ok(it.step > 0 && it.step < 50, `after ${it.step} steps`);
  for (const leaf of fx.tree.leaves(it.params)) t.ok(numbers(leaf).every(Number.isFinite));
});

cuda("a sampler of many steps gives what the other backends give", async (t) => {
  const model = fx.models.velocityMlp(network);
  const params = model.init(fx.random.key(1));
  const noise = fx.random.normal(fx.random.key(2), [50, 2]);
  const draw = () => numbers(fx.flow.sample(model, params, noise, fx.flow.euler({ steps: 20 })));
  const samples = draw();
  fx.setBackend("typescript");
  draw().forEach((v, i) => {
    if (!(Math.abs(v - samples[i]!) < 1e-4)) t.fail(`${samples[i]}, ${v}`);
  });
  t.equal(samples.length, 100);
});

cuda("the event loop goes on while the device works", async (t) => {
  const it = trainer("mf", { batchSize: 2000 });
  await it.fit({ steps: 1, progress: false });
  let turns = 0;
  let running = true;
  const fit = it.fit({ steps: 8, progress: false }).finally(() => {
    running = false;
  });
  while (running) {
    await new Promise((resolve) => setImmediate(resolve));
    turns++;
  }
  await fit;
  t.ok(turns > 10, `${turns} turns`);
});
