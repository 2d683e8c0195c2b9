// npm runs this in a clone after `npm ci`, and before packing: it leaves dist/ built.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { compile, hasCompiler, root } from "./compile.mjs";

if (hasCompiler()) {
  rmSync(join(root, "dist"), { recursive: true, force: true });
  if (!compile("tsconfig.json")) process.exitCode = 1;
} else {
  console.error("fluxion: dist/ was not built: TypeScript, a development dependency, is not installed");
}
