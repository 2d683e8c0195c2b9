import { ShapeError, ValueError } from "../errors.js";
import { add, cast, remainder, take } from "../ops/index.js";
import { checkCount, checkOptions, describe } from "../options.js";
import { bits, randint } from "../random/index.js";
import { checkDType } from "../tensor/dtype.js";
import { show } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import {
  checkLabels,
  checkLabelTensor,
  type Distribution,
  type LabelledDistribution,
  type SampleOptions,
} from "./distribution.js";

export interface FromTensorOptions {
  /** The class of each row, int32 [rows], from 0 on; there must be a row of each class. Default: no labels. */
  readonly labels?: Tensor;
  /** The names of the classes. Default: "0", "1", ... */
  readonly classNames?: readonly string[];
}

/**
 * A data set as a distribution: rows of x [rows, ...dim], drawn independently with replacement. A compiled step takes
 * x as an input; it is not copied. Draws have the dtype of x unless `sample` asks for another.
 *
 * With `labels` it is a labelled distribution, in which a class is as likely as it is frequent; of chosen labels, a draw
 * is one of the rows with that label.
 */
export function fromTensor(
  x: Tensor,
  options: FromTensorOptions & { readonly labels: Tensor },
): LabelledDistribution;
export function fromTensor(x: Tensor, options?: FromTensorOptions): Distribution;
export function fromTensor(x: Tensor, options: FromTensorOptions = {}): Distribution | LabelledDistribution {
  const where = "fromTensor";
  if (!(x instanceof Tensor)) throw new ValueError(`${where}: expected a Tensor, got ${describe(x)}`);
  if (x.rank < 2 || x.size === 0)
    throw new ShapeError(`${where}: needs [rows, ...dim] with at least one row, got ${show(x.shape)}`);
  checkOptions(where, options, ["labels", "classNames"]);
  const [rows, ...shape] = x.shape;
  const anyRow = (at: string, key: Tensor, n: number) => randint(key, [checkCount(at, "n", n)], 0, rows!);
  const taken = (at: string, row: Tensor, { dtype }: SampleOptions) => {
    const drawn = take(x, row, 0);
    return dtype === undefined || dtype === x.dtype ? drawn : cast(drawn, checkDType(at, dtype));
  };
  const unlabelled: Distribution = {
    name: where,
    dim: shape.length === 1 ? shape[0]! : shape,
    sample(key, n, sampling = {}) {
      const at = `${where}.sample`;
      checkOptions(at, sampling, ["dtype"]);
      return taken(at, anyRow(at, key, n), sampling);
    },
  };
  const { labels, classNames } = options;
  if (labels === undefined) {
    if (classNames !== undefined) throw new ValueError(`${where}: classNames need labels`);
    return unlabelled;
  }
  const table = rowsByClass(where, labels, rows!, classNames);
  const { classes } = table;
  return {
    ...unlabelled,
    classes,
    classNames: classNames?.slice() ?? Array.from({ length: classes }, (_, k) => String(k)),
    sampleLabelled(key, n, sampling = {}) {
      const at = `${where}.sampleLabelled`;
      checkOptions(at, sampling, ["dtype", "labels"]);
      if (sampling.labels === undefined) {
        const row = anyRow(at, key, n);
        return { data: taken(at, row, sampling), label: take(labels, row, 0) };
      }
      const label = checkLabels(at, sampling.labels, checkCount(at, "n", n), classes);
      // As randint: the bias is below the number of rows / 2^32.
      const within = remainder(bits(key, [n]), take(table.count, label, 0));
      const row = take(table.order, add(take(table.start, label, 0), cast(within, "int32")), 0);
      return { data: taken(at, row, sampling), label };
    },
  };
}

interface RowsByClass {
  readonly classes: number;
  /** The rows of class 0, then those of class 1, and so on: int32 [rows]. */
  readonly order: Tensor;
  /** Where in `order` a class begins: int32 [classes]. */
  readonly start: Tensor;
  /** How many rows it has: uint32 [classes]. */
  readonly count: Tensor;
}

function rowsByClass(where: string, labels: Tensor, rows: number, classNames: unknown): RowsByClass {
  checkLabelTensor(where, labels, rows);
  if (labels.isSymbolic)
    throw new ValueError(`${where}: labels must be known numbers; they are those of a function being traced`);
  if (classNames !== undefined && !isTexts(classNames))
    throw new ValueError(`${where}: classNames must be an array of strings, got ${describe(classNames)}`);
  const values = Array.from(labels.toTypedArray(), Number);
  const negative = values.findIndex((label) => label < 0);
  if (negative !== -1)
    throw new ValueError(`${where}: labels must be 0 or more, got ${values[negative]} in row ${negative}`);
  const most = values.reduce((a, b) => Math.max(a, b)) + 1;
  const classes = classNames?.length ?? most;
  if (most > classes)
    throw new ValueError(`${where}: label ${most - 1} has no name: there are ${classes} classNames`);
  // A class without rows would make `labels` of sampleLabelled impossible to keep. No more than `rows` have one.
  const present = new Set(values);
  if (present.size < classes) {
    let missing = 0;
    while (present.has(missing)) missing++;
    throw new ValueError(`${where}: no row has label ${missing}, of ${classes} classes; each needs a row`);
  }
  const count = new Uint32Array(classes);
  for (const label of values) count[label]!++;
  const start = new Int32Array(classes);
  for (let k = 1; k < classes; k++) start[k] = start[k - 1]! + count[k - 1]!;
  const next = start.slice();
  const order = new Int32Array(rows);
  values.forEach((label, row) => {
    order[next[label]!++] = row;
  });
  return {
    classes,
    order: Tensor.fromData(order, [rows], "int32"),
    start: Tensor.fromData(start, [classes], "int32"),
    count: Tensor.fromData(count, [classes], "uint32"),
  };
}

const isTexts = (x: unknown): x is readonly string[] =>
  Array.isArray(x) && x.every((text) => typeof text === "string");
