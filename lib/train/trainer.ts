import { valueAndGrad } from "../autodiff/index.js";
import { type BackendName, backendOf } from "../backend/index.js";
import { checkMatmulPrecision, type MatmulPrecision, withMatmulPrecision } from "../backend/precision.js";
import { type CompiledLoop, compileLoop, type LoopStep } from "../compile/loop.js";
import { type Distribution, isLabelled } from "../data/index.js";
import { NonFiniteError, ValueError } from "../errors.js";
import { checkCondition } from "../flow/checks.js";
import {
  type AverageVelocityObjective,
  type Objective,
  type Sampled,
  type Sampler,
  sample,
  type VelocityObjective,
} from "../flow/index.js";
import { readFileBytes, writeFileAtomic } from "../io/atomic.js";
import { type Condition, type Field, sampleShape } from "../models/field.js";
import { add, cast, tensor } from "../ops/index.js";
import { applyUpdates, type Ema, ema, type Optimizer } from "../optim/index.js";
import { checkChoice, checkCount, checkFlag, checkOptions, describe } from "../options.js";
import { foldIn, normal, key as randomKey, split } from "../random/index.js";
import { isFloat } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import * as tree from "../tensor/tree.js";
import { type Description, decodeCheckpoint, encodeCheckpoint, type TrainingState } from "./checkpoint.js";
import { checkFitOptions, type FitOptions, type FitResult } from "./fit-options.js";
import { largestMagnitude } from "./guard.js";
import { History } from "./history.js";
import { initialParams } from "./initial-params.js";
import { Pace } from "./pace.js";
import { type Progress, startProgress } from "./progress.js";

// biome-ignore lint/suspicious/noExplicitAny: a model's parameters are its own business.
export type AnyField = Field<any>;

/** The parameters of a model. */
export type ParamsOf<Model extends AnyField> = ReturnType<Model["init"]>;

/** The objectives that a model can learn by: those of its kind. */
export type ObjectiveFor<Model extends AnyField> = Model["kind"] extends "velocity"
  ? VelocityObjective
  : // biome-ignore lint/suspicious/noExplicitAny: what an objective draws for its loss is its own business.
    AverageVelocityObjective<any>;

export interface TrainerOptions<Model extends AnyField> {
  /** The network. */
  readonly model: Model;
  /** What it learns: flowMatching() for a velocity, meanFlow() or improvedMeanFlow() for an average velocity. */
  readonly objective: ObjectiveFor<Model>;
  /** Where batches come from; sampled inside of the compiled step. */
  readonly data: Distribution;
  /**
   * Whether the field learns with the labels of the data as its condition, int32 [batchSize]. Default: whether the data
   * are labelled; false has a field without labels learn from labelled data.
   */
  readonly conditional?: boolean;
  readonly optimizer: Optimizer;
  /** Samples in a batch. */
  readonly batchSize: number;
  /** Decides parameters, batches, noise and times. A whole number >= 0, default 0. */
  readonly seed?: number;
  /**
   * The parameters to begin with, of the structure, shapes and dtypes that the model draws, such as those of another
   * training. Default: drawn by the model.
   */
  readonly params?: ParamsOf<Model>;
  /** Keeps a moving average of the parameters: its decay, such as 0.999, or an optim.ema. Default: none. */
  readonly ema?: number | Ema;
  /** Where the steps run. Default: the backend in use when the first step is compiled. */
  readonly backend?: BackendName;
  /** How exact the float32 products of the steps are. Default: the precision in use when the first step is compiled. */
  readonly matmulPrecision?: MatmulPrecision;
}

export interface TrainerSampleOptions<Model extends AnyField> {
  /** How to go from noise to data, such as oneStep(), heun({ steps: 50 }) or dormandPrince(). */
  readonly sampler: Sampler<Model["kind"]>;
  /** Decides the noise. Default: a key made from the seed, the same at each call. */
  readonly key?: Tensor;
  /** Given to the field as it is, such as the labels of the wanted classes, int32 [count]; its first axis is `count`. */
  readonly condition?: Condition;
  /** Whose parameters: "ema" (the default when the trainer keeps an average) or "live". */
  readonly params?: "ema" | "live";
  /** Whether the states at all times are wanted too, as flow.sample gives them. Default false. */
  readonly trajectory?: boolean;
}

