// Compiles, then runs one program of examples/ or bench/.
//
// usage: node scripts/compiled.mjs examples/checkerboard [its arguments]
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { compile, root } from "./compile.mjs";

const [program, ...args] = process.argv.slice(2);
if (!compile("tsconfig.json") || !compile("tsconfig.test.json")) process.exit(1);
const file = join(root, "build-ts", `${program}.js`);
const result = spawnSync(process.execPath, ["--enable-source-maps", file, ...args], {
  cwd: root,
  stdio: "inherit",
});
if (result.signal) process.kill(process.pid, result.signal);
process.exitCode = result.status ?? 1;
