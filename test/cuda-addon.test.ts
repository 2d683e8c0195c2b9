// The CUDA addon: its declarations against the toolkit's, its libraries' places, and programs on the emulated device.
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import t from "tap";
import type { NativeBuffer, NativeModule, NativeProgram } from "#lib/backend/cuda/addon.js";
import { CodeCache, cacheFolder, compiled } from "#lib/backend/cuda/cache.js";
import { libraryFolders } from "#lib/backend/cuda/libraries.js";
import { loopModule, openCuda } from "#lib/backend/cuda/load.js";
import type { CudaBody, CudaBuffer, Launch, Operation, Product } from "#lib/backend/cuda/program.js";
import type { TypedArray } from "#lib/tensor/dtype.js";
import { cudaEmulator, cudaEmulatorMissing } from "./support/cuda-emulator.js";
import { mutated } from "./support/mutated.js";

const root = dirname(createRequire(import.meta.url).resolve("fluxion/package.json"));
const scratch = mkdtempSync(join(tmpdir(), "fluxion-cuda-"));
t.teardown(() => rmSync(scratch, { recursive: true, force: true }));

t.test("the declarations agree with the toolkit's headers", async (t) => {
  const include = ["/usr/local/cuda/include", "/opt/cuda/include", "/usr/include"].find((folder) =>
    existsSync(join(folder, "cuda.h")),
  );
  if (include === undefined) {
    t.pass("not compared: there is no cuda.h here");
    return;
  }
  const file = join(root, "test", "support", "cuda-declarations.cc");
  const defines = ["nvrtc.h", "cublasLt.h"].flatMap((header) =>
    existsSync(join(include, header)) ? [`-DHAS_${header.replace(".", "_").toUpperCase()}`] : [],
  );
  const { status, stderr } = spawnSync(
    "g++",
    ["-std=c++17", "-fsyntax-only", ...defines, `-I${join(root, "native", "cuda")}`, `-I${include}`, file],
    { encoding: "utf8" },
  );
  t.equal(status, 0, stderr);
});

t.test("where libraries are looked for", async (t) => {
  const top = join(scratch, "tree");
  const folders = [
    "usr/local/cuda-12.4/lib64",
    "usr/local/cuda-13.0/lib64",
    "usr/local/cuda-9.2/targets/x86_64-linux/lib",
    "usr/lib/python3/dist-packages/nvidia/cublas/lib",
    "home/.local/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib",
    "venv/lib/python3.12/site-packages/nvidia/cu13/lib",
    "conda/lib",
    "toolkit/lib",
  ];
  for (const folder of folders) mkdirSync(join(top, folder), { recursive: true });
  const environment = {
    FLUXION_CUDA_LIBRARIES: `${join(top, "first")}:${join(top, "second")}`,
    CUDA_HOME: join(top, "toolkit"),
    VIRTUAL_ENV: join(top, "venv"),
    CONDA_PREFIX: join(top, "conda"),
  };
  const found = libraryFolders({ environment, home: join(top, "home"), root: top });
  t.same(
    found.map((folder) => folder.slice(top.length + 1)),
    [
      "first",
      "second",
      "toolkit/lib",
      "usr/local/cuda-13.0/lib64",
      "usr/local/cuda-12.4/lib64",
      "usr/local/cuda-9.2/targets/x86_64-linux/lib",
      "venv/lib/python3.12/site-packages/nvidia/cu13/lib",
      "home/.local/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib",
      "usr/lib/python3/dist-packages/nvidia/cublas/lib",
      "conda/lib",
    ],
  );
  t.same(libraryFolders({ environment: {}, home: join(top, "nobody"), root: join(top, "none") }), []);
});

t.test("without a driver", async (t) => {
  const empty = join(scratch, "empty");
  mkdirSync(empty);
  const program = `import(${JSON.stringify(join(root, "dist/backend/cuda/load.js"))}).then(({ openCuda }) => {
    try { openCuda(); console.log("there is a device"); } catch (error) { console.log(error.name + ": " + error.message); }
  })`;
  const { stdout } = spawnSync(process.execPath, ["-e", program], {
    encoding: "utf8",
    env: { ...process.env, FLUXION_CUDA_LIBRARIES: `${empty}:${join(empty, "nowhere")}` },
  });
  if (/there is a device/.test(stdout)) {
    t.pass("not tried: there is a device here");
    return;
  }
  t.match(stdout, /^BackendError: the NVIDIA driver (was not found|cannot be used)/);
  t.match(stdout, `looked for libcuda.so.1, libcuda.so in ${empty}, `);
  t.match(stdout, /1 other folder does not exist/);
});

