// npm test: compiles lib, test, examples and bench, then runs tap over the compiled tests.
//
// usage: npm test -- [test/some.test.ts ...] [tap's options]
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { compile, root } from "./compile.mjs";

const require = createRequire(import.meta.url);
const tap = join(root, "node_modules", "tap", "dist", "esm", "run.mjs");
const runTap = (...args) =>
  spawnSync(process.execPath, [tap, ...args], { cwd: root, stdio: "inherit" }).status ?? 1;

/** A fresh install carries tap's Test class with all default plugins; ours (.taprc) has fewer, and is built once. */
function pluginsBuilt() {
  const built = join(require.resolve("@tapjs/test/package.json"), "..", "test-built", "src", "index.ts");
  return !/@tapjs\/(mock|typescript)"/.test(readFileSync(built, "utf8"));
}

rmSync(join(root, "build-ts"), { recursive: true, force: true });
if (!compile("tsconfig.json") || !compile("tsconfig.test.json")) process.exit(1);
if (!pluginsBuilt() && runTap("build") !== 0) process.exit(1);

const args = process.argv.slice(2).map((arg) => arg.replace(/^(?:\.\/)?(test\/.*)\.ts$/, "build-ts/$1.js"));
process.exitCode = runTap("run", ...args);
