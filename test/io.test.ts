import { spawnSync } from "node:child_process";
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import * as fx from "fluxion";
import t from "tap";

const { decodeSafetensors, encodeSafetensors, loadSafetensors, saveSafetensors, writeFileAtomic } = fx.io;

/** The bytes of a file with this header, written by hand. */
function file(header: unknown, data: Uint8Array | number = 0, headerLength?: bigint): Uint8Array {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const elements = typeof data === "number" ? new Uint8Array(data) : data;
  const bytes = new Uint8Array(8 + text.length + elements.length);
  new DataView(bytes.buffer).setBigUint64(0, headerLength ?? BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(elements, 8 + text.length);
  return bytes;
}

const f32 = (shape: unknown, data_offsets: unknown) => ({ dtype: "F32", shape, data_offsets });

t.test("safetensors: what is written is what is read", async (t) => {
  const tensors = {
    weight: fx.tensor([
      [1.5, -2],
      [3, Number.NaN],
    ]),
    double: fx.tensor([Math.PI, -0], { dtype: "float64" }),
    index: fx.tensor([-1, 2 ** 31 - 1], { dtype: "int32" }),
    key: fx.tensor([0, 2 ** 32 - 1], { dtype: "uint32" }),
    mask: fx.tensor([true, false, true]),
    scalar: fx.tensor(7),
    empty: fx.zeros([0, 3]),
    "layers/0/~weight": fx.ones([2]),
    __proto__x: fx.ones([1]),
  };
  const metadata = { format: "test", text: 'quotes " and \\ and { "a": 1, "a": 2 } and \u00e9' };
  const read = decodeSafetensors(encodeSafetensors(tensors, metadata));
  t.same(read.metadata, metadata);
  t.same(Object.keys(read.tensors).sort(), Object.keys(tensors).sort());
  for (const [name, tensor] of Object.entries(tensors)) {
    const found = read.tensors[name]!;
    t.equal(found.dtype, tensor.dtype, name);
    t.same(found.shape, tensor.shape, name);
    t.same(found.toTypedArray(), tensor.toTypedArray(), name);
  }
  t.ok(Object.is(read.tensors["double"]!.toTypedArray()[1], -0), "signed zeros stay");

  const folder = t.testdir({});
  await saveSafetensors(join(folder, "a", "b.safetensors"), tensors, metadata);
  const loaded = await loadSafetensors(join(folder, "a", "b.safetensors"));
  t.same(loaded.tensors["index"]!.toArray(), [-1, 2 ** 31 - 1]);
});

t.test("safetensors: the bytes are those of the format", async (t) => {
  // Written out from the format's description.
  const header = '{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}';
  const bytes = file(
    header.padEnd(Math.ceil(header.length / 8) * 8),
    new Uint8Array([0, 0, 128, 63, 0, 0, 0, 192]),
  );
  t.same(encodeSafetensors({ x: fx.tensor([1, -2]) }), bytes);
  t.same(decodeSafetensors(bytes).tensors["x"]!.toArray(), [1, -2]);
  // A view at an odd place of a larger buffer.
  const shifted = new Uint8Array(bytes.length + 3);
  shifted.set(bytes, 3);
  t.same(decodeSafetensors(shifted.subarray(3)).tensors["x"]!.toArray(), [1, -2]);
});

t.test("safetensors: files that lie are refused", async (t) => {
  const hostile: [string, Uint8Array, RegExp][] = [
    ["an empty file", new Uint8Array(0), /0 bytes/],
    ["a short prefix", new Uint8Array(7), /7 bytes/],
    ["a header longer than the file", file({}, 0, 3n), /should have 3 bytes, the file has 2/],
    ["a header of 2^64 - 1 bytes", file({}, 0, 2n ** 64n - 1n), /18446744073709551615/],
    ["a header of 2^53 bytes", file({}, 0, 2n ** 53n), /9007199254740992/],
    ["not JSON", file("{nonsense}"), /not JSON/],
    ["not UTF-8", file('{"\u0000', new Uint8Array([0xff, 0xfe]), 5n), /UTF-8|JSON/],
    ["a list", file([]), /not a JSON object/],
    ["null", file("null"), /not a JSON object/],
    ["a number for a tensor", file({ x: 3 }), /"x" is not described by an object: 3/],
    ["no dtype", file({ x: { shape: [1], data_offsets: [0, 4] } }, 4), /dtype nothing/],
    ["an unknown dtype", file({ x: { dtype: "F8_E4M3", shape: [1], data_offsets: [0, 1] } }, 1), /F8_E4M3/],
    [
      "a dtype of Object's",
      file({ x: { dtype: "constructor", shape: [1], data_offsets: [0, 4] } }, 4),
      /dtype/,
    ],
    ["a negative size", file({ x: f32([-1], [0, 4]) }, 4), /shape \[-1\]/],
    ["a fractional size", file({ x: f32([1.5], [0, 6]) }, 6), /shape \[1.5\]/],
    ["a huge size", file({ x: f32([1e300], [0, 4]) }, 4), /shape/],
    [
      "a size beyond all numbers",
      file('{"x":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}', 4),
      /shape/,
    ],
    ["a product that overflows", file({ x: f32([2 ** 40, 2 ** 40], [0, 4]) }, 4), /product/],
    ["text for a size", file({ x: f32(["1"], [0, 4]) }, 4), /shape/],
    ["a shape that is no list", file({ x: f32({ length: 1 }, [0, 4]) }, 4), /shape/],
    ["negative offsets", file({ x: f32([1], [-4, 0]) }, 4), /offsets \[-4,0\]/],
    ["fractional offsets", file({ x: f32([1], [0.5, 4.5]) }, 8), /offsets/],
    ["three offsets", file({ x: f32([1], [0, 4, 8]) }, 8), /offsets/],
    ["offsets the wrong way round", file({ x: f32([1], [4, 0]) }, 4), /bytes 4 to 0/],
    ["offsets out of the file", file({ x: f32([2], [0, 8]) }, 4), /bytes 0 to 8, the file holds 4/],
    ["huge offsets", file({ x: f32([1], [2 ** 52, 2 ** 52 + 4]) }, 4), /the file holds 4/],
    [
      "a shape that does not fit",
      file({ x: f32([3], [0, 8]) }, 8),
      /float32\[3\], needs 12 bytes; its offsets give 8/,
    ],
    ["an overlap", file({ x: f32([2], [0, 8]), y: f32([2], [4, 12]) }, 12), /"y" starts at byte 4, inside/],
    ["the same bytes twice", file({ x: f32([1], [0, 4]), y: f32([1], [0, 4]) }, 4), /inside/],
    ["a gap", file({ x: f32([1], [0, 4]), y: f32([1], [8, 12]) }, 12), /after a gap/],
    ["bytes left over", file({ x: f32([1], [0, 4]) }, 12), /cover 4 of 12/],
    ["a file cut short", encodeSafetensors({ x: fx.ones([4]) }).slice(0, -1), /the file holds 15/],
    [
      "a tensor twice",
      file(`{"x":${JSON.stringify(f32([1], [0, 4]))},"\\u0078" : {}}`, 4),
      /the key "x" twice/,
    ],
    ["metadata twice", file('{"__metadata__":{"a":"1","a":"2"}}'), /the key "a" twice/],
    ["metadata that is a number", file({ __metadata__: { step: 3 } }), /metadata "step" must be text, got 3/],
    ["metadata that is a list", file({ __metadata__: ["a"] }), /__metadata__ is not an object/],
    [
      "a bool of 2",
      file({ x: { dtype: "BOOL", shape: [1], data_offsets: [0, 1] } }, new Uint8Array([2])),
      /bool/,
    ],
  ];
  for (const [what, bytes, message] of hostile) {
    t.throws(() => decodeSafetensors(bytes, "f"), { name: "FileError", message }, what);
  }
  const names = decodeSafetensors(file(`{"__proto__":${JSON.stringify(f32([1], [0, 4]))}}`, 4)).tensors;
  t.ok(Object.hasOwn(names, "__proto__"), "a tensor may have the name of a prototype");
  t.equal(Object.getPrototypeOf(names), Object.prototype);
});

t.test("safetensors: random damage never gives anything but FileError", async (t) => {
  const good = encodeSafetensors({ a: fx.ones([3, 2]), b: fx.zeros([4]) }, { note: "n" });
  let state = 12345;
  const random = (n: number) => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) % n;
  for (let i = 0; i < 2000; i++) {
    const bytes = good.slice(0, random(4) === 0 ? random(good.length) : good.length);
    for (let k = random(4); k >= 0 && bytes.length > 0; k--)
      bytes[random(Math.min(bytes.length, 200))] = random(256);
    try {
      decodeSafetensors(bytes);
    } catch (error) {
      if (!(error instanceof fx.FileError)) t.fail(`case ${i}: ${error}`);
    }
  }
  t.pass("2000 damaged files");
});

