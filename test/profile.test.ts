import { inspect as nodeInspect } from "node:util";
import * as fx from "fluxion";
import t from "tap";
import { cpuBackend } from "#lib/backend/cpu.js";
import { lower } from "#lib/compile/lower.js";
import { onEach } from "./support/each-backend.js";

type T = fx.Tensor;

onEach("a profile times each kernel that inspect lists", async (t) => {
  const f = (x: T, w: T) => fx.sum(fx.sin(fx.matmul(fx.cumsum(x, 1), w)), 0);
  const args = [fx.ones([64, 32]), fx.ones([32, 16])] as const;
  const seen = fx.profile(f, ...args);
  t.same(
    seen.inspection.kernels.map(({ description }) => description),
    fx.inspect(f, ...args).kernels.map(({ description }) => description),
  );
  t.equal(seen.seconds.length, seen.inspection.kernels.length);
  t.ok(seen.seconds.every((time) => time > 0 && time < 1));
  t.ok(seen.total >= Math.max(...seen.seconds), "a run takes longer than any of its kernels");
  t.ok(seen.runs >= 3 && seen.runs <= 100);
  const text = String(seen);
  t.match(text, `3 kernels on the ${fx.backend()} backend`);
  t.match(text, /by kind: .*matmul [0-9.]+ (us|ms) \([0-9.]+%\)/);
  t.match(text, /matmul 64x16x32 .* [0-9.]+ (us|ms) .*% .*FLOP\/s/);
  t.equal(nodeInspect(seen), text);
});

onEach("a long profile shows what takes longest, and all when asked", async (t) => {
  const chain = (x: T) => {
    let y = x;
    for (let i = 0; i < 40; i++) y = fx.cumsum(y);
    return y;
  };
  const seen = fx.profile(chain, fx.ones([8]));
  t.match(String(seen), "... 10 more; toString({ full: true }) shows all");
  t.equal(
    seen
      .toString({ full: true })
      .split("\n")
      .filter((line) => /running sum/.test(line)).length,
    40,
  );
  t.throws(() => seen.toString({ fool: true } as never), { name: "ValueError" });
});

onEach(
  "strips and loops are timed as wholes, and nothing is a kernel where nothing is computed",
  async (t) => {
    const step = (w: T) =>
      fx.grad((w: T) => fx.mean(fx.square(fx.matmul(fx.gelu(fx.matmul(fx.ones([512, 8]), w)), w))))(w);
    const loop = (w: T) => fx.forLoop(0, 5, (_, v: T) => fx.sub(v, step(v)), w);
    const seen = fx.profile(loop, fx.ones([8, 8]));
    t.same(
      seen.inspection.kernels.map(({ kind }) => kind).filter((kind) => kind === "loop"),
      ["loop"],
    );
    const none = fx.profile((x: T) => x, fx.ones([2]));
    t.same(none.seconds, []);
    t.match(String(none), "0 kernels");
  },
);

onEach("what cannot run is an error that names the line", async (t) => {
  const bad = fx.tensor([5], { dtype: "int32" });
  t.throws(() => fx.profile((x: T) => fx.take(x, bad), fx.ones([3])), {
    name: "BackendError",
    message: /index 5 is out of range for an axis of size 3 \(at .*profile\.test/,
  });
});

if (fx.backends().some(({ name, available }) => name === "cpu" && available))
  t.test("the addon takes times only into an array for each step", async (t) => {
    const { graph } = fx.inspect((x: T) => fx.cumsum(fx.sin(x)), fx.ones([4]));
    const executable = cpuBackend().compile(lower(graph));
    const x = Float32Array.of(1, 2, 3, 4);
    for (const wrong of [new Float64Array(1), new Float64Array(3), new Float32Array(2), [0, 0], null])
      t.throws(() => executable.run([x], wrong as never), {
        name: "BackendError",
        message: /seconds must be a Float64Array with an element for each step/,
      });
    const seconds = new Float64Array(2);
    executable.run([x], seconds);
    t.ok(seconds.every((time) => time > 0));
  });