const optionNames = [
  "model",
  "objective",
  "data",
  "conditional",
  "optimizer",
  "batchSize",
  "seed",
  "params",
  "ema",
  "backend",
  "matmulPrecision",
];

/** Of the random stream that a seed starts: its parts for the parameters, the steps and the samples. */
const streams = { parameters: 0, steps: 1, samples: 2 } as const;

/**
 * Trains a flow model. One step - random keys, batch, noise and times, loss, gradients, optimizer, moving average -
 * is one compiled program; the state stays with the backend, and the event loop stays free.
 *
 *     const trainer = new Trainer({ model, objective: meanFlow(), data: checkerboard(), optimizer, batchSize: 4096 });
 *     await trainer.fit({ steps: 5000 });
 *     const samples = await trainer.sample(10_000, { sampler: oneStep() });
 *
 * With labelled data, such as glyphs(), the labels are the condition that the field learns with, and is asked with:
 * `trainer.sample(3, { sampler: oneStep(), condition: tensor([7, 7, 2], { dtype: "int32" }) })`.
 *
 * The same options on the same backend give the same bits, however a training is divided into fits, and saved and
 * restored in between. An objective takes only models of its kind: another one does not compile, and throws
 * ValueError.
 */
export class Trainer<Model extends AnyField> {
  readonly #model: Model;
  readonly #objective: Objective;
  readonly #data: Distribution;
  readonly #conditional: boolean;
  readonly #optimizer: Optimizer;
  readonly #batchSize: number;
  readonly #ema: Ema | undefined;
  readonly #backend: BackendName | undefined;
  readonly #matmulPrecision: MatmulPrecision | undefined;
  readonly #losses = new History();
  readonly #pace = new Pace();
  #seed: number;
  /** The state, when it is known here; the loop has it in any case once there is a loop. */
  #state: TrainingState<ParamsOf<Model>> | undefined;
  #loop: CompiledLoop<TrainingState<ParamsOf<Model>>> | undefined;
  #fitting = false;
  #stepping = false;
  #disposed = false;

