// Strips on CUDA: what becomes of them, that their kernels compile, and what they compute on a device (see support/cuda-device.ts).
import * as fx from "fluxion";
import t from "tap";
import type { Target } from "#lib/backend/cuda/lowering.js";
import { pitchOf, slabBytes } from "#lib/backend/cuda/strip-profile.js";
import type { MatmulPrecision } from "#lib/backend/precision.js";
import { typescriptBackend } from "#lib/backend/typescript/index.js";
import { lower } from "#lib/compile/lower.js";
import { buffersOf } from "#lib/compile/memory.js";
import type { Plan, StripStep } from "#lib/compile/plan.js";
import { byteSize, type TypedArray } from "#lib/tensor/dtype.js";
import { cudaDevice } from "./support/cuda-device.js";
import { lowerStrips, runOnDevice, stripped } from "./support/cuda-strips.js";
import { h100 } from "./support/cuda-target.js";
import { nvccMissing, resources } from "./support/nvcc.js";
import { hidden, rowPrograms } from "./support/row-programs.js";

type T = fx.Tensor;
type F = (...inputs: T[]) => T | T[];

fx.setBackend("typescript");
t.setTimeout(300_000);

const missing = cudaDevice();
const skip = missing ? { skip: missing } : {};

const planOf = (f: F, inputs: readonly T[]): Plan => lower(fx.inspect(f, ...inputs).graph);
const stripsOf = (plan: Plan, device?: Target): StripStep[] =>
  stripped(plan, device).steps.filter((step) => step.kind === "strip");
const key = fx.random.key(1);
const draw = (i: number, shape: number[], dtype: fx.DType) =>
  fx.random.normal(fx.random.foldIn(key, i), shape, { dtype });

interface Size {
  readonly rows: number;
  readonly hidden: number;
  readonly layers: number;
}

/** Points, what is wanted there, and the weights and biases of a network of 2 to 3 numbers. */
function networkInputs({ rows, hidden, layers }: Size, dtype: fx.DType): T[] {
  const widths = [2, ...Array.from({ length: layers }, () => hidden), 3];
  return [
    draw(0, [rows, 2], dtype),
    draw(1, [rows, 3], dtype),
    ...widths.slice(1).flatMap((width, i) => {
      const scale = 1 / Math.sqrt(widths[i]!);
      return [fx.mul(draw(10 + i, [widths[i]!, width], dtype), scale), draw(30 + i, [width], dtype)];
    }),
  ];
}

const network = (x: T, parameters: readonly T[]): T => {
  let h = x;
  for (let i = 0; i < parameters.length; i += 2) {
    h = fx.add(fx.matmul(h, parameters[i]!), parameters[i + 1]!);
    if (i + 2 < parameters.length) h = fx.gelu(h);
  }
  return h;
};

/** A loss and its gradients: one forward and one backward pass. */
const flowMatching: F = (x, y, ...parameters) => {
  const loss = (...p: T[]) => fx.mean(fx.square(fx.sub(network(x!, p), y!)));
  const [value, grads] = fx.valueAndGrad(loss, { argnums: parameters.map((_, i) => i) })(...parameters);
  return [value, ...(grads as T[])];
};

/** The same with a tangent in the target, which is no part of what is differentiated. */
const meanFlow: F = (x, y, ...parameters) => {
  const loss = (...p: T[]) => {
    const [u, du] = fx.jvp((z: T) => network(z, p), [x!], [fx.sin(x!)]);
    return fx.mean(fx.square(fx.sub(u, fx.stopGradient(fx.sub(y!, du)))));
  };
  const [value, grads] = fx.valueAndGrad(loss, { argnums: parameters.map((_, i) => i) })(...parameters);
  return [value, ...(grads as T[])];
};

const device = (precision: MatmulPrecision, architecture: 80 | 90 = 90): Target => ({
  ...h100,
  precision,
  architecture,
  sharedBytes: (architecture === 80 ? 163 : 227) * 1024,
});

// ---- What becomes of a plan.

