import { parseArgs } from "node:util";
import type { BackendName } from "fluxion";
import { FlagError } from "../flags.js";
import { type GpuSection, gpuSections, type Precision, precisions } from "./cases.js";

export const gpuHelp = `Measures the cuda backend beside PyTorch and JAX on the same card. bench/gpu.sh runs it.

usage: node build-ts/bench/gpu.js [flags]

  --only LIST        some of tutorial, steps, dit, gemm (default: all)
  --precision LIST   some of float32, tf32, bfloat16 (default: all; with --quick float32 and tf32)
  --quick            fewer sizes, rounds and ways of compiling
  --seconds N        begins no case after so many seconds (default 480)
  --out FOLDER       where gpu.jsonl, gpu.json and gpu.md go (default build/gpu/out)
  --merge            measures nothing: makes the table of the gpu.jsonl that is there
  --backend NAME     cuda (default); cpu or typescript, to try the bench itself
  --python COMMAND   the Python of the peers (default python3)
  --help             this text`;

export interface GpuFlags {
  readonly only: readonly GpuSection[];
  readonly precision: readonly Precision[];
  readonly quick: boolean;
  readonly seconds: number;
  readonly out: string;
  readonly merge: boolean;
  readonly backend: BackendName;
  readonly python: string;
}

/**
 * Reads the command line. "help" stands for a wish for the help.
 *
 * @throws FlagError
 */
export function readGpuFlags(args: readonly string[]): GpuFlags | "help" {
  const values = parsed(args);
  if (values.help) return "help";
  const quick = values.quick ?? false;
  const seconds = Number(values.seconds ?? 480);
  if (!(seconds > 0)) throw new FlagError(`--seconds: needs a number above 0, got ${values.seconds}`);
  return {
    only: chosen("only", values.only, gpuSections, gpuSections),
    precision: chosen("precision", values.precision, precisions, quick ? ["float32", "tf32"] : precisions),
    quick,
    seconds,
    out: values.out ?? "build/gpu/out",
    merge: values.merge ?? false,
    backend: chosen("backend", values.backend, ["cuda", "cpu", "typescript"] as const, ["cuda"] as const)[0]!,
    python: values.python ?? "python3",
  };
}

function parsed(args: readonly string[]) {
  try {
    const text = { type: "string" } as const;
    const yes = { type: "boolean" } as const;
    const options = {
      ...{ only: text, precision: text, quick: yes, seconds: text, out: text },
      ...{ merge: yes, backend: text, python: text, help: { type: "boolean", short: "h" } as const },
    };
    return parseArgs({ args: [...args], options }).values;
  } catch (error) {
    throw new FlagError((error as Error).message);
  }
}

/** Those of `names` that the list asks for, in their order. */
function chosen<Name extends string>(
  flag: string,
  list: string | undefined,
  names: readonly Name[],
  usual: readonly Name[],
): readonly Name[] {
  if (list === undefined) return usual;
  const asked = list.split(",").map((name) => name.trim());
  for (const name of asked)
    if (!(names as readonly string[]).includes(name))
      throw new FlagError(`--${flag}: there is no ${JSON.stringify(name)}; use ${names.join(", ")}`);
  return names.filter((name) => asked.includes(name));
}
