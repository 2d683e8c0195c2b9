// The TypeScript compiler, by its own path: other packages can take the name `tsc` in node_modules/.bin.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";

export const root = join(import.meta.dirname, "..");
const compiler = join(root, "node_modules", "typescript", "bin", "tsc");

export const hasCompiler = () => existsSync(compiler);

/** Compiles one project (a tsconfig file) and says whether it passed. */
export function compile(project, ...options) {
  const args = [compiler, "-p", join(root, project), ...options];
  return spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" }).status === 0;
}