t.test("chunks and local memory fit the device", async (t) => {
  for (const [rows, hidden, architecture] of [
    [4096, 128, 90],
    [4096, 128, 80],
    [1000, 100, 90],
    [300, 16, 90],
    [40000, 64, 90],
    [4097, 33, 80],
  ] as const) {
    const chosen = device("float32", architecture);
    const plan = stripped(planOf(meanFlow, networkInputs({ rows, hidden, layers: 4 }, "float32")), chosen);
    const strips = plan.steps.filter((step) => step.kind === "strip");
    t.equal(strips.length, 1, `${rows} x ${hidden}: one strip`);
    const { chunks, block, localBytes, parts, sums } = strips[0]!;
    t.equal(
      chunks.reduce((sum, chunk) => sum + chunk, 0),
      rows,
    );
    t.ok(chunks.slice(0, -1).every((chunk) => chunk === chunks[0] && chunk % block === 0));
    t.ok(chunks.at(-1)! <= chunks[0]! && chunks.at(-1)! > 0);
    t.ok(chunks.length <= chosen.multiprocessors, "a chunk for each multiprocessor at most");
    t.equal(sums, chunks.length, "each chunk has its own partial sums");
    t.ok(localBytes + slabBytes <= chosen.sharedBytes);
    for (const buffer of new Set(parts.flatMap(({ step }) => buffersOf(step)))) {
      const { kind, dtype, size, offset } = plan.buffers[buffer]!;
      if (kind !== "local") continue;
      const bytes = pitchOf(size / rows, dtype) * byteSize(dtype) * block;
      t.ok(offset + bytes <= localBytes, "a local buffer lies inside");
    }
  }
});

t.test("eight neighbouring rows lie in different banks", async (t) => {
  for (const width of [16, 30, 100, 128, 129, 256]) {
    const pitch = pitchOf(width, "float32");
    t.ok(pitch >= width && pitch % 4 === 0);
    t.equal(new Set(Array.from({ length: 8 }, (_, row) => (row * pitch) % 32)).size, 8, `${width} wide`);
  }
});

t.test("no strip where rows are too long for shared memory, or few, or the factors large", async (t) => {
  t.same(
    stripsOf(planOf(flowMatching, networkInputs({ rows: 600, hidden: 300, layers: 2 }, "float32"))),
    [],
    "a factor of 300 x 300 would be read for each block of rows",
  );
  t.same(
    stripsOf(planOf(flowMatching, networkInputs({ rows: 600, hidden: 2048, layers: 2 }, "float32"))),
    [],
  );
  t.same(stripsOf(planOf(flowMatching, networkInputs({ rows: 200, hidden: 32, layers: 2 }, "float32"))), []);
});

t.test("the kernels compile without spills", nvccMissing ? { skip: nvccMissing } : {}, async (t) => {
  const sizes: [F, Size, fx.DType][] = [
    [flowMatching, { rows: 4096, hidden: 128, layers: 4 }, "float32"],
    [meanFlow, { rows: 4096, hidden: 128, layers: 4 }, "float32"],
    [meanFlow, { rows: 1000, hidden: 100, layers: 3 }, "float32"],
    [meanFlow, { rows: 9000, hidden: 64, layers: 2 }, "float32"],
    [flowMatching, { rows: 512, hidden: 32, layers: 2 }, "float64"],
  ];
  for (const [number, [f, size, dtype]] of sizes.entries()) {
    const plan = planOf(f, networkInputs(size, dtype));
    // The first ones for all devices; what differs in the others are sizes.
    for (const precision of number < 2 ? (["float32", "tf32"] as const) : (["float32"] as const)) {
      for (const architecture of number === 0 ? ([80, 90] as const) : ([90] as const)) {
        const chosen = device(precision, architecture);
        const { failure, kernels } = resources(
          lowerStrips(stripped(plan, chosen), chosen).source,
          `sm_${architecture}`,
        );
        t.equal(failure, undefined);
        t.equal(kernels.length, 2);
        for (const { name, registers, spilled } of kernels)
          t.equal(
            spilled,
            0,
            `${size.hidden}, ${precision}, sm_${architecture}: ${name}, ${registers} registers`,
          );
      }
    }
  }
});

