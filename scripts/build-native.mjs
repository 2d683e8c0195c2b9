// Builds the addons: cpu (cmake-js) and, on Linux, cuda (node-gyp), which needs no CUDA toolkit. FLUXION_CUDA=0 leaves
// the CUDA addon out.
//
// usage: node scripts/build-native.mjs [--strict]
//
// What was built, and why not, is written to build/native-status.json, which the library reads when it loads:
//   { "cpu": { "built": false, "reason": "CMake was not found on the PATH" }, "cuda": { ... } }
// With --strict the exit status is 1 when one of them was not built. Only a CUDA addon that was left out, or for which
// Python 3 is missing (node-gyp is written in it), does not count.
import { spawn } from "node:child_process";
import {
  accessSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";
import { argv, env, execPath, platform } from "node:process";

const root = join(import.meta.dirname, "..");
const build = join(root, "build");
const require = createRequire(import.meta.url);
const addons = {
  cpu: join(build, "cpu", "Release", "fluxion_cpu.node"),
  cuda: join(build, "cuda", "Release", "fluxion_cuda.node"),
};

class NotBuilt extends Error {}
/** Not built for a reason that the strict build lets pass. */
class LeftOut extends NotBuilt {}

function onPath(...names) {
  const suffixes = platform === "win32" ? [".exe", ".cmd", ".bat"] : [""];
  for (const name of names) {
    for (const folder of (env.PATH ?? "").split(delimiter).filter(Boolean)) {
      for (const suffix of suffixes) {
        const file = join(folder, name + suffix);
        try {
          accessSync(file, constants.X_OK);
          return file;
        } catch {}
      }
    }
  }
  return undefined;
}

/** Runs a command, shows what it prints, and throws with its first error line when it fails. */
function run(title, command, args, extraEnv = {}) {
  return new Promise((done, fail) => {
    const child = spawn(command, args, {
      cwd: root,
      env: { ...env, ...extraEnv },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let text = "";
    const keep = (stream) => (chunk) => {
      stream.write(chunk);
      text += chunk;
    };
    child.stdout.on("data", keep(process.stdout));
    child.stderr.on("data", keep(process.stderr));
    child.on("error", (error) => fail(new NotBuilt(`${title} could not start: ${error.message}`)));
    child.on("close", (code, signal) => {
      if (code === 0) return done();
      const lines = text.split("\n").map((line) => line.trim().replace(/^ERROR OMG /, "error: "));
      const first =
        lines.find((line) => /(^|[^\w-])(fatal )?error\b/i.test(line)) ?? lines.filter(Boolean).at(-1);
      fail(new NotBuilt(`${title} failed (${signal ?? `exit status ${code}`})${first ? `: ${first}` : ""}`));
    });
  });
}

async function checkLoads(file) {
  if (!existsSync(file)) throw new NotBuilt("the build passed but left no addon");
  await run("loading the new addon", execPath, ["-e", `require(${JSON.stringify(file)})`]);
}

async function buildCpu() {
  if (!existsSync(join(root, "native", "cpu", "CMakeLists.txt"))) {
    throw new NotBuilt("native/cpu/CMakeLists.txt is missing");
  }
  if (!onPath("cmake")) throw new NotBuilt("CMake was not found on the PATH");
  if (platform !== "win32") {
    if (!onPath("g++", "clang++"))
      throw new NotBuilt("no C++ compiler was found on the PATH (g++ or clang++)");
    if (!onPath("ninja", "make")) throw new NotBuilt("neither ninja nor make was found on the PATH");
  }
  await run("building the CPU addon", execPath, [join(root, "scripts", "cmake-cpu.mjs")]);
  await checkLoads(addons.cpu);
}

/** A folder that node-gyp takes for Node's headers: node-api-headers, so that nothing is downloaded. */
function nodeHeaders() {
  const folder = join(build, "node-headers");
  const include = join(folder, "include", "node");
  mkdirSync(include, { recursive: true });
  const from = require("node-api-headers").include_dir;
  for (const name of readdirSync(from)) copyFileSync(join(from, name), join(include, name));
  const configurations = { configurations: { Debug: {}, Release: {} }, default_configuration: "Release" };
  writeFileSync(join(include, "common.gypi"), JSON.stringify({ target_defaults: configurations }));
  writeFileSync(join(include, "config.gypi"), JSON.stringify({ target_defaults: {}, variables: {} }));
  writeFileSync(join(include, "node_version.h"), "");
  return folder;
}

function nodeGyp() {
  try {
    return require.resolve("node-gyp/bin/node-gyp.js");
  } catch {
    return env.npm_config_node_gyp; // npm's own, when a package that depends on this one is installed
  }
}

async function buildCuda() {
  if (env.FLUXION_CUDA === "0") throw new LeftOut("FLUXION_CUDA is 0");
  if (platform !== "linux") throw new LeftOut("the cuda backend runs on Linux so far");
  const gyp = nodeGyp();
  if (!gyp) throw new NotBuilt("node-gyp was not found");
  if (!onPath("python3", "python"))
    throw new LeftOut("node-gyp needs Python 3, which was not found on the PATH");
  if (!onPath("make")) throw new NotBuilt("make was not found on the PATH");
  if (!onPath("g++", "clang++")) throw new NotBuilt("no C++ compiler was found on the PATH (g++ or clang++)");
  // configure and build: `rebuild` would delete all of build/.
  const args = [gyp, "configure", "build", "--release", "--jobs=max", `--nodedir=${nodeHeaders()}`];
  // node-gyp prefers npm's settings in the environment to its own options: a user's `nodedir` must not win.
  const others = Object.keys(env).filter((name) =>
    /^npm_(package_)?config_(node_gyp_)?(nodedir|dist_?url|target)$/i.test(name),
  );
  await run(
    "building the CUDA addon",
    execPath,
    args,
    Object.fromEntries(others.map((name) => [name, undefined])),
  );
  await checkLoads(addons.cuda);
}

async function attempt(addon, work) {
  try {
    await work();
    return { built: true, reason: null };
  } catch (error) {
    if (error instanceof LeftOut) leftOut.add(addon);
    rmSync(addon, { force: true }); // an older addon must not answer for newer sources
    return {
      built: false,
      reason: error instanceof NotBuilt ? error.message : String(error?.stack ?? error),
    };
  }
}

const strict = argv.includes("--strict");
const leftOut = new Set();
const skip = env.FLUXION_SKIP_NATIVE === "1";
const skipped = { built: false, reason: "FLUXION_SKIP_NATIVE is set" };
const status = {
  cpu: skip ? skipped : await attempt(addons.cpu, buildCpu),
  cuda: skip ? skipped : await attempt(addons.cuda, buildCuda),
};
mkdirSync(build, { recursive: true });
writeFileSync(join(build, "native-status.json"), `${JSON.stringify(status, null, 2)}\n`);

for (const [name, { built, reason }] of Object.entries(status)) {
  console.log(`${name} addon: ${built ? "built" : `not built: ${reason}`}`);
}
if (strict) {
  const failed = Object.keys(status).filter((name) => !status[name].built && !leftOut.has(addons[name]));
  if (failed.length > 0) process.exitCode = 1;
  else if (leftOut.size > 0) console.log("the strict build passes without the cuda addon, for this reason");
}