t.test("the cache of compiled code", async (t) => {
  const folder = join(scratch, "cache");
  let compilations = 0;
  const cache = (key = "key", mostBytes = 1e6, at: string | undefined = folder) =>
    new CodeCache({
      compile: (source) => {
        compilations++;
        return Buffer.from(`code of ${source}`);
      },
      key,
      folder: at,
      mostBytes,
    });
  const compilationsOf = (work: () => void) => {
    const before = compilations;
    work();
    return compilations - before;
  };
  const get = (of: CodeCache, source = "a") => Buffer.from(of.get(source)).toString();

  const first = cache();
  t.equal(
    compilationsOf(() => t.equal(get(first), "code of a")),
    1,
  );
  t.equal(
    compilationsOf(() => get(first)),
    0,
    "in memory",
  );
  t.equal(
    compilationsOf(() => t.equal(get(cache()), "code of a")),
    0,
    "in a file",
  );
  t.equal(
    compilationsOf(() => get(cache("another device"))),
    1,
    "not for another key",
  );
  for (const damage of [
    (bytes: Buffer) => bytes.subarray(0, 20),
    (bytes: Buffer) => bytes.subarray(0, -1),
    (bytes: Buffer) => Buffer.concat([Buffer.from("x"), bytes.subarray(1)]),
    () => Buffer.alloc(0),
  ]) {
    for (const name of readdirSync(folder)) {
      const path = join(folder, name);
      writeFileSync(path, damage(readFileSync(path)));
    }
    t.equal(
      compilationsOf(() => t.equal(get(cache()), "code of a")),
      1,
      "a damaged file is replaced",
    );
    t.equal(
      compilationsOf(() => get(cache())),
      0,
    );
  }
  t.notOk(
    readdirSync(folder).some((name) => name.endsWith(".tmp")),
    "nothing is left over",
  );

  const file = join(scratch, "a file");
  writeFileSync(file, "");
  t.equal(get(cache("key", 1e6, join(file, "below"))), "code of a", "a folder that cannot be made");
  t.equal(get(cache("key", 1e6, undefined)), "code of a", "no folder");

  const small = join(scratch, "small");
  const bounded = cache("key", 200, small);
  for (const source of ["one", "two"]) get(bounded, source);
  for (const name of readdirSync(small)) utimesSync(join(small, name), 1000, 1000);
  get(cache("key", 200, small), "two"); // used again
  get(bounded, "three");
  get(bounded, "four");
  const bytes = readdirSync(small).reduce((sum, name) => sum + statSync(join(small, name)).size, 0);
  t.ok(bytes <= 200 && bytes > 0, "the files stay within the bound");
  t.equal(
    compilationsOf(() => get(cache("key", 200, small), "four")),
    0,
    "what was used last is kept",
  );
  t.equal(
    compilationsOf(() => get(cache("key", 200, small), "one")),
    1,
    "what was used longest ago is gone",
  );

  t.equal(cacheFolder({ FLUXION_CACHE: "/x" }), "/x");
  t.equal(cacheFolder({ XDG_CACHE_HOME: "/y" }), "/y/fluxion");
  t.match(cacheFolder({ XDG_CACHE_HOME: "relative" }), /\.cache\/fluxion$/);
});

const missing = cudaEmulatorMissing();
if (missing !== undefined) t.pass(`not run on a device: ${missing}`);
else onTheEmulator(cudaEmulator());

