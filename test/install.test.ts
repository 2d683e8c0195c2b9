// Installing must work on a machine that cannot build the addons, and must say why they are missing.
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Test, test } from "tap";

const root = dirname(createRequire(import.meta.url).resolve("fluxion/package.json"));

interface AddonStatus {
  built: boolean;
  reason: string | null;
}

/** A copy of the package as a clone or a tarball has it, with a folder of the given commands as its whole PATH. */
function packageCopy(t: Test, commands: Record<string, string> = {}) {
  const folder = mkdtempSync(join(tmpdir(), "fluxion-install-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  for (const name of ["package.json", "binding.gyp", "scripts", "native"]) {
    cpSync(join(root, name), join(folder, name), { recursive: true });
  }
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"), "dir");
  const bin = join(folder, "bin");
  mkdirSync(bin);
  symlinkSync(process.execPath, join(bin, "node"));
  for (const [name, script] of Object.entries(commands)) {
    writeFileSync(join(bin, name), script);
    chmodSync(join(bin, name), 0o755);
  }
  const run = (script: string, args: string[] = [], env: Record<string, string> = {}) =>
    spawnSync(process.execPath, [join(folder, "scripts", script), ...args], {
      cwd: folder,
      encoding: "utf8",
      env: { PATH: bin, HOME: folder, FLUXION_CUDA: "0", ...env },
    });
  const status = () =>
    JSON.parse(readFileSync(join(folder, "build", "native-status.json"), "utf8")) as {
      cpu: AddonStatus;
      cuda: AddonStatus;
    };
  return { folder, run, status };
}

test("without a compiler", async (t) => {
  const copy = packageCopy(t);
  const install = copy.run("install.mjs");
  t.equal(install.status, 0, "the install passes");
  t.match(install.stderr, /C\+\+ backend was not built: .*CMake.*TypeScript.*npm run build:native/s);
  t.equal(install.stderr.trim().split("\n").length, 1, "it says so in one line");
  t.match(copy.status().cpu, { built: false, reason: /CMake was not found on the PATH/ });
  t.match(copy.status().cuda, { built: false, reason: /FLUXION_CUDA is 0/ });

  t.equal(copy.run("build-native.mjs", ["--strict"]).status, 1, "the strict build fails");
});

test("with CMake but no C++ compiler", async (t) => {
  const copy = packageCopy(t, { cmake: "#!/bin/sh\nexit 1\n" });
  t.equal(copy.run("install.mjs").status, 0);
  t.match(copy.status().cpu, { built: false, reason: /no C\+\+ compiler/ });
});

test("the CUDA addon", async (t) => {
  const shell = "#!/bin/sh\nexit 1\n";
  const without = packageCopy(t, { make: shell, "g++": shell });
  without.run("build-native.mjs", [], { FLUXION_CUDA: "" });
  t.match(without.status().cuda, { built: false, reason: /node-gyp needs Python 3/ });

  const failing = packageCopy(t, { python3: shell, make: shell, "g++": shell });
  const strict = failing.run("build-native.mjs", ["--strict"], { FLUXION_CUDA: "" });
  t.match(failing.status().cuda, { built: false, reason: /building the CUDA addon failed/ });
  t.equal(strict.status, 1);
});

test("with a compiler that fails", async (t) => {
  const failing = "#!/bin/sh\necho 'error: this disk is full' >&2\nexit 1\n";
  const copy = packageCopy(t, { cmake: failing, "g++": failing, make: failing });
  const stale = join(copy.folder, "build", "cpu", "Release", "fluxion_cpu.node");
  mkdirSync(dirname(stale), { recursive: true });
  writeFileSync(stale, "an older build");
  t.equal(copy.run("install.mjs").status, 0);
  t.match(copy.status().cpu, { built: false, reason: /building the CPU addon failed .*this disk is full/ });
  t.notOk(existsSync(stale), "an older addon does not answer for newer sources");
});

test("asked to build nothing", async (t) => {
  const copy = packageCopy(t);
  const install = copy.run("install.mjs", [], { FLUXION_SKIP_NATIVE: "1" });
  t.equal(install.status, 0);
  t.equal(copy.status().cpu.reason, "FLUXION_SKIP_NATIVE is set");
});

test("the command build-native", async (t) => {
  const copy = packageCopy(t);
  t.equal(copy.run("cli.mjs", ["build-native"]).status, 1, "fails where nothing can be built");
  t.match(copy.run("cli.mjs", ["build-natvie"]), {
    status: 2,
    stderr: /usage: fluxion build-native\nunknown command: build-natvie/,
  });
});