// ---- What it computes.

/** The largest error of each result, relative to the largest number of it (and at least to 1). */
function errors(f: F, inputs: readonly T[], chosen: Target): number[] {
  const plan = planOf(f, inputs);
  t.ok(stripsOf(plan, chosen).length > 0, "is run as a strip");
  const { captured } = fx.inspect(f, ...inputs).graph;
  const arrays = [...inputs, ...captured].map((x) => x.toTypedArray() as TypedArray);
  const want = typescriptBackend.compile(plan).run(arrays);
  const got = runOnDevice(stripped(plan, chosen), arrays, chosen);
  return want.map((w, i) => {
    const expected = Array.from(w, Number);
    const scale = expected.reduce((most, v) => Math.max(most, Math.abs(v)), 1e-3);
    return expected.reduce((most, v, j) => {
      const found = Number(got[i]![j]);
      return Object.is(v, found)
        ? most
        : Math.max(most, Number.isFinite(found) ? Math.abs(v - found) / scale : Infinity);
    }, 0);
  });
}

const tolerances = [
  ["float64", "float32", 1e-12],
  ["float32", "float32", 2e-5],
  ["float32", "tf32", 1e-2],
] as const;

for (const [name, f] of Object.entries({ flowMatching, meanFlow })) {
  t.test(`gradients of ${name} on a device`, skip, async (t) => {
    for (const size of [
      { rows: 261, hidden: 50, layers: 2 },
      { rows: 2100, hidden: 20, layers: 2 },
      { rows: 256, hidden: 128, layers: 2 },
    ]) {
      for (const [dtype, precision, tolerance] of tolerances) {
        const worst = Math.max(...errors(f, networkInputs(size, dtype), device(precision)));
        t.ok(worst <= tolerance, `${JSON.stringify(size)}, ${dtype}, ${precision}: off by ${worst}`);
      }
    }
  });
}

t.test("a block of threads takes one block of rows after another", skip, async (t) => {
  for (const [dtype, precision, tolerance] of tolerances) {
    const few = { ...device(precision), multiprocessors: 3 };
    for (const rows of [300, 4100]) {
      const inputs = networkInputs({ rows, hidden: 40, layers: 2 }, dtype);
      const [strip] = stripsOf(planOf(flowMatching, inputs), few);
      t.ok(strip!.chunks[0]! > strip!.block);
      const worst = Math.max(...errors(flowMatching, inputs, few));
      t.ok(worst <= tolerance, `${rows} rows, ${dtype}, ${precision}: off by ${worst}`);
    }
  }
});

/** Programs of x [n, 5], w1 [5, 32], b [32], w2 [32, 3] and y [n, 3], with all that may be a part of a strip. */
const n = 300;
const programs: { readonly [name: string]: F } = {
  ...rowPrograms(n),
  "whole numbers and truths": (x, w1, b, w2) => {
    const h = fx.cast(fx.mul(hidden(x!, w1!, b!), 100), "int32");
    const products = fx.matmul(h, fx.cast(fx.mul(w2!, 10), "int32"));
    return [
      products,
      fx.sum(products, 0),
      fx.max(fx.greater(h, 20), 0),
      fx.matmul(fx.transpose(h), products),
    ];
  },
};

t.test("all that may be a part of a strip, on a device", skip, async (t) => {
  for (const [name, f] of Object.entries(programs)) {
    for (const [dtype, precision, tolerance] of tolerances) {
      if (name === "whole numbers and truths" && dtype === "float32") continue;
      const shapes = [[n, 5], [5, 32], [32], [32, 3], [n, 3]];
      const inputs = shapes.map((shape, i) => draw(i, shape, dtype));
      // With few products the order of the largest may change with their rounding.
      if (precision === "tf32" && name === "softmax of each row") continue;
      const worst = Math.max(...errors(f, inputs, device(precision)));
      t.ok(worst <= tolerance, `${name}, ${dtype}, ${precision}: off by ${worst}`);
    }
  }
});