function onTheEmulator(folder: string): void {
  const deviceBytes = 2 ** 26;
  Object.assign(process.env, {
    FLUXION_CUDA_LIBRARIES: folder,
    FLUXION_EMULATED_MEMORY: `${deviceBytes}`,
    FLUXION_CACHE: join(scratch, "code"),
  });
  const { addon, device } = openCuda();

  /** A kernel over `count` elements: `statement` has the index `i`. */
  const kernel = (name: string, parameters: string, count: number, statement: string) => `
extern "C" __global__ void ${name}(fluxion::Status* status${parameters && `, ${parameters}`}) {
  if (fluxion::stopped(status)) return;
  const int i = blockIdx.x * 32 + threadIdx.x;
  if (i < ${count}) { ${statement} }
}`;
  const moduleOf = (...kernels: string[]): NativeModule =>
    addon.load(compiled(addon, device, `#include "status.cuh"\n${kernels.join("\n")}\n`));
  const launch = (name: string, buffers: number[], more: Partial<Launch> = {}, step = 0): Operation => ({
    kind: "launch",
    kernel: name,
    grid: [2, 1, 1],
    threads: 32,
    sharedBytes: 0,
    buffers,
    step,
    ...more,
  });
  const input = (bytes: number): CudaBuffer => ({ kind: "input", bytes, offset: 0 });
  const output = (bytes: number): CudaBuffer => ({ kind: "output", bytes, offset: 0 });
  const temporary = (bytes: number, offset: number): CudaBuffer => ({ kind: "temporary", bytes, offset });
  const body = (buffers: CudaBuffer[], operations: Operation[], arenaBytes = 0): CudaBody => ({
    buffers,
    operations,
    arenaBytes,
    inputs: buffers.flatMap(({ kind }, i) => (kind === "input" ? [i] : [])),
    outputs: buffers.flatMap(({ kind }, i) => (kind === "output" ? [i] : [])),
  });
  const floats = (buffer: NativeBuffer): number[] => {
    const target = new Float32Array(buffer.bytes / 4);
    buffer.read(target);
    return [...target];
  };
  const upload = (...values: number[]) => addon.upload(Float32Array.from(values));
  const first = (program: NativeProgram, ...inputs: NativeBuffer[]) => floats(program.run(inputs)[0]!);

  const arithmetic = moduleOf(
    kernel("add_one", "const float* a, float* b", 40, "b[i] = a[i] + 1;"),
    kernel("square", "const float* a, float* b", 40, "b[i] = a[i] * a[i];"),
    kernel("add", "const float* a, const float* b, float* c", 1, "c[i] = a[i] + b[i];"),
    kernel("guarded", "const float* a, float* b", 1, "b[i] = a[i] < 100 ? a[i] : 1 / (a[i] - a[i]);"),
    // One block, so that no thread stops at the entry for what another one has found.
    `
extern "C" __global__ void check(fluxion::Status* status, const int* a) {
  if (fluxion::stopped(status)) return;
  const int i = threadIdx.x;
  const bool outside = i < 3 && (a[i] < -5 || a[i] >= 5);
  __syncthreads();
  if (outside) {
    status->errorOperation = 7;
    atomicMin(&status->error, (unsigned long long)i << 32 | (unsigned)a[i]);
  }
}`,
    kernel("next", "const int* a, int* b", 3, "b[i] = a[i] + 1;"),
    kernel("repeat", "const float* a, float* b", 20000, "b[i] = a[0] + i;"),
  );
  const program = (...args: Parameters<typeof body>) => addon.createProgram(arithmetic, body(...args));
  const squares = () =>
    program(
      [input(160), output(160), temporary(160, 64)],
      [launch("add_one", [0, 2], {}, 0), launch("square", [2, 1], {}, 2)],
      256,
    );

  t.test("the device", async (t) => {
    t.ok(device.architecture >= 80 && device.multiprocessors > 0 && device.sharedBytes >= 48 * 1024);
    t.equal(device.memoryBytes, deviceBytes);
    t.match(device.driver, /^\d+\.\d$/);
    t.match(device.cublas, { version: /^\d+\.\d+$/ });
    t.same(device.libraries, [
      join(folder, "libcuda.so.1"),
      join(folder, "libnvrtc.so.13"),
      join(folder, "libcublasLt.so.13"),
    ]);
    t.same(addon.open([]), device, "is opened once");
    t.throws(() => addon.compile("what is this", {}, []), /compiling CUDA source failed.*what/s);
    t.throws(() => addon.load(new Uint8Array(0)), /there is no code/);
  });

  t.test("buffers", async (t) => {
    for (const data of [
      Float32Array.of(1.5, -2),
      Float64Array.of(1e300),
      Int32Array.of(1, 2, 3),
      Uint32Array.of(2 ** 31),
      Uint8Array.of(1, 0, 1),
      new Float32Array(0),
      Float32Array.from({ length: 3 * 2 ** 20 + 1 }, (_, i) => i),
    ] as TypedArray[]) {
      const buffer = addon.upload(data);
      t.equal(buffer.bytes, data.byteLength);
      const target = data.slice().fill(0);
      buffer.read(target);
      t.ok(Buffer.from(target.buffer).equals(Buffer.from(data.buffer)), "read gives what was uploaded");
      target.fill(0);
      await buffer.readAsync(target);
      t.ok(Buffer.from(target.buffer).equals(Buffer.from(data.buffer)));
      t.throws(() => buffer.read(new Uint8Array(data.byteLength + 1)), /expected an array of \d+ bytes/);
      buffer.dispose();
      buffer.dispose();
      t.throws(() => buffer.read(target), /the buffer is disposed/);
    }
    const buffer = upload(1);
    const { read } = buffer;
    t.throws(() => read.call({} as NativeBuffer, new Float32Array(1)), /expected a buffer of the device/);
    t.throws(
      () => read.call(arithmetic as unknown as NativeBuffer, new Float32Array(1)),
      /expected a buffer of the device/,
    );
    t.throws(() => new (buffer.constructor as new () => unknown)(), /comes from upload or run/);
    t.throws(() => buffer.read([1] as unknown as Float32Array), /expected a typed array/);
  });

  t.test("memory", async (t) => {
    const before = addon.memory();
    t.equal(before.total, deviceBytes);
    const large = [0, 1, 2].map(() => addon.upload(new Uint8Array(5e6)));
    t.ok(addon.memory().used - before.used >= 14e6);
    for (const buffer of large) buffer.dispose();
    const after = addon.memory();
    t.ok(after.used <= before.used, "what others left may have been collected meanwhile");
    t.ok(after.cached >= 14e6, "what is given back is kept");
    addon.upload(new Uint8Array(5e6)).dispose();
    t.equal(addon.memory().free, after.free, "and used again");
    addon.releaseCache();
    t.ok(addon.memory().free > after.free + 14e6, "until it is released");

    const parts = Array.from({ length: 10 }, () => addon.upload(new Uint8Array(5e6)));
    for (const part of parts) part.dispose();
    const whole = addon.upload(new Uint8Array(5e7));
    t.equal(whole.bytes, 5e7, "the cache goes back to the device for what does not fit beside it");
    t.throws(
      () => addon.upload(new Uint8Array(4e7)),
      /out of memory on the device: a tensor needs 40000000 bytes; \d+ are in use by tensors and programs, \d+ free of 67108864/,
    );
    whole.dispose();
    addon.upload(new Uint8Array(4e7)).dispose();
    t.throws(
      () => program([input(4), output(4), temporary(2 ** 40, 0)], [], 2 ** 40).run([upload(1)]),
      /out of memory on the device: a program needs 1099511627776 bytes/,
    );
  });

  t.test("buffers that nobody holds", async (t) => {
    const before = addon.memory().used;
    // Without a turn of the event loop, in which finalizers run.
    for (let i = 0; i < 100; i++) addon.upload(new Uint8Array(4e6));
    const run = program([input(4), output(5e6), output(4)], [{ kind: "zero", buffer: 1, step: 0 }]);
    for (let i = 0; i < 100; i++) run.run([upload(1)]);
    t.pass("their memory is used again");
    addon.upload(new Uint8Array(6e7)).dispose();
    t.ok(addon.memory().used - before < 1e6, "all of it");
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
    t.ok(addon.memory().used - before < 1e6, "once");
  });

  t.test("a program of two kernels", async (t) => {
    const xs = Array.from({ length: 40 }, (_, i) => i - 7);
    const expected = xs.map((x) => (x + 1) ** 2);
    const run = squares();
    t.same(first(run, upload(...xs)), expected);
    const [result] = await run.runAsync([upload(...xs)]);
    t.same(floats(result!), expected);
    t.ok(run.workspaceBytes() >= 256);
    const seconds = new Float64Array(4).fill(-1);
    run.run([upload(...xs)], seconds);
    t.ok(
      seconds.every((s) => s >= 0 && s < 10),
      "times of the steps",
    );
    t.throws(() => run.run([upload(...xs)], new Float64Array(2)), /an element for each step/);
    t.throws(() => run.run([]), /expected 1 inputs, got 0/);
    t.throws(() => run.run([upload(1)]), /input 0: expected 160 bytes, got 4/);
    t.throws(() => run.run([{} as NativeBuffer]), /input 0: expected a buffer of the device/);
    t.same(first(program([output(8)], [{ kind: "zero", buffer: 0, step: 0 }])), [0, 0], "zeros");
    t.same(
      program([input(0), output(0)], [{ kind: "zero", buffer: 1, step: 0 }]).run([upload()])[0]!.bytes,
      0,
      "no bytes",
    );
  });

  t.test("malformed programs are refused", async (t) => {
    const io = [input(160), output(160)];
    const refused = (description: CudaBody, reason: RegExp) =>
      t.throws(() => addon.createProgram(arithmetic, description), reason);
    const operation = (op: unknown, reason: RegExp) => refused(body(io, [op as Operation]), reason);
    operation(launch("add_one", [0, 2]), /operation 0 \(launch\): buffers: the number of a buffer/);
    operation(launch("add_one", [0, -1]), /malformed program: operation 0 \(launch\)/);
    operation(launch("nothing", [0, 1]), /no kernel nothing/);
    operation(launch("add_one", [0, 1], { threads: 33 }), /not a multiple of 32/);
    operation(launch("add_one", [0, 1], { threads: 2048 }), /threads/);
    operation(launch("add_one", [0, 1], { grid: [1, 70000, 1] }), /grid/);
    operation(launch("add_one", [0, 1], { grid: [1, 1] as never }), /grid/);
    operation(launch("add_one", [0, 1], { sharedBytes: 2 ** 20 }), /bytes of shared memory/);
    operation({ kind: "zero", buffer: 0, step: 0 }, /writes to input buffer 0/);
    operation({ kind: "zero", buffer: 1.5, step: 0 }, /operation 0 \(zero\)/);
    operation({ kind: "zero", buffer: 1, step: -1 }, /step/);
    operation({ kind: "dance", step: 0 }, /operation 0 \(dance\): there is no such operation/);
    operation(null, /expected an object/);
    const check = (number: number) => launch("check", [0], { check: { number, size: 5, site: undefined } });
    refused(body(io, [check(1), check(2), check(1)]), /operation 2 \(launch\): check 1 comes twice/);
    refused(body([temporary(64, 32)], [], 128), /buffer 0: .*multiple of 64/);
    refused(body([temporary(100, 64)], [], 128), /reaches outside of the arena/);
    refused(body([temporary(100, 2 ** 53)], [], 128), /buffer 0: offset/);
    refused({ ...body(io, []), inputs: [1] }, /of another kind/);
    refused({ ...body(io, []), inputs: [] }, /buffer 0 is missing/);
    refused({ ...body(io, []), inputs: [0, 0] }, /comes twice/);
    refused({ ...body(io, []), operations: 3 as never }, /operations: expected an array/);
    refused(undefined as never, /expected an object/);
    t.throws(() => addon.createProgram({} as NativeModule, body(io, [])), /expected a loaded module/);

    const turns = (more: object, inside = body([input(4), output(4)], [])) => ({
      kind: "turns",
      step: 0,
      length: 2,
      reverse: false,
      body: inside,
      consts: [],
      inits: [0],
      carries: [1],
      xs: [],
      ys: [],
      ...more,
    });
    const io4 = [input(4), output(4)];
    const loop = (more: object, reason: RegExp, inside?: CudaBody) =>
      refused(body(io4, [turns(more, inside) as Operation]), reason);
    loop({ length: -1 }, /length/);
    loop({ inits: [] }, /other inits than carries/);
    loop({ carries: [0] }, /writes to input/);
    loop({ ys: [1] }, /a result comes twice/);
    loop({ xs: [0] }, /the body has other inputs/);
    loop({}, /argument 0 of the body has another size/, body([input(8), output(4)], []));
    loop({}, /\(turns\): operation 0 \(zero\)/, body(io4, [{ kind: "zero", buffer: 9, step: 0 }]));
    let deep: CudaBody = body(io4, []);
    for (let i = 0; i < 70; i++) deep = body(io4, [turns({}, deep) as Operation]);
    refused(deep, /more than 64 deep/);

    const p = (more: object, reason: RegExp) => operation({ ...product(3, 4, 2), ...more }, reason);
    p({ k: 0 }, /k: expected an integer from 1/);
    p({ a: { buffer: 0, offset: 38, row: 2, step: 0, transposed: false } }, /a: reaches outside of buffer 0/);
    p({ a: { buffer: 0, offset: 0, row: 1, step: 0, transposed: false } }, /a: rows overlap/);
    p({ batch: 2 ** 31 - 1, a: { ...product(3, 4, 2).a, step: 2 ** 53 - 1 } }, /too large|outside/);
    p({ dtype: "int32" }, /no float/);
    p({ c: { ...product(3, 4, 2).c, buffer: 0 } }, /writes to input buffer 0/);
  });

  function product(m: number, n: number, k: number, more: Partial<Product> = {}): Product & { step: number } {
    const matrix = (buffer: number, row: number, offset = 0) => ({
      buffer,
      offset,
      row,
      step: 0,
      transposed: false,
    });
    return {
      kind: "product",
      dtype: "float32",
      precision: "float32",
      batch: 1,
      m,
      n,
      k,
      a: matrix(0, k),
      b: matrix(0, n, m * k),
      c: matrix(1, n),
      step: 0,
      ...more,
    };
  }

  t.test("products", async (t) => {
    const [m, n, k, batch] = [3, 4, 2, 2];
    const a = Array.from({ length: batch * m * k }, (_, i) => i - 4);
    const b = Array.from({ length: batch * k * n }, (_, i) => 2 * i - 7);
    const bias = [10, 20, 30, 40];
    for (const aTransposed of [false, true]) {
      for (const bTransposed of [false, true]) {
        const expected: number[] = [];
        for (let i = 0; i < batch; i++)
          for (let r = 0; r < m; r++)
            for (let c = 0; c < n; c++) {
              let sum = bias[c]!;
              for (let j = 0; j < k; j++) {
                const left = a[i * m * k + (aTransposed ? j * m + r : r * k + j)]!;
                const right = b[i * k * n + (bTransposed ? c * k + j : j * n + c)]!;
                sum += left * right;
              }
              expected.push(sum);
            }
        const operation = product(m, n, k, {
          batch,
          a: { buffer: 0, offset: 0, row: aTransposed ? m : k, step: m * k, transposed: aTransposed },
          b: { buffer: 1, offset: 0, row: bTransposed ? k : n, step: k * n, transposed: bTransposed },
          c: { buffer: 3, offset: 0, row: n, step: m * n, transposed: false },
          bias: { buffer: 2, offset: 0 },
        });
        const buffers = [input(4 * a.length), input(4 * b.length), input(16), output(4 * batch * m * n)];
        const run = program(buffers, [operation]);
        t.same(first(run, upload(...a), upload(...b), upload(...bias)), expected);
      }
    }
    const nothing = program([input(32), output(0)], [product(0, 4, 2)]);
    t.equal(nothing.run([upload(...b.slice(0, 8))])[0]!.bytes, 0, "of no rows");

    const double = program([input(8 * 14), output(8 * 12)], [product(m, n, k, { dtype: "float64" })]);
    const values = Float64Array.from({ length: 14 }, (_, i) => 1 + i * 2 ** -40);
    const target = new Float64Array(12);
    double.run([addon.upload(values)])[0]!.read(target);
    const element = (r: number, c: number) =>
      values[2 * r]! * values[6 + c]! + values[2 * r + 1]! * values[10 + c]!;
    t.same(
      [...target],
      Array.from({ length: 12 }, (_, i) => element(Math.floor(i / 4), i % 4)),
      "float64",
    );

    const rounding = program([input(4 * 14), output(4 * 12)], [product(m, n, k, { precision: "bfloat16" })]);
    const [rounded] = floats(rounding.run([upload(...Array.from({ length: 14 }, () => 1 + 2 ** -6))])[0]!);
    t.equal(rounded, 2 * (1 + 2 ** -6) ** 2, "bfloat16 keeps 7 bits");
  });

  t.test("a program with any number changed is refused, or runs within its buffers", async (t) => {
    // Nothing but zeros, products and loops: kernels are as they are compiled. The emulator watches all memory.
    const inner = body(
      [input(4 * 4), input(4 * 6), output(4 * 4), output(4 * 8), temporary(16, 0)],
      [
        { kind: "zero", buffer: 4, step: 0 },
        product(2, 2, 2, {
          a: { buffer: 0, offset: 0, row: 2, step: 0, transposed: false },
          b: { buffer: 1, offset: 0, row: 3, step: 0, transposed: true },
          c: { buffer: 2, offset: 0, row: 2, step: 0, transposed: false },
        }),
        { kind: "zero", buffer: 3, step: 0 },
      ],
      64,
    );
    const turns: Operation = {
      kind: "turns",
      step: 0,
      length: 3,
      reverse: true,
      body: inner,
      consts: [],
      inits: [0],
      carries: [2],
      xs: [1],
      ys: [3],
    };
    const whole = body([input(4 * 4), input(4 * 18), output(4 * 4), output(4 * 24)], [turns]);
    const unexpected: string[] = [];
    let refused = 0;
    let ran = 0;
    for (const changed of mutated(whole)) {
      try {
        const run = addon.createProgram(arithmetic, changed);
        const bytes = changed.inputs.map((i) => changed.buffers[i]!.bytes);
        if (bytes.some((size) => size > 1e6)) continue;
        for (const result of run.run(bytes.map((size) => addon.upload(new Uint8Array(size)))))
          result.dispose();
        ran++;
      } catch (error) {
        const { message } = error as Error;
        if (!/^(malformed program: |out of memory on the device: )/.test(message)) unexpected.push(message);
        refused++;
      }
    }
    t.same(unexpected, []);
    t.ok(refused > 100 && ran > 100, `${refused} refused, ${ran} ran`);
    t.same(first(squares(), upload(...new Array(40).fill(1)))[0], 4, "the device is well");
  });

  t.test("checks of indices", async (t) => {
    const check = { number: 7, size: 5, site: 12 };
    const run = program(
      [input(12), input(160), output(160)],
      [launch("check", [0], { check, grid: [1, 1, 1] }), launch("add_one", [1, 2])],
    );
    const values = upload(...new Array(40).fill(1));
    t.same(floats(run.run([addon.upload(Int32Array.of(4, -5, 0)), values])[0]!), new Array(40).fill(2));
    const wrong = addon.upload(Int32Array.of(0, -6, 5));
    t.throws(() => run.run([wrong, values]), {
      message: "index -6 is out of range for an axis of size 5 at site 12",
    });
    await t.rejects(run.runAsync([wrong, values]), { message: /^index -6 .* at site 12$/ });
    t.same(
      floats(run.run([addon.upload(Int32Array.of(0, 0, 0)), values])[0]!)[0],
      2,
      "a later run is free of it",
    );
  });

  t.test("loops inside of a program", async (t) => {
    // s <- s + x for each x; y = s. The outer loop runs it twice over the same xs.
    const inner = body(
      [input(4), input(4), output(4), output(4)],
      [launch("add", [0, 1, 2]), launch("add", [0, 1, 3])],
    );
    for (const length of [0, 1, 4, 5]) {
      for (const reverse of [false, true]) {
        const xs = Array.from({ length }, (_, i) => 10 ** i);
        const turns: Operation = {
          kind: "turns",
          step: 0,
          length,
          reverse,
          body: inner,
          consts: [],
          inits: [0],
          carries: [2],
          xs: [1],
          ys: [3],
        };
        const once = [input(4), input(4 * length), output(4), output(4 * length)];
        const run = program(once, [turns]);
        const [carry, ys] = run.run([upload(0.5), upload(...xs)]);
        const order = reverse ? [...xs].reverse() : xs;
        const sums = order.map((_, i) => order.slice(0, i + 1).reduce((s, x) => s + x, 0.5));
        t.same(floats(carry!), [sums.at(-1) ?? 0.5]);
        t.same(floats(ys!), reverse ? [...sums].reverse() : sums);

        const outer: Operation = {
          kind: "turns",
          step: 0,
          length: 2,
          reverse: false,
          // The xs are a const of the outer loop.
          body: body(
            [input(4 * length), input(4), output(4), temporary(4 * length, 0)],
            [{ ...turns, inits: [1], carries: [2], xs: [0], ys: [3] }],
            64,
          ),
          consts: [1],
          inits: [0],
          carries: [2],
          xs: [],
          ys: [],
        };
        const twice = program([input(4), input(4 * length), output(4)], [outer]);
        t.same(first(twice, upload(0.5), upload(...xs)), [0.5 + 2 * xs.reduce((s, x) => s + x, 0)]);
      }
    }
  });

  /** x <- x + c; observes x, and a guard that is finite below 100. */
  const counting = (extra: CudaBuffer[] = [], operations: Operation[] = []) =>
    program(
      [input(4), input(4), output(4), output(4), ...extra, output(4)],
      [
        launch("add", [0, 1, 2]),
        launch("add", [0, 1, 3]),
        ...operations,
        launch("guarded", [2, 4 + extra.length]),
      ],
    );
  const readState = (loop: { read(i: number, target: TypedArray): void }) => {
    const target = new Float32Array(1);
    loop.read(0, target);
    return target[0];
  };

  t.test("a loop around a program", async (t) => {
    const loop = counting().loop(loopModule(), [upload(0), upload(1)], 1);
    const run = async (steps: number) => {
      const observed = [new Float32Array(steps), new Float32Array(steps)];
      const outcome = await loop.run(steps, observed);
      return { ...outcome, observed: observed.map((array) => [...array.subarray(0, outcome.ran)]) };
    };
    t.same(await run(0), { completed: 0, ran: 0, observed: [[], []] });
    t.same(await run(3), {
      completed: 3,
      ran: 3,
      observed: [
        [1, 2, 3],
        [1, 2, 3],
      ],
    });
    t.equal(readState(loop), 3);
    const fifty = Array.from({ length: 50 }, (_, i) => i + 4);
    t.same(await run(50), { completed: 50, ran: 50, observed: [fifty, fifty] });
    loop.write(0, Float32Array.of(10));
    t.equal(readState(loop), 10);

    const stopped = await run(500);
    t.match(stopped, { completed: 89, ran: 90 }, "the step to 100 is not committed");
    t.equal(stopped.observed[0]!.at(-1), 100);
    t.equal(stopped.observed[1]!.at(-1), Infinity);
    t.same(
      stopped.observed[0]!.slice(0, 89),
      Array.from({ length: 89 }, (_, i) => i + 11),
    );
    t.equal(readState(loop), 99, "the state is that of the last committed step");
    t.match(await run(5), { completed: 0, ran: 1 }, "again");
    loop.write(0, Float32Array.of(0));
    t.match(await run(2), { completed: 2, ran: 2 }, "and free of it after a write");

    const busy = loop.run(10, [new Float32Array(10), new Float32Array(10)]);
    t.throws(() => readState(loop), /read: a run of the loop is under way/);
    t.throws(() => loop.write(0, new Float32Array(1)), /write: a run of the loop is under way/);
    t.throws(() => loop.run(1, []), /run: a run of the loop is under way/);
    loop.dispose();
    t.match(await busy, { completed: 10, ran: 10 }, "a dispose lets the run end");
    t.throws(() => readState(loop), /the loop is disposed/);
  });

  t.test("what a loop refuses", async (t) => {
    const run = counting();
    const inputs = [upload(0), upload(1)];
    t.throws(() => run.loop(loopModule(), inputs, 3), /3 carried values, but the program has 2 inputs/);
    t.throws(() => run.loop({} as NativeModule, inputs, 1), /expected a loaded module/);
    t.throws(() => run.loop(arithmetic, inputs, 1), /no kernel fluxion_record/);
    t.throws(() => squares().loop(loopModule(), [upload(...new Array(40).fill(0))], 0), /not a float scalar/);
    const loop = run.loop(loopModule(), inputs, 1);
    t.throws(() => loop.run(2, [new Float32Array(2)]), /expected 2 observed arrays, got 1/);
    t.throws(
      () => loop.run(2, [new Float32Array(2), new Float32Array(1)]),
      /observation 1: expected .* 8 bytes/,
    );
    t.throws(() => loop.run(-1, []), /steps/);
    t.throws(() => loop.read(1, new Float32Array(1)), /carried state 1 of 1/);
    t.throws(() => loop.read(0, new Float32Array(2)), /expected an array of 4 bytes/);
  });

  t.test("a loop of more launches than a graph should have", async (t) => {
    const length = 200_001;
    const turns: Operation = {
      kind: "turns",
      step: 0,
      length,
      reverse: false,
      body: body([input(4), input(4), output(4)], [launch("add", [0, 1, 2], { grid: [1, 1, 1] })]),
      consts: [],
      inits: [0],
      carries: [2],
      xs: [1],
      ys: [],
    };
    const run = program([input(4), input(4 * length), output(4)], [turns]);
    const loop = run.loop(loopModule(), [upload(1), addon.upload(new Float32Array(length).fill(1))], 1);
    t.same(await loop.run(1, []), { completed: 1, ran: 1 });
    t.equal(readState(loop), length + 1);
  });

  t.test("a kernel with more than 48 KB of shared memory", async (t) => {
    const bytes = 100 * 1024;
    const module = addon.load(
      compiled(
        addon,
        device,
        `#include "status.cuh"
#include "shared.cuh"
extern "C" __global__ void reverse(fluxion::Status* status, const float* a, float* b) {
  if (fluxion::stopped(status)) return;
  float* memory = reinterpret_cast<float*>(fluxion::dynamicShared());
  for (int i = threadIdx.x; i < ${bytes / 4}; i += 256) memory[i] = a[i];
  __syncthreads();
  for (int i = threadIdx.x; i < ${bytes / 4}; i += 256) b[i] = memory[${bytes / 4 - 1} - i];
}
`,
      ),
    );
    const run = addon.createProgram(
      module,
      body(
        [input(bytes), output(bytes)],
        [launch("reverse", [0, 1], { grid: [1, 1, 1], threads: 256, sharedBytes: bytes })],
      ),
    );
    const values = Array.from({ length: bytes / 4 }, (_, i) => i);
    t.same(first(run, upload(...values)), values.reverse());
  });

  t.test("a loop leaves the main thread to others", async (t) => {
    const loop = counting().loop(loopModule(), [upload(0), upload(0)], 1);
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const steps = 20000;
    const others = squares();
    const running = loop.run(steps, [new Float32Array(steps), new Float32Array(steps)]);
    t.same(first(others, upload(...new Array(40).fill(2)))[0], 9, "another program runs meanwhile");
    t.match(await running, { completed: steps });
    clearInterval(timer);
    t.ok(turns > 10);
  });

  t.test("a loop with large observations", async (t) => {
    const large = 80000;
    const run = program(
      [input(4), input(4), output(4), output(large), output(4)],
      [launch("add", [0, 1, 2]), launch("repeat", [2, 3], { grid: [625, 1, 1] }), launch("guarded", [2, 4])],
    );
    const loop = run.loop(loopModule(), [upload(97), upload(1)], 1);
    const observed = [new Float32Array((large / 4) * 5), new Float32Array(5)];
    t.same(await loop.run(5, observed), { completed: 2, ran: 3 });
    t.same(
      [0, 1, 2].map((step) => observed[0]![step * 20000 + 19999]),
      [98, 99, 100].map((x) => x + 19999),
    );
  });

  t.test("a loop whose state is written by what does not look at the status", async (t) => {
    // state 1 is set to zero in each step, then state 0 goes on; a stop must leave the committed state.
    const run = program(
      [input(4), input(4), input(4), output(4), output(4), output(4)],
      [
        launch("add", [0, 2, 3]),
        { kind: "zero", buffer: 4, step: 0 },
        launch("add", [0, 2, 4]),
        launch("guarded", [3, 5]),
      ],
    );
    const loop = run.loop(loopModule(), [upload(90), upload(5), upload(1)], 2);
    t.same(await loop.run(50, [new Float32Array(50)]), { completed: 9, ran: 10 });
    const second = new Float32Array(1);
    loop.read(1, second);
    t.same([readState(loop), second[0]], [99, 99]);
  });

  t.test("an index out of range in a loop", async (t) => {
    const check = { number: 7, size: 5, site: undefined };
    const run = program(
      [input(12), input(4), input(4), output(12), output(4), output(4)],
      [
        launch("check", [0], { check, grid: [1, 1, 1] }),
        launch("next", [0, 3]),
        launch("add", [1, 2, 4]),
        launch("guarded", [4, 5]),
      ],
    );
    const loop = run.loop(loopModule(), [addon.upload(Int32Array.of(0, 1, 2)), upload(0), upload(1)], 2);
    await t.rejects(loop.run(9, [new Float32Array(9)]), {
      message: "index 5 is out of range for an axis of size 5",
    });
    const state = new Int32Array(3);
    loop.read(0, state);
    t.same([...state], [3, 4, 5], "the state is that of the last committed step");
  });

  t.test("worker threads", async (t) => {
    const code = `
      const { openCuda } = await import(${JSON.stringify(pathToFileURL(join(root, "dist/backend/cuda/load.js")).href)});
      const { parentPort } = await import("node:worker_threads");
      const { addon } = openCuda();
      let sum = 0;
      for (let i = 0; i < 50; i++) {
        const buffer = addon.upload(Float32Array.of(i));
        const target = new Float32Array(1);
        await buffer.readAsync(target);
        sum += target[0];
        if (i % 2) buffer.dispose();
      }
      parentPort.postMessage(sum);`;
    const url = new URL(`data:text/javascript,${encodeURIComponent(code)}`);
    const sums = await Promise.all(
      [0, 1, 2].map(
        () =>
          new Promise((resolve, reject) => {
            new Worker(url).on("message", resolve).on("error", reject);
          }),
      ),
    );
    t.same(sums, [1225, 1225, 1225]);
  });

  /** A module that does `statements` with the addon, and a program of one kernel over `a` and `b`, of one float each. */
  const script = (statement: string, statements: string) => {
    const url = (name: string) =>
      JSON.stringify(pathToFileURL(join(root, "dist", "backend", "cuda", name)).href);
    const source = `#include "status.cuh"\n${kernel("change", "const float* a, float* b", 1, statement)}`;
    return `
      const { openCuda, loopModule } = await import(${url("load.js")});
      const { compiled } = await import(${url("cache.js")});
      const { addon, device } = openCuda();
      const program = addon.createProgram(
        addon.load(compiled(addon, device, ${JSON.stringify(source)})),
        ${JSON.stringify(body([input(4), output(4)], [launch("change", [0, 1])]))});
      const one = addon.upload(Float32Array.of(1));
      const tried = (call) => { try { call(); return "nothing"; } catch (error) { return error.message; } };
      ${statements}`;
  };
  const child = (statement: string, statements: string) =>
    spawnSync(process.execPath, ["--input-type=module", "-e", script(statement, statements)], {
      encoding: "utf8",
      timeout: 60000,
    });

  t.test("an error of the device ends its use", async (t) => {
    const { stdout } = child(
      "b[100000000] = a[0];",
      `tried(() => { const [b] = program.run([one]); b.read(new Float32Array(1)); });
       console.log(tried(() => addon.upload(Float32Array.of(1))));
       console.log(tried(() => one.read(new Float32Array(1))));
       console.log(tried(() => program.run([one])));`,
    );
    const lost = /^the device context is lost: .*; the process must be started again$/;
    const lines = stdout.trim().split("\n");
    t.equal(lines.length, 3, stdout);
    for (const line of lines) t.match(line, lost);
  });

  const looping = (steps: number) =>
    `const loop = program.loop(loopModule(), [one], 1); const running = loop.run(${steps}, []);`;

  t.test("a process that exits in the middle of a loop", async (t) => {
    const { status, stdout, signal } = child(
      "b[0] = a[0] + 1;",
      `${looping(1e12)} setTimeout(() => { console.log("exits"); process.exit(3); }, 300);`,
    );
    t.match({ status, stdout, signal }, { status: 3, stdout: "exits\n", signal: null });
  });

  t.test("a worker that is ended in the middle of a loop", async (t) => {
    const text = script(
      "b[0] = a[0] + 1;",
      `${looping(20000)} (await import("node:worker_threads")).parentPort.postMessage("runs");`,
    );
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(text)}`));
    await new Promise((resolve, reject) => worker.on("message", resolve).on("error", reject));
    await worker.terminate(); // Node waits for its run to end
    t.same(first(squares(), upload(...new Array(40).fill(1)))[0], 4, "others go on");
  });
}
