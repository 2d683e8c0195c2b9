import { ValueError } from "../errors.js";
import { checkCount, checkOptions, describe } from "../options.js";
import type { ProgressOptions } from "./progress.js";

/** What is known after some steps of a fit. */
export interface FitEvent {
  /** Steps since the training began. */
  readonly step: number;
  /** Mean raw loss of the steps since the last event. */
  readonly loss: number;
  /** Over this fit so far; checkpoints and log are not counted. */
  readonly stepsPerSecond: number;
}

export interface FitOptions {
  /** How many further steps to do. */
  readonly steps: number;
  /** A bar on a terminal, a line every few seconds elsewhere (true, the default), or nothing (false). */
  readonly progress?: boolean | ProgressOptions;
  /** Called between steps, where the trainer may be looked at, saved and sampled; when async, it is waited for. */
  readonly log?: (event: FitEvent) => unknown;
  /** Calls `log` after each step whose number this divides. Default: about ten times a second. */
  readonly logEvery?: number;
  /** Ends the fit within about a tenth of a second. */
  readonly signal?: AbortSignal;
  /** Saves to `directory`/step-00001000.safetensors and so on, after each step whose number `every` divides. */
  readonly checkpoint?: { readonly directory: string; readonly every: number };
}

export interface FitResult {
  /** Steps since the training began. */
  readonly step: number;
  /** Mean raw loss of the last 200 steps, or of all if they are fewer; NaN when there are none. */
  readonly loss: number;
  /** Time spent on steps; compiling, checkpoints and log are not counted. */
  readonly seconds: number;
  readonly stepsPerSecond: number;
}

/** Throws ValueError naming an option that cannot be. */
export function checkFitOptions(where: string, options: FitOptions): void {
  checkOptions(where, options, ["steps", "progress", "log", "logEvery", "signal", "checkpoint"]);
  const { progress, log, signal, checkpoint } = options;
  checkCount(where, "steps", options.steps, 0);
  if (progress !== undefined && typeof progress !== "boolean") {
    checkOptions(`${where}: progress`, progress, ["label", "stream", "interval"]);
    if (progress.stream !== undefined && typeof progress.stream.write !== "function")
      throw new ValueError(`${where}: progress.stream must have a method write`);
  }
  if (log !== undefined && typeof log !== "function")
    throw new ValueError(`${where}: log must be a function, got ${describe(log)}`);
  if (options.logEvery !== undefined) checkCount(where, "logEvery", options.logEvery);
  if (signal !== undefined && typeof signal?.throwIfAborted !== "function")
    throw new ValueError(`${where}: signal must be an AbortSignal, got ${describe(signal)}`);
  if (checkpoint === undefined) return;
  checkOptions(`${where}: checkpoint`, checkpoint, ["directory", "every"]);
  if (typeof checkpoint.directory !== "string" || checkpoint.directory === "")
    throw new ValueError(
      `${where}: checkpoint.directory must be a path, got ${describe(checkpoint.directory)}`,
    );
  checkCount(where, "checkpoint.every", checkpoint.every);
}
