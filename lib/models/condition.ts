import { ShapeError, ValueError } from "../errors.js";
import { div } from "../ops/index.js";
import { checkCount, checkFlag, describe } from "../options.js";
import { sameShape, show } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import type { Condition } from "./field.js";

/** What a model is told besides state and times. */
export interface ConditionNeeds {
  /** Number of classes; 0: no labels. */
  readonly classes: number;
  /** Whether there is a guidance scale. */
  readonly guided: boolean;
  /** Whether there are the ends of the interval of t in which guidance is on. */
  readonly interval: boolean;
  /** Number of features; 0: none. */
  readonly features: number;
}

/** The parts of a condition of n rows, by the names under which users give them. */
export interface ConditionParts {
  /** int32 [n]; the number of classes stands for none. */
  readonly label?: Tensor;
  /** [n, features]. */
  readonly features?: Tensor;
  /** The guidance scale, [n, 1], positive. */
  readonly guidance?: Tensor;
  /** The times at which guidance begins and ends, [n, 1]. */
  readonly guidanceStart?: Tensor;
  readonly guidanceEnd?: Tensor;
}

/** What these options of a model make it need. */
export function checkConditionOptions(
  where: string,
  options: {
    readonly classes?: number | undefined;
    readonly guidance?: boolean | undefined;
    readonly guidanceInterval?: boolean | undefined;
  },
): Omit<ConditionNeeds, "features"> {
  const classes = checkCount(where, "classes", options.classes ?? 0, 0);
  const guided = checkFlag(where, "guidance", options.guidance ?? false);
  const interval = checkFlag(where, "guidanceInterval", options.guidanceInterval ?? false);
  if (interval && !guided) throw new ValueError(`${where}: guidanceInterval needs guidance: true`);
  return { classes, guided, interval };
}

/** The names of the parts that a model needs. */
export function neededParts(needs: ConditionNeeds): (keyof ConditionParts)[] {
  return [
    ...(needs.classes > 0 ? (["label"] as const) : []),
    ...(needs.features > 0 ? (["features"] as const) : []),
    ...(needs.guided ? (["guidance"] as const) : []),
    ...(needs.interval ? (["guidanceStart", "guidanceEnd"] as const) : []),
  ];
}

/**
 * The parts of a condition that a model needs, no more and no less. A bare tensor stands for the label, or for the
 * features of a model without labels. Errors: ValueError for parts that are missing or too much, ShapeError for those
 * that do not fit.
 */
export function conditionParts(
  where: string,
  condition: Condition | undefined,
  needs: ConditionNeeds,
  n: number,
): ConditionParts {
  const bare = needs.features > 0 && needs.classes === 0 ? "features" : "label";
  const parts: { readonly [name: string]: unknown } =
    condition instanceof Tensor ? { [bare]: condition } : { ...condition };
  const wanted = neededParts(needs);
  const got = Object.keys(parts).sort();
  if (got.join() !== [...wanted].sort().join())
    throw new ValueError(
      `${where}: the condition must have ${wanted.join(" and ") || "nothing"}, got ${got.join(" and ") || "nothing"}`,
    );
  for (const name of wanted) {
    const part = parts[name];
    if (!(part instanceof Tensor))
      throw new ValueError(`${where}: ${name} must be a Tensor, got ${describe(part)}`);
    if (name === "label") {
      if (!sameShape(part.shape, [n]) || part.dtype !== "int32")
        throw new ShapeError(`${where}: labels must be int32 [${n}], got ${part.dtype}${show(part.shape)}`);
      continue;
    }
    const shape = [n, name === "features" ? needs.features : 1];
    if (!sameShape(part.shape, shape))
      throw new ShapeError(`${where}: ${name} must be ${show(shape)}, got ${show(part.shape)}`);
  }
  return parts as ConditionParts;
}

/** What a network sees of guidance, as columns [n, 1]: 1 / scale, which is bounded for scales from 1, and the two times. */
export function guidanceColumns({ guidance, guidanceStart, guidanceEnd }: ConditionParts): Tensor[] {
  return [
    ...(guidance === undefined ? [] : [div(1, guidance)]),
    ...(guidanceStart === undefined ? [] : [guidanceStart]),
    ...(guidanceEnd === undefined ? [] : [guidanceEnd]),
  ];
}
