import { existsSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";

/** What can be measured, in the order of the report. */
export const sections = ["peak", "gemm", "steps", "attention", "map", "scaling", "startup", "bits"] as const;
export type SectionName = (typeof sections)[number];

export const help = `Measures this library beside its peers and against the machine's own limits.

usage: npm run bench -- [flags]

  --only LIST   some sections, separated by commas, of:
                  peak       what the machine does at best: multiply-adds and memory
                  gemm       matrix products, beside OpenBLAS
                  steps      training steps of FM, MF and iMF, beside PyTorch, jax-js and tfjs
                  attention  its value and derivatives, beside the plain composition and PyTorch
                  map        elementwise work, beside the memory's speed
                  scaling    a step of FM over batch, width and threads
                  startup    import, first step and memory, in fresh processes
                  bits       the same bits on 1, 2, 3 and 8 threads
  --quick       fewer rounds and sizes: about 5 minutes in all instead of about 40
  --json FILE   writes all figures as data, too
  --svg FILE    draws them, too (needs the packages vega and vega-lite)
  --peers DIR   the folder in whose node_modules jax-js and tfjs are (default: this package's)
  --help        this text

How to read the report: bench/README.md`;

export interface Flags {
  readonly only: readonly SectionName[];
  readonly quick: boolean;
  readonly json?: string;
  readonly svg?: string;
  readonly peers?: string;
}

/** A flag that makes no sense; the message says what would. */
export class FlagError extends Error {}

/**
 * Reads the command line. "help" stands for a wish for the help.
 *
 * @throws FlagError
 */
export function readFlags(args: readonly string[]): Flags | "help" {
  const { help, only, quick = false, json, svg, peers } = parsed(args);
  if (help) return "help";
  if (svg !== undefined && !svg.endsWith(".svg"))
    throw new FlagError(`--svg writes an SVG figure; ${JSON.stringify(svg)} must end in .svg`);
  for (const [flag, file] of Object.entries({ json, svg })) {
    if (file === undefined) continue;
    const folder = dirname(resolve(file));
    if (!existsSync(folder)) throw new FlagError(`--${flag}: there is no folder ${folder}`);
  }
  if (peers !== undefined && !(existsSync(peers) && statSync(peers).isDirectory()))
    throw new FlagError(`--peers: there is no folder ${peers}`);
  return {
    only: only === undefined ? sections : chosen(only),
    quick,
    ...(json === undefined ? {} : { json }),
    ...(svg === undefined ? {} : { svg }),
    ...(peers === undefined ? {} : { peers }),
  };
}

function parsed(args: readonly string[]) {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        only: { type: "string" },
        quick: { type: "boolean" },
        json: { type: "string" },
        svg: { type: "string" },
        peers: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
    return values;
  } catch (error) {
    throw new FlagError((error as Error).message);
  }
}

function chosen(list: string): SectionName[] {
  const names = list.split(",").map((name) => name.trim());
  for (const name of names)
    if (!(sections as readonly string[]).includes(name))
      throw new FlagError(`--only: there is no section ${JSON.stringify(name)}; use ${sections.join(", ")}`);
  return sections.filter((name) => names.includes(name));
}