  constructor(options: TrainerOptions<Model>) {
    checkTrainerOptions(options);
    this.#model = options.model;
    this.#objective = options.objective;
    this.#data = options.data;
    this.#conditional = options.conditional ?? isLabelled(options.data);
    this.#optimizer = options.optimizer;
    this.#batchSize = options.batchSize;
    this.#seed = options.seed ?? 0;
    this.#ema = typeof options.ema === "number" ? ema(options.ema) : options.ema;
    this.#backend = options.backend;
    if (this.#backend !== undefined) backendOf(this.#backend);
    this.#matmulPrecision = options.matmulPrecision;
    if (options.matmulPrecision !== undefined) checkMatmulPrecision("Trainer", options.matmulPrecision);
    const drawn = this.#model.init(foldIn(randomKey(this.#seed), streams.parameters)) as ParamsOf<Model>;
    const params = options.params === undefined ? drawn : initialParams("Trainer", drawn, options.params);
    floatDType(params);
    this.#state = {
      params,
      optimizer: this.#optimizer.init(params),
      ...(this.#ema === undefined ? {} : { ema: this.#ema.init(params) }),
      key: foldIn(randomKey(this.#seed), streams.steps),
      step: tensor(0, { dtype: "int32" }),
    };
  }

  /** Steps done so far. */
  get step(): number {
    return this.#losses.length;
  }

  /** The raw (unweighted) loss of each step so far: a copy. */
  get losses(): Float32Array {
    return this.#losses.toArray();
  }

  /** A copy of the parameters. Throws ValueError while steps run: read it in `log`, or after `fit`. */
  get params(): ParamsOf<Model> {
    return this.#current("params").params;
  }

  /** A copy of the moving average of the parameters; undefined when the trainer keeps none. Throws as `params`. */
  get emaParams(): ParamsOf<Model> | undefined {
    return this.#current("emaParams").ema;
  }

  /**
   * Does further steps.
   *
   * An abort by `signal` ends it within about a tenth of a second: the promise is rejected with the signal's reason,
   * and the trainer stands at a whole step from which it can go on, be saved and sampled.
   *
   * @returns where the training stands
   * @throws NonFiniteError when the loss, the parameters or the optimizer's state stop being finite; the trainer then
   *   holds the state before that step
   * @throws ValueError for wrong options, and while another fit is under way
   * @throws FileError when a checkpoint cannot be written
   */
  async fit(options: FitOptions): Promise<FitResult> {
    const where = "Trainer.fit";
    checkFitOptions(where, options);
    this.#checkUsable(where);
    if (this.#fitting) throw new ValueError(`${where}: another fit is under way; wait for it first`);
    const { steps, log, logEvery, signal, checkpoint } = options;
    signal?.throwIfAborted();
    this.#fitting = true;
    let progress: Progress | undefined;
    try {
      progress = await startProgress(options.progress, steps);
      const loop = this.#compiled();
      let done = 0;
      let seconds = 0;
      let logged = this.step;
      while (done < steps) {
        signal?.throwIfAborted();
        const until = (every = Infinity) => every - (this.step % every);
        const chunk = this.#pace.next(Math.min(steps - done, until(checkpoint?.every), until(logEvery)));
        const start = performance.now();
        const before = this.step;
        await this.#run(loop, chunk);
        const elapsed = performance.now() - start;
        this.#pace.observe(chunk, elapsed);
        done += chunk;
        seconds += elapsed / 1000;
        const stepsPerSecond = done / seconds;
        progress.update({ done, total: steps, loss: this.#losses.mean(before), stepsPerSecond });
        if (checkpoint !== undefined && this.step % checkpoint.every === 0)
          await this.save(`${checkpoint.directory}/step-${String(this.step).padStart(8, "0")}.safetensors`);
        if (log !== undefined && this.step % (logEvery ?? 1) === 0) {
          await log({ step: this.step, loss: this.#losses.mean(logged), stepsPerSecond });
          logged = this.step;
        }
        if (this.#disposed) throw new ValueError(`${where}: the trainer was disposed of`);
      }
      const loss = this.#losses.mean(Math.max(0, this.step - 200));
      return { step: this.step, loss, seconds, stepsPerSecond: seconds > 0 ? done / seconds : 0 };
    } finally {
      progress?.stop();
      this.#fitting = false;
    }
  }

  /**
   * Draws samples with the model as it is now.
   *
   * @param count number of samples, > 0
   * @returns samples [count, ...dim]; with `trajectory: true` { final, trajectory, times, evaluations }
   * @throws ValueError for wrong options, a sampler of another kind, and while steps run; what flow.sample throws
   */
  async sample<const O extends TrainerSampleOptions<Model>>(count: number, options: O): Promise<Sampled<O>> {
    const where = "Trainer.sample";
    checkOptions(where, options, ["sampler", "key", "condition", "params", "trajectory"]);
    checkCount(where, "count", count);
    const { params: average, key, condition, trajectory = false } = options;
    checkCondition(where, condition, count);
    const state = this.#current(where);
    const choice = checkChoice(where, "params", average ?? (state.ema === undefined ? "live" : "ema"), [
      "ema",
      "live",
    ]);
    const params = choice === "ema" ? state.ema : state.params;
    if (params === undefined)
      throw new ValueError(`${where}: params "ema" needs a trainer with the option ema, such as ema: 0.999`);
    const from = key ?? foldIn(randomKey(this.#seed), streams.samples);
    const noise = normal(from, [count, ...sampleShape(this.#data.dim)], { dtype: floatDType(params) });
    const { orientation } = this.#objective;
    const { sampler } = options;
    // The kinds of field and sampler were matched by the options' type, and are checked by sample itself.
    const settings = { orientation, condition, trajectory };
    return sample(this.#model, params, noise, sampler as never, settings) as Sampled<O>;
  }

  /**
   * Writes all that the training's continuation depends on - parameters, optimizer, average, random key, losses - to a
   * safetensors file, atomically: when it fails, an older file stays.
   *
   * @throws FileError when the file cannot be written; ValueError while steps run
   */
  async save(path: string): Promise<void> {
    const state = this.#current("Trainer.save");
    const snapshot = { state, step: this.step, seed: this.#seed, losses: this.losses };
    await writeFileAtomic(path, encodeCheckpoint(snapshot, this.#description()));
  }

  /**
   * Continues from a file that `save` or a checkpoint of `fit` wrote: the next steps give the same bits as if the
   * training had not been interrupted. The options that are functions or rates (data, optimizer's rates, batch size)
   * are the trainer's, not the file's.
   *
   * @throws FileError when the file cannot be read, is damaged, or is of another model, objective or optimizer, naming
   *   what differs; the trainer then stays as it was
   */
  async restore(path: string): Promise<void> {
    const where = "Trainer.restore";
    const bytes = await readFileBytes(path);
    this.#checkUsable(where);
    if (this.#fitting) throw new ValueError(`${where}: a fit is under way; wait for it first`);
    const like = this.#current(where);
    const { state, seed, losses } = decodeCheckpoint(path, bytes, like, this.#description());
    this.#loop?.write(state);
    this.#state = state;
    this.#seed = seed;
    this.#losses.replace(losses);
  }

  /** Frees the state that the backend holds. Any later use of the trainer but step and losses throws ValueError. */
  dispose(): void {
    this.#disposed = true;
    this.#loop?.dispose();
    this.#loop = undefined;
    this.#state = undefined;
  }

  /** One step, to be traced: every random number comes from the state's key. */
  #next(state: TrainingState<ParamsOf<Model>>): LoopStep<TrainingState<ParamsOf<Model>>> {
    const [key, dataKey, noiseKey, timesKey] = split(state.key, 4) as [Tensor, Tensor, Tensor, Tensor];
    const dtype = floatDType(state.params);
    const n = this.#batchSize;
    const { data, condition } = this.#batch(dataKey, dtype);
    const points = {
      data,
      condition,
      noise: normal(noiseKey, data.shape, { dtype }),
      ...this.#objective.sampleTimes(timesKey, n, { dtype, step: state.step }),
    };
    const lossOf = (params: ParamsOf<Model>): [Tensor, Tensor] => {
      const { loss, raw } = this.#objective.lossAndRaw(this.#model as never, params, points as never);
      return [loss, raw];
    };
    const [[, raw], grads] = valueAndGrad(lossOf, { hasAux: true })(state.params);
    const [updates, optimizer] = this.#optimizer.update(grads, state.optimizer, state.params);
    const params = applyUpdates(state.params, updates) as ParamsOf<Model>;
    const average =
      this.#ema === undefined || state.ema === undefined ? {} : { ema: this.#ema.update(state.ema, params) };
    const next = { params, optimizer, ...average, key, step: add(state.step, 1) };
    const loss = cast(raw, "float32");
    return { state: next, observed: [loss, largestMagnitude(raw, next)] };
  }

  /** The data of a step, and their labels when the field learns with them. */
  #batch(key: Tensor, dtype: "float32" | "float64"): { data: Tensor; condition: Tensor | undefined } {
    const source = this.#data;
    const n = this.#batchSize;
    if (!this.#conditional || !isLabelled(source))
      return { data: cast(source.sample(key, n, { dtype }), dtype), condition: undefined };
    const { data, label } = source.sampleLabelled(key, n, { dtype });
    return { data: cast(data, dtype), condition: label };
  }

  #compiled(): CompiledLoop<TrainingState<ParamsOf<Model>>> {
    if (this.#loop === undefined) {
      const backend = this.#backend === undefined ? {} : { backend: backendOf(this.#backend) };
      const state = this.#current("Trainer.fit");
      this.#loop = withMatmulPrecision(this.#matmulPrecision, () =>
        compileLoop((current) => this.#next(current), state, backend),
      );
    }
    return this.#loop;
  }

  /** Runs some steps and records their losses. */
  async #run(loop: CompiledLoop<TrainingState<ParamsOf<Model>>>, steps: number): Promise<void> {
    this.#stepping = true;
    this.#state = undefined;
    try {
      const { completed, observed } = await loop.run(steps);
      const losses = observed[0] as Float32Array;
      this.#losses.append(losses.subarray(0, completed));
      if (completed < steps) throw nonFinite(this.step, losses[completed]!);
    } finally {
      this.#stepping = false;
    }
  }

  /** The state as concrete tensors. */
  #current(where: string): TrainingState<ParamsOf<Model>> {
    this.#checkUsable(where);
    if (this.#stepping)
      throw new ValueError(`${where}: steps are running; use it in fit's log, or when fit has ended`);
    this.#state ??= this.#loop!.read();
    return this.#state;
  }

  #checkUsable(where: string): void {
    if (this.#disposed) throw new ValueError(`${where}: the trainer was disposed of`);
  }

  #description(): Description {
    const { kind, dim } = this.#model;
    const { name, orientation } = this.#objective;
    return {
      model: `${kind} of ${JSON.stringify(dim ?? this.#data.dim)}`,
      objective: `${name}, ${orientation}`,
    };
  }
}

function checkTrainerOptions(options: TrainerOptions<AnyField>): void {
  const where = "Trainer";
  checkOptions(where, options, optionNames);
  const { model, objective, data, optimizer } = options;
  if (typeof model?.init !== "function" || typeof model.apply !== "function")
    throw new ValueError(`${where}: model must be a field { kind, init, apply }, got ${describe(model)}`);
  if (typeof objective?.lossAndRaw !== "function")
    throw new ValueError(`${where}: objective must be one like flowMatching(), got ${describe(objective)}`);
  if (model.kind !== objective.fieldKind)
    throw new ValueError(
      `${where}: ${objective.name} needs a model of kind ${JSON.stringify(objective.fieldKind)}, ` +
        `got one of kind ${JSON.stringify(model.kind)}`,
    );
  if (typeof data?.sample !== "function")
    throw new ValueError(`${where}: data must be a distribution { dim, sample }, got ${describe(data)}`);
  if (options.conditional !== undefined && checkFlag(where, "conditional", options.conditional)) {
    if (!isLabelled(data))
      throw new ValueError(`${where}: conditional training needs labelled data, { sampleLabelled, ... }`);
  }
  if (typeof optimizer?.init !== "function" || typeof optimizer.update !== "function")
    throw new ValueError(`${where}: optimizer must be one like adam(...), got ${describe(optimizer)}`);
  if (model.dim !== undefined && String(sampleShape(model.dim)) !== String(sampleShape(data.dim)))
    throw new ValueError(
      `${where}: the model takes samples of shape [${sampleShape(model.dim).join(", ")}], ` +
        `the data has [${sampleShape(data.dim).join(", ")}]`,
    );
  checkCount(where, "batchSize", options.batchSize);
  if (options.seed !== undefined) checkCount(where, "seed", options.seed, 0);
  if (
    options.ema !== undefined &&
    typeof options.ema !== "number" &&
    typeof options.ema?.update !== "function"
  )
    throw new ValueError(`${where}: ema must be a decay or an optim.ema, got ${describe(options.ema)}`);
}

/** The dtype in which the model computes: that of its first parameter. */
function floatDType(params: tree.Tree): "float32" | "float64" {
  const dtype = tree.leaves(params)[0]?.dtype ?? "float32";
  if (!isFloat(dtype)) throw new ValueError(`Trainer: the model's parameters must be floats, got ${dtype}`);
  return dtype as "float32" | "float64";
}

function nonFinite(step: number, loss: number): NonFiniteError {
  const what = Number.isFinite(loss)
    ? `the loss is ${loss}, but the updated parameters or the optimizer's state are not finite`
    : `the loss is ${loss}`;
  return new NonFiniteError(
    `Trainer.fit: step ${step} (counted from 0) failed: ${what}. The trainer keeps the state after ${step} good ` +
      "steps. Try a lower learning rate, or chain(clipByGlobalNorm(1), adam(...)) as the optimizer, and check " +
      "that the data are finite and of size about 1",
  );
}
