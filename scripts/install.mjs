// npm runs this at install. It tries to build the addons and never fails: without them the library runs in
// TypeScript. What the build printed stands in build/native-build.log, and why it failed in build/native-status.json.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, sep } from "node:path";

const root = join(import.meta.dirname, "..");
const build = join(root, "build");

function tryBuild() {
  const script = join(root, "scripts", "build-native.mjs");
  const result = spawnSync(process.execPath, [script], { cwd: root, encoding: "utf8", maxBuffer: 1 << 28 });
  mkdirSync(build, { recursive: true });
  writeFileSync(join(build, "native-build.log"), `${result.stdout ?? ""}${result.stderr ?? ""}`);
  if (result.error) throw result.error;
  if (result.status !== 0)
    throw new Error(`scripts/build-native.mjs stopped: ${result.stderr.trim().split("\n").at(-1)}`);
  return JSON.parse(readFileSync(join(build, "native-status.json"), "utf8")).cpu;
}

function record(reason) {
  try {
    mkdirSync(build, { recursive: true });
    const status = { cpu: { built: false, reason }, cuda: { built: false, reason } };
    writeFileSync(join(build, "native-status.json"), `${JSON.stringify(status, null, 2)}\n`);
  } catch {
    // a folder that cannot be written: the line below says the reason
  }
}

let cpu;
try {
  cpu = tryBuild();
} catch (error) {
  cpu = { built: false, reason: error instanceof Error ? error.message : String(error) };
  record(cpu.reason);
}
if (!cpu.built) {
  const again = root.includes(`${sep}node_modules${sep}`)
    ? "npx fluxion build-native"
    : "npm run build:native";
  console.error(
    `fluxion: the C++ backend was not built: ${cpu.reason}. The library will run in TypeScript, which is slower. ` +
      `With CMake and a C++ compiler installed, run: ${again}`,
  );
}
