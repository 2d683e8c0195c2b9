import { DTypeError, ShapeError, ValueError } from "../errors.js";
import { arange, take } from "../ops/index.js";
import { operation } from "../ops/operation.js";
import { checkChoice, checkCount, checkOptions, describe } from "../options.js";
import { randint, split } from "../random/index.js";
import type { DType } from "../tensor/dtype.js";
import { sameShape, show } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";

export interface SampleOptions {
  /** Default float32. */
  readonly dtype?: DType;
}

/** A source of data: independent draws, computed from a random key inside a compiled step. */
export interface Distribution {
  readonly name: string;
  /** Size of one draw: a number of features, or a shape. */
  readonly dim: number | readonly number[];
  /** n independent draws as [n, ...dim]. */
  sample(key: Tensor, n: number, options?: SampleOptions): Tensor;
}

export interface LabelledSampleOptions extends SampleOptions {
  /** The class of each draw, int32 [n], each from 0 to classes - 1. Default: drawn too. */
  readonly labels?: Tensor;
}

export interface LabelledSample {
  /** [n, ...dim]. */
  readonly data: Tensor;
  /** int32 [n]: the class of each row, from 0 to classes - 1. */
  readonly label: Tensor;
}

/** A source of data of several classes, which says of each draw to which it belongs. */
export interface LabelledDistribution extends Distribution {
  readonly classes: number;
  /** The name of each class. */
  readonly classNames: readonly string[];
  /** n independent draws with their labels. `sample(key, n)` is the data of `sampleLabelled(key, n)`. */
  sampleLabelled(key: Tensor, n: number, options?: LabelledSampleOptions): LabelledSample;
}

/** Whether the draws of a distribution can be had with labels. */
export function isLabelled(distribution: Distribution): distribution is LabelledDistribution {
  return typeof (distribution as Partial<LabelledDistribution>).sampleLabelled === "function";
}

/** A distribution of points in the plane (or in `dim` dimensions), from a sampler whose arguments are checked. */
export function pointDistribution(
  name: string,
  dim: number,
  draw: (key: Tensor, n: number, dtype: DType) => Tensor,
): Distribution & { readonly dim: number } {
  return {
    name,
    dim,
    sample(key, n, options = {}) {
      const where = `${name}.sample`;
      checkOptions(where, options, ["dtype"]);
      const dtype = floatDType(where, options);
      return draw(key, checkCount(where, "n", n), dtype);
    },
  };
}

/**
 * A distribution whose classes are equally likely, from a sampler of draws [n, ...dim] of the given classes [n]. The
 * draws of a key depend on the labels alone: asking for the labels that it drew gives the same data.
 */
export function labelledDistribution(
  name: string,
  dim: readonly number[],
  classNames: readonly string[],
  draw: (key: Tensor, label: Tensor, dtype: DType) => Tensor,
): LabelledDistribution & { readonly dim: readonly number[] } {
  const classes = classNames.length;
  const labelled = (
    where: string,
    key: Tensor,
    n: number,
    { labels, dtype }: { labels?: Tensor | undefined; dtype: DType },
  ): LabelledSample => {
    checkCount(where, "n", n);
    const [labelKey, drawKey] = split(key, 2);
    const label =
      labels === undefined ? randint(labelKey!, [n], 0, classes) : checkLabels(where, labels, n, classes);
    // One program, also when it is called outside of a compiled function.
    const compiled = operation((k: Tensor, l: Tensor) => draw(k, l, dtype));
    return { data: compiled(drawKey!, label), label };
  };
  return {
    name,
    dim,
    classes,
    classNames,
    sample(key, n, options = {}) {
      const where = `${name}.sample`;
      checkOptions(where, options, ["dtype"]);
      return labelled(where, key, n, { dtype: floatDType(where, options) }).data;
    },
    sampleLabelled(key, n, options = {}) {
      const where = `${name}.sampleLabelled`;
      checkOptions(where, options, ["dtype", "labels"]);
      return labelled(where, key, n, { labels: options.labels, dtype: floatDType(where, options) });
    },
  };
}

/**
 * The labels, if they are int32 [n] and name classes. Labels inside of a compiled function are held against the
 * classes when it runs, by taking from a table of them: there a negative one counts from the end.
 */
export function checkLabels(where: string, labels: unknown, n: number, classes: number): Tensor {
  checkLabelTensor(where, labels, n);
  if (labels.isSymbolic) return take(arange(classes), labels);
  const values = labels.toTypedArray();
  const row = values.findIndex((label: number) => label < 0 || label >= classes);
  if (row !== -1)
    throw new ValueError(
      `${where}: labels must be from 0 to ${classes - 1}, got ${values[row]} in row ${row}`,
    );
  return labels;
}

/** Throws unless the labels are int32 [n]. */
export function checkLabelTensor(where: string, labels: unknown, n: number): asserts labels is Tensor {
  if (!(labels instanceof Tensor))
    throw new ValueError(`${where}: labels must be a Tensor, got ${describe(labels)}`);
  if (labels.dtype !== "int32")
    throw new DTypeError(`${where}: labels must be int32, got ${labels.dtype}; use cast(labels, "int32")`);
  if (!sameShape(labels.shape, [n]))
    throw new ShapeError(`${where}: labels must be [${n}], one for each row, got ${show(labels.shape)}`);
}

function floatDType(where: string, options: SampleOptions): DType {
  return checkChoice(where, "dtype", options.dtype ?? "float32", ["float32", "float64"]);
}
