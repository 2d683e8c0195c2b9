import { existsSync } from "node:fs";
import * as fx from "fluxion";
import { UsageError } from "../support/flags.js";
import type { Options } from "./options.js";
import { evaluationCounts, type Measured, network, optimization } from "./training.js";

/** One training with its measurements; a training that diverged has the reason in their place. */
export type Run = {
  readonly data: string;
  readonly method: string;
  readonly seed: number;
} & (Measured | { readonly diverged: string });

/** What all runs of a comparison have in common. */
export function settingsOf({ steps, batchSize, samples }: Options) {
  return {
    steps,
    batchSize,
    samples,
    network,
    optimization: optimization(steps),
    evaluations: evaluationCounts,
    backend: fx.backend(),
  };
}

export type Settings = ReturnType<typeof settingsOf>;

/**
 * The runs that an earlier comparison with these settings has kept; none when there is no such file.
 *
 * @throws UsageError when the file is of other settings, or no comparison at all: it is not to be overwritten
 */
export async function keptRuns(file: string, settings: Settings): Promise<readonly Run[]> {
  if (!existsSync(file)) return [];
  const otherwise = "choose another --out, or remove the file";
  let kept: { settings?: Record<string, unknown>; runs?: Run[] } | null;
  try {
    kept = JSON.parse(new TextDecoder().decode(await fx.io.readFileBytes(file)));
  } catch (error) {
    throw new UsageError(`${file} cannot be read (${(error as Error).message}); ${otherwise}`);
  }
  if (typeof kept?.settings !== "object" || !Array.isArray(kept.runs))
    throw new UsageError(`${file} holds no comparison; ${otherwise}`);
  const found = kept.settings;
  const text = (value: unknown) => JSON.stringify(value) ?? "nothing";
  const different = Object.entries(settings)
    .filter(([name, value]) => text(found[name]) !== text(value))
    .map(([name, value]) => `${name} ${text(found[name])}, now ${text(value)}`);
  if (different.length > 0)
    throw new UsageError(`${file} holds runs with other settings (${different.join("; ")}); ${otherwise}`);
  return kept.runs;
}
