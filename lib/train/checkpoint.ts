import { FileError } from "../errors.js";
import { decodeSafetensors, encodeSafetensors } from "../io/safetensors.js";
import { show } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import type { Tree } from "../tensor/tree.js";
import { fillTree, namedLeaves } from "./named.js";

/** What changes from step to step: the compiled step maps it to its next value. */
export interface TrainingState<Params> {
  readonly params: Params;
  readonly optimizer: Tree;
  /** The moving average of the parameters, when the trainer keeps one. */
  readonly ema?: Params;
  /** The random key of the next step. */
  readonly key: Tensor;
  /** Steps done so far, an int32 scalar: what schedules of objectives read. */
  readonly step: Tensor;
}

/** A training at rest: all that its continuation depends on, beside the trainer's own options. */
export interface Snapshot<Params> {
  readonly state: TrainingState<Params>;
  readonly step: number;
  readonly seed: number;
  /** The raw loss of each step so far. */
  readonly losses: Float32Array;
}

/** What the training is of: a checkpoint fits only a trainer with the same description. */
export interface Description {
  /** Kind and size of the model, as text. */
  readonly model: string;
  /** The objective and its orientation, as text. */
  readonly objective: string;
}

const format = "fluxion-trainer";
const version = "2";
const lossesName = "losses";

/** The bytes of a checkpoint: a safetensors file whose metadata say what it is of. */
export function encodeCheckpoint<Params>(snapshot: Snapshot<Params>, description: Description): Uint8Array {
  const { state, step, seed, losses } = snapshot;
  const tensors = Object.fromEntries(
    Object.entries(state).flatMap(([part, value]) => [...namedLeaves(part, value)]),
  );
  tensors[lossesName] = Tensor.fromData(losses, [losses.length], "float32");
  return encodeSafetensors(tensors, {
    format,
    version,
    step: String(step),
    seed: String(seed),
    model: description.model,
    objective: description.objective,
    parameters: JSON.stringify(shapes(state.params)),
  });
}

/**
 * The training in the bytes of a checkpoint.
 *
 * @param like a state of the trainer that asks: the file's must have the same tensors
 * @throws FileError when the file is damaged, or is of something else, naming what differs
 */
export function decodeCheckpoint<Params>(
  where: string,
  bytes: Uint8Array,
  like: TrainingState<Params>,
  description: Description,
): Snapshot<Params> {
  const { tensors, metadata } = decodeSafetensors(bytes, where);
  if (metadata["format"] !== format)
    throw new FileError(`${where}: not a checkpoint of a Trainer: its metadata lack format "${format}"`);
  if (metadata["version"] !== version)
    throw new FileError(
      `${where}: the checkpoint's version is ${metadata["version"]}; this library reads ${version}`,
    );
  for (const part of ["model", "objective"] as const)
    if (metadata[part] !== description[part])
      throw new FileError(
        `${where}: the checkpoint's ${part} is ${metadata[part]}; the trainer's is ${description[part]}`,
      );
  const step = count(where, "step", metadata["step"]);
  const seed = count(where, "seed", metadata["seed"]);
  const { [lossesName]: losses, ...parts } = tensors;
  if (losses?.dtype !== "float32" || losses.rank !== 1 || losses.size !== step)
    throw new FileError(
      `${where}: ${step} steps need their losses as float32[${step}]; ` +
        `the checkpoint has ${losses === undefined ? "none" : `${losses.dtype}${show(losses.shape)}`}`,
    );
  for (const name of Object.keys(parts))
    if (!Object.hasOwn(like, name.split("/")[0]!))
      throw new FileError(`${where}: ${name} is in the file, but the trainer has no such tensor`);
  const state = Object.fromEntries(
    Object.entries(like).map(([part, value]) => [part, fillTree(where, value, part, parts)]),
  ) as unknown as TrainingState<Params>;
  return { state, step, seed, losses: losses.toTypedArray() as Float32Array };
}

function shapes(params: Tree): Record<string, string> {
  return Object.fromEntries(
    [...namedLeaves("params", params)].map(([path, tensor]) => [
      path,
      `${tensor.dtype}${show(tensor.shape)}`,
    ]),
  );
}

function count(where: string, name: string, text: string | undefined): number {
  const value = Number(text);
  if (text === undefined || !/^\d{1,16}$/.test(text) || !Number.isSafeInteger(value))
    throw new FileError(`${where}: the checkpoint's ${name} is not a whole number: ${JSON.stringify(text)}`);
  return value;
}