t.test("encoding refuses what the format cannot say", async (t) => {
  t.throws(() => encodeSafetensors({}, { step: 3 as unknown as string }), {
    name: "ValueError",
    message: /"step"/,
  });
  t.throws(() => encodeSafetensors({ __metadata__: fx.ones([1]) }), { name: "ValueError" });
});

t.test("a write that fails leaves the old file and no other", async (t) => {
  const folder = t.testdir({ "a.txt": "old", taken: {} });
  const path = join(folder, "a.txt");
  await writeFileAtomic(path, "new");
  t.equal(await fs.readFile(path, "utf8"), "new");

  await t.rejects(writeFileAtomic(join(folder, "taken"), "x"), {
    name: "FileError",
    message: /cannot write .*taken/,
  });
  await t.rejects(writeFileAtomic(join(path, "below"), "x"), { name: "FileError" });
  await t.rejects(fx.io.readFileBytes(join(folder, "none")), {
    name: "FileError",
    message: /cannot read .*none.*ENOENT/,
  });

  await t.test("on a full disk", async (t) => {
    const open = fs.open;
    t.teardown(() => {
      fs.open = open;
      syncBuiltinESMExports();
    });
    fs.open = (async (...args: Parameters<typeof open>) => {
      const handle = await open(...args);
      handle.writeFile = async () => {
        await handle.write("ha");
        throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
      };
      return handle;
    }) as typeof open;
    syncBuiltinESMExports();
    await t.rejects(writeFileAtomic(path, "half"), { name: "FileError", message: /no space left/ });
  });
  t.equal(await fs.readFile(path, "utf8"), "new");
  t.same((await fs.readdir(folder)).sort(), ["a.txt", "taken"]);
});

