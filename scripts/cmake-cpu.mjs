// Builds native/cpu with cmake-js into build/cpu. Run by build-native.mjs as a process of its own.
import { rmSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { join } from "node:path";

const { BuildSystem } = createRequire(import.meta.url)("cmake-js");
const root = join(import.meta.dirname, "..");
const out = join(root, "build", "cpu");

const options = {
  directory: join(root, "native", "cpu"),
  out,
  config: "Release",
  parallel: availableParallelism(),
};
const system = new BuildSystem(options);
// cmake-js looks for `binary.napi_versions` in a package.json beside CMakeLists.txt; ours stands at the top.
// With it, the headers come from the node-api-headers package; without it they would be downloaded.
system.options.isNodeApi = true;

try {
  await system.configure();
} catch {
  rmSync(out, { recursive: true, force: true }); // a cache of another folder, generator or compiler
  await system.configure();
}
await system.build();
