// Compiles, then runs one program of examples/ or bench/.
//
// usage: node scripts/compiled.mjs examples/checkerboard [its arguments]
import { spawn } from "node:child_process";
import { join } from "node:path";
import { compile, root } from "./compile.mjs";

const [program, ...args] = process.argv.slice(2);
if (!compile("tsconfig.json") || !compile("tsconfig.test.json")) process.exit(1);
const file = join(root, "build-ts", `${program}.js`);
const child = spawn(process.execPath, ["--enable-source-maps", file, ...args], {
  cwd: root,
  stdio: "inherit",
});
// A signal is the program's to answer: to end before it would leave it running.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("exit", (status, signal) => {
  if (signal === null) process.exit(status);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
});