t.test(
  "a process that is killed while it writes leaves the old file",
  { skip: process.platform === "win32" },
  async (t) => {
    const folder = t.testdir({ "a.bin": "old" });
    const path = join(folder, "a.bin");
    const program = `
    import fs from "node:fs/promises";
    import { syncBuiltinESMExports } from "node:module";
    const open = fs.open;
    fs.open = async (...args) => {
      const handle = await open(...args);
      handle.writeFile = async () => { await handle.write("half"); process.kill(process.pid, "SIGKILL"); };
      return handle;
    };
    syncBuiltinESMExports();
    const { io } = await import("fluxion");
    await io.writeFileAtomic(${JSON.stringify(path)}, "whole");`;
    const { signal } = spawnSync(process.execPath, ["--input-type=module", "--eval", program]);
    t.equal(signal, "SIGKILL");
    t.equal(await fs.readFile(path, "utf8"), "old");
  },
);

t.test("a symbolic link keeps pointing where it did", { skip: process.platform === "win32" }, async (t) => {
  const folder = t.testdir({ real: { "a.txt": "old" }, link: t.fixture("symlink", "real/a.txt") });
  await writeFileAtomic(join(folder, "link"), "new");
  t.ok((await fs.lstat(join(folder, "link"))).isSymbolicLink());
  t.equal(await fs.readFile(join(folder, "real", "a.txt"), "utf8"), "new");
});
