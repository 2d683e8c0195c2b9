import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { outputOf } from "../children.js";
import type { Side } from "../measure.js";
import { summarize } from "../statistics.js";
import { PeerProcess, peerScript, type Work } from "./process.js";

/** A peer that runs in Node, with the ways to start it; each is tried. */
export interface WebPeer {
  readonly name: string;
  readonly version: string;
  readonly ways: readonly { readonly label: string; readonly process: PeerProcess }[];
}

const howToInstall = "npm install --no-save @jax-js/jax @tensorflow/tfjs @tensorflow/tfjs-backend-wasm";

/** jax-js on WebAssembly, without and with V8's relaxed SIMD, where this Node knows that flag. */
export async function findJax(folder: string): Promise<WebPeer | { readonly missing: string }> {
  const version = versionOf(folder, "@jax-js/jax");
  if (version === undefined)
    return { missing: `jax-js: not in ${join(folder, "node_modules")} (${howToInstall})` };
  const relaxed = "--experimental-wasm-relaxed-simd";
  const knowsRelaxed = await outputOf(process.execPath, [relaxed, "-e", "0"]).then(
    () => true,
    () => false,
  );
  const way = (label: string, flags: readonly string[]) => ({
    label,
    process: new PeerProcess(process.execPath, [...flags, peerScript("jax_peer.mjs"), resolve(folder)]),
  });
  const ways = [way("wasm", []), ...(knowsRelaxed ? [way("wasm, relaxed SIMD", [relaxed])] : [])];
  return {
    name: "jax-js",
    version: `jax-js ${version} (${ways.map(({ label }) => label).join("; ")})`,
    ways,
  };
}

/** tfjs on its WebAssembly backend, which has SIMD, but in Node no threads. */
export function findTfjs(folder: string): WebPeer | { readonly missing: string } {
  const [version, backend] = ["@tensorflow/tfjs", "@tensorflow/tfjs-backend-wasm"].map((name) =>
    versionOf(folder, name),
  );
  if (version === undefined || backend === undefined)
    return { missing: `tfjs and its wasm backend: not in ${join(folder, "node_modules")} (${howToInstall})` };
  const process_ = new PeerProcess(process.execPath, [peerScript("tfjs_peer.mjs"), resolve(folder)]);
  return { name: "tfjs", version: `tfjs ${version} (wasm)`, ways: [{ label: "wasm", process: process_ }] };
}

/** The peer at this work, in each of its ways. */
export function webSides(peer: WebPeer, work: Work, repeats: number): Side[] {
  return peer.ways.map(({ label, process }) => ({
    label,
    peer: true,
    turn: async () => summarize(await process.measure(work, repeats)).median,
  }));
}

/** The version of a package in the folder's own node_modules or above it; undefined where it is not installed. */
function versionOf(folder: string, name: string): string | undefined {
  try {
    // The package's own description may not be exported: look upwards from its main file.
    let place = createRequire(resolve(folder, "package.json")).resolve(name);
    while (place !== dirname(place)) {
      place = dirname(place);
      try {
        const about = JSON.parse(readFileSync(join(place, "package.json"), "utf8"));
        if (about.name === name) return about.version;
      } catch {
        // not the package's top folder yet
      }
    }
  } catch {
    // not installed
  }
  return undefined;
}
