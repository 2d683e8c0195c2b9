// The device that the CUDA backend's tests run on shows the mistakes that it is there for.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Test, test } from "tap";
import { close } from "./support/close.js";
import { cudaEmulator, cudaEmulatorMissing } from "./support/cuda-emulator.js";

const root = dirname(createRequire(import.meta.url).resolve("fluxion/package.json"));
const sources = join(root, "test", "support", "cuda-emulator", "check");
const headers = join(sources, "..", "device");

interface Launch {
  kernel: string;
  blocks?: number;
  threads?: number;
  sharedBytes?: number;
  launches?: number;
  elements?: number;
  x?: readonly number[];
  source?: string;
  env?: Record<string, string>;
}

/** A program of check/, built in a folder that the test takes away again. */
function built(t: Test, name: string) {
  const libraries = cudaEmulator();
  const folder = mkdtempSync(join(tmpdir(), "fluxion-emulator-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const program = join(folder, name);
  const files = readdirSync(libraries).filter((file) => file.startsWith("lib"));
  const links = [...files.map((file) => join(libraries, file)), `-Wl,-rpath,${libraries}`];
  const build = spawnSync("g++", ["-std=c++17", join(sources, `${name}.cc`), ...links, "-o", program], {
    encoding: "utf8",
  });
  if (build.status !== 0) throw new Error(build.stderr);
  return { folder, program };
}

/** Runs a kernel. */
function checker(t: Test) {
  const { folder, program } = built(t, "check");
  return ({ kernel, blocks = 1, threads = 256, launches = 1, x = ramp(512), ...more }: Launch) => {
    const { sharedBytes = 0, elements = blocks * threads, source, env } = more;
    let file = join(sources, "kernels.cu");
    if (source !== undefined) {
      file = join(folder, "source.cu");
      writeFileSync(file, source);
    }
    const args = [file, headers, kernel, blocks, threads, sharedBytes, launches, elements, ...x].map(String);
    const { stdout, stderr, status } = spawnSync(program, args, {
      encoding: "utf8",
      env: { ...process.env, ...env },
    });
    return { text: stdout, y: stdout.trim().split("\n").map(Number), stderr, status };
  };
}

const ramp = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const reversedBlocks = ramp(512).map((i) => 256 * Math.floor(i / 256) + 255 - (i % 256));
const seeds = ["1", "2", "3", "4", "5"];

const missing = cudaEmulatorMissing();
test("the CUDA emulator", missing === undefined ? {} : { skip: missing }, async (t) => {
  const run = checker(t);

  await t.test("shuffles and barriers give a block's sum in any order of the threads", async (t) => {
    for (const seed of seeds) {
      const { y } = run({ kernel: "sums", blocks: 2, elements: 2, env: { FLUXION_EMULATED_SEED: seed } });
      t.strictSame(y, [32640, 98176]);
    }
  });

  await t.test("a barrier that is missing shows", async (t) => {
    for (const seed of seeds) {
      const env = { FLUXION_EMULATED_SEED: seed };
      const launch = { blocks: 2, sharedBytes: 1024, env };
      t.strictSame(run({ ...launch, kernel: "reversed" }).y, reversedBlocks);
      t.notSame(run({ ...launch, kernel: "reversed_unguarded" }).y, reversedBlocks);
    }
  });

  await t.test("an asynchronous copy that was not waited for shows", async (t) => {
    const launch = { blocks: 2, sharedBytes: 1024 };
    t.strictSame(run({ ...launch, kernel: "reversed_async" }).y, reversedBlocks);
    t.notSame(run({ ...launch, kernel: "reversed_async_unwaited" }).y, reversedBlocks);
  });

  await t.test("shared memory that nobody wrote is NaN", async (t) => {
    const { y } = run({ kernel: "unwritten" });
    t.strictSame(y.slice(0, 128), ramp(128));
    t.ok(y.slice(128).every(Number.isNaN));
  });

  await t.test("errors of a kernel", async (t) => {
    const illegal = /^error CUDA_ERROR_ILLEGAL_ADDRESS/;
    const failed = /^error CUDA_ERROR_LAUNCH_FAILED/;
    const cases: [kernel: string, answer: RegExp, message: RegExp][] = [
      ["beside", illegal, /kernel beside wrote beside the bounds of a buffer/],
      ["far_away", illegal, /kernel far_away, block \(0, 0, 0\), thread \d+: an access to memory/],
      ["beside_tile", illegal, /an index outside of its array at check.cu:\d+/],
      ["beside_dynamic", illegal, /thread 255: an access to memory/],
      ["misaligned", /^error CUDA_ERROR_MISALIGNED_ADDRESS/, /a misaligned access at check.cu:\d+/],
      ["early_exit", failed, /thread 0 and 99 others at __syncthreads .*; thread 100 and 155 others exited/],
      ["two_barriers", failed, /threads meet at different barriers: thread 0 and 127 others/],
      ["missing_lane", failed, /thread 0 and 247 others at __shfl_xor_sync .*; thread 5 and 7 others exited/],
    ];
    for (const [kernel, answer, message] of cases) {
      const { text, stderr, status } = run({ kernel, sharedBytes: 1024 });
      t.equal(status, 0);
      t.match(text, answer, kernel);
      t.match(stderr, message);
    }
  });

  await t.test("launches beyond the device's limits", async (t) => {
    t.match(run({ kernel: "increment", threads: 1056 }).text, /error CUDA_ERROR_INVALID_VALUE/);
    t.match(run({ kernel: "sums", threads: 512 }).text, /error CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES/);
    t.match(run({ kernel: "increment", sharedBytes: 49153 }).text, /error CUDA_ERROR_INVALID_VALUE/);
    t.match(run({ kernel: "none" }).text, /error CUDA_ERROR_NOT_FOUND/);
    const env = { FLUXION_EMULATED_MEMORY: "2100" };
    t.match(run({ kernel: "increment", env }).text, /error CUDA_ERROR_OUT_OF_MEMORY/);
  });

  await t.test("a program that does not compile gives its log, with its own lines", async (t) => {
    const source = '\nextern "C" __global__ void f(float* x) { x[0] = undefined_name; }\n';
    t.match(run({ kernel: "f", source }).text, /check.cu:2:\d+: error: .*undefined_name/);
    t.match(
      run({ kernel: "f", source: "#include <cstdint>\n" }).text,
      /check.cu:1:\d+: fatal error: cstdint/,
    );
  });

  await t.test("a graph that was captured is launched again and again", async (t) => {
    t.strictSame(run({ kernel: "increment", launches: 7, threads: 32 }).y, Array(32).fill(7));
  });

  await t.test("products of fragments are products of matrices", async (t) => {
    const product = (x: readonly number[], k: number) =>
      ramp(128).map((i) => {
        const [row, column] = [Math.floor(i / 8), i % 8];
        return ramp(k).reduce((sum, l) => sum + x[row * k + l]! * x[16 * k + l * 8 + column]!, 0);
      });
    // Numbers that TF32 and bfloat16 hold.
    const x = ramp(24 * 16).map((i) => ((i * 37) % 101) - 50);
    t.strictSame(run({ kernel: "product_tf32", threads: 32, elements: 128, x }).y, product(x, 8));
    t.strictSame(run({ kernel: "product_bfloat16", threads: 32, elements: 128, x }).y, product(x, 16));
  });

  await t.test("cuBLASLt's products", async (t) => {
    const { program } = built(t, "product");
    const [m, n, k, batch] = [3, 4, 5, 2];
    // What the operands are rounded to, by the type of the computation.
    const mantissas: Record<string, number> = { 68: 23, 70: 52, 75: 7, 77: 10 };
    for (const [compute, bits] of Object.entries(mantissas)) {
      const rounded = (x: number) => {
        const unit = 2 ** (Math.floor(Math.log2(Math.abs(x))) - bits);
        return x === 0 || bits === 52 ? x : Math.round(x / unit) * unit;
      };
      for (const [transposeA, transposeB, bias] of [
        [0, 0, 1],
        [0, 1, 0],
        [1, 0, 0],
        [1, 1, 1],
      ] as const) {
        const a = (b: number, i: number, l: number) =>
          rounded(Math.sin(b * m * k + (transposeA ? i * k + l : l * m + i)));
        const b = (b: number, l: number, j: number) =>
          rounded(Math.cos(b * k * n + (transposeB ? l * n + j : j * k + l)));
        const want = ramp(batch * n * m).map((at) => {
          const [i, j, matrix] = [at % m, Math.floor(at / m) % n, Math.floor(at / (m * n))];
          return ramp(k).reduce((sum, l) => sum + a(matrix, i, l) * b(matrix, l, j), bias * i);
        });
        const args = [compute, transposeA, transposeB, batch, m, n, k, bias].map(String);
        const { stdout } = spawnSync(program, args, { encoding: "utf8" });
        const name = `${compute} ${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}`;
        close(t, stdout.trim().split("\n").map(Number), want, bits === 52 ? 1e-14 : 1e-6, name);
      }
    }
  });

  await t.test("functions have CUDA's values at their edges", async (t) => {
    t.strictSame(run({ kernel: "edges", threads: 32, elements: 16, x: [1] }).y, Array(16).fill(1));
  });

  await t.test("is built once", async (t) => {
    const folder = cudaEmulator();
    const built = readFileSync(join(folder, "libcuda.so.1"));
    t.equal(cudaEmulator(), folder);
    t.ok(readFileSync(join(folder, "libcuda.so.1")).equals(built));
  });
});
