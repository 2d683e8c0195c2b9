// Executes notebooks from a clean kernel, each in place: outputs are part of the files. Needs Jupyter's nbconvert (Debian:
// jupyter-nbconvert jupyter-client python3-nbclient).
//
// usage: node scripts/notebooks.mjs [--check] [notebooks/one.ipynb ...]   (default: all; --check leaves the files alone)
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { root } from "./compile.mjs";

const folder = join(root, "notebooks");
const tslab = join(folder, "node_modules", "tslab", "bin", "tslab");

function run(command, args, env = {}) {
  const { status, error } = spawnSync(command, args, {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: "inherit",
  });
  if (error) console.error(`${command} could not start: ${error.message}`);
  return status === 0;
}

const check = process.argv.includes("--check");
const named = process.argv.slice(2).filter((arg) => !arg.startsWith("--"));
const notebooks =
  named.length > 0
    ? named.map((path) => resolve(path))
    : readdirSync(folder)
        .filter((name) => name.endsWith(".ipynb"))
        .sort()
        .map((name) => join(folder, name));

if (!existsSync(tslab) && !run("npm", ["ci", "--ignore-scripts"])) process.exit(1);
const jupyter = mkdtempSync(join(tmpdir(), "fluxion-jupyter-"));
const kernel = join(jupyter, "kernels", "tslab");
mkdirSync(kernel, { recursive: true });
writeFileSync(
  join(kernel, "kernel.json"),
  JSON.stringify({
    argv: [process.execPath, tslab, "kernel", "--config-path", "{connection_file}"],
    display_name: "TypeScript",
    language: "typescript",
  }),
);
const failed = notebooks.filter((path) => {
  const begun = performance.now();
  const to = check ? ["--output-dir", join(jupyter, "out")] : ["--inplace"];
  const options = ["--to", "notebook", "--execute", "--ExecutePreprocessor.timeout=300", "--log-level=WARN"];
  const passed = run("jupyter", ["nbconvert", ...options, ...to, path], { JUPYTER_PATH: jupyter });
  console.log(
    `${basename(path)}: ${passed ? "ran" : "FAILED"} in ${((performance.now() - begun) / 1000).toFixed(1)} s`,
  );
  return !passed;
});
rmSync(jupyter, { recursive: true, force: true });
console.log(`${notebooks.length - failed.length} passed, ${failed.length} failed`);
process.exitCode = failed.length > 0 ? 1 : 0;
