// Lists the folders of the packages that tests, benches and the build of the addons need: bench/gpu-pack.sh carries
// them. What the tests load is read from the coverage of one; what the build needs, from dependencies.
//
// usage: node scripts/gpu-packages.mjs       (after the compilation of the tests)
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { root } from "./compile.mjs";

const buildTools = ["cmake-js", "node-gyp", "node-addon-api", "node-api-headers", "cli-progress"];

/** The folders of the packages whose scripts one test loads. */
function loadedPackages() {
  const folder = mkdtempSync(join(tmpdir(), "fluxion-coverage-"));
  try {
    const test = join(root, "build-ts", "test", "differential.test.js");
    const env = { ...process.env, NODE_V8_COVERAGE: folder };
    const { status } = spawnSync(process.execPath, [test], { cwd: root, env, stdio: "ignore" });
    if (status !== 0) throw new Error(`${test} failed: its packages cannot be listed`);
    const scripts = readdirSync(folder).flatMap((name) =>
      JSON.parse(readFileSync(join(folder, name), "utf8")).result.map(({ url }) => url),
    );
    return scripts.flatMap((url) => {
      const file = url.startsWith("file:") ? relative(root, fileURLToPath(url)) : "";
      return /^node_modules\/(?:.*\/node_modules\/)?(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? [];
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The package of this name as one in `folder` sees it. */
function locate(name, folder) {
  const here = join(folder, "node_modules", name);
  if (existsSync(join(here, "package.json"))) return here;
  if (folder === root) return undefined;
  return locate(name, dirname(folder));
}

function addWithDependencies(name, folder, found) {
  const own = locate(name, folder);
  if (own === undefined || found.has(relative(root, own))) return;
  found.add(relative(root, own));
  const { dependencies = {} } = JSON.parse(readFileSync(join(own, "package.json"), "utf8"));
  for (const dependency of Object.keys(dependencies)) addWithDependencies(dependency, own, found);
}

const found = new Set();
for (const name of buildTools) addWithDependencies(name, root, found);
for (const folder of loadedPackages()) found.add(folder);
console.log([...found].sort().join("\n"));
