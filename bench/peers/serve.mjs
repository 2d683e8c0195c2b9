// The conversation of a JavaScript peer with the bench: see process.ts.
import { createRequire } from "node:module";
import { join } from "node:path";
import { argv } from "node:process";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

process.on("SIGINT", () => {}); // the bench ends this process

/** Takes a package from the folder in whose node_modules the peers are: the first argument. */
export const load = (name) =>
  import(pathToFileURL(createRequire(join(argv[2], "package.json")).resolve(name)).href);

/** The shapes of an MLP's weights on points of the plane, from input to output. */
export function shapesOf({ objective, hidden, layers }) {
  const sizes = [objective === "fm" ? 3 : 4, ...Array(layers).fill(hidden), 2];
  return sizes.slice(1).map((out, i) => [sizes[i], out]);
}

/** Uniform in [-1 / sqrt(in), 1 / sqrt(in)), as in PyTorch. */
export function initial([inputs, outputs], size = inputs * outputs) {
  const bound = 1 / Math.sqrt(inputs);
  return Float32Array.from({ length: size }, () => bound * (2 * Math.random() - 1));
}

/**
 * Answers requests: `make(request)` gives the work, an async function, which is kept, so that training goes on from
 * request to request. Its first run is not measured.
 */
export async function serve(make) {
  const made = new Map();
  const answer = async ({ repeats, ...request }) => {
    const name = JSON.stringify(request);
    if (!made.has(name)) {
      made.set(name, make(request));
      await made.get(name)();
    }
    const seconds = [];
    for (let i = 0; i < repeats; i++) {
      const start = performance.now();
      await made.get(name)();
      seconds.push((performance.now() - start) / 1000);
    }
    return { seconds };
  };
  const say = (reply) => process.stdout.write(`${JSON.stringify(reply)}\n`);
  say({ ready: true });
  for await (const line of createInterface({ input: process.stdin }))
    say(await answer(JSON.parse(line)).catch((error) => ({ error: String(error?.message ?? error) })));
  process.exit();
}
