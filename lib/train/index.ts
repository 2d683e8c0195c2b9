export type { FitEvent, FitOptions, FitResult } from "./fit-options.js";
export type { ProgressOptions, ProgressStream } from "./progress.js";
export {
  type ObjectiveFor,
  type ParamsOf,
  Trainer,
  type TrainerOptions,
  type TrainerSampleOptions,
} from "./trainer.js";
