import { checkLabelTensor } from "../data/distribution.js";
import { ValueError } from "../errors.js";
import type { Condition } from "../models/index.js";
import { equal, full, logicalNot, reshape, where as select } from "../ops/index.js";
import { describe } from "../options.js";
import { sameShape, show } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import type { GuidedPoints } from "./guidance.js";

/** The labels after dropout, those that all say none, and which rows have a label after all, bool [n, 1]. */
export function dropLabels({ condition, unlabelled }: GuidedPoints, classes: number) {
  const given = labelOf(condition)!;
  const label = select(unlabelled!, classes, given);
  const none = full(label.shape, classes, { dtype: "int32" });
  return { label, none, labelled: reshape(logicalNot(equal(label, none)), [label.shape[0]!, 1]) };
}

/** The labels of a condition, which are its member `label` where it has members. */
function labelOf(condition: Condition | undefined): Tensor | undefined {
  return condition instanceof Tensor ? condition : condition?.label;
}

/** The condition, in its form, with other labels. */
export function relabelled(condition: Condition | undefined, label: Tensor): Condition {
  return condition instanceof Tensor ? label : { ...condition, label };
}

/** The condition with members besides its labels. */
export function withMembers(
  condition: Condition | undefined,
  members: { readonly [name: string]: Tensor },
): Condition {
  return { ...(condition instanceof Tensor ? {} : condition), ...members };
}

/** Throws unless the points have labels, which of them to drop, and these columns beside them. */
export function checkGuidedPoints(
  where: string,
  points: GuidedPoints,
  classes: number,
  columns: readonly ("guidance" | "guidanceStart" | "guidanceEnd")[],
): void {
  const { condition, unlabelled, data } = points;
  const n = data.shape[0]!;
  const label = labelOf(condition);
  if (label === undefined)
    throw new ValueError(
      `${where}: needs labels as the condition, int32 [${n}] or { label, ... }, got ${
        condition === undefined ? "none" : describe(condition)
      }`,
    );
  checkLabelTensor(where, label, n);
  if (!label.isSymbolic) {
    const values = label.toTypedArray();
    const row = values.findIndex((value: number) => value < 0 || value > classes);
    if (row !== -1)
      throw new ValueError(
        `${where}: labels must be from 0 to ${classes}, which means none, got ${values[row]} in row ${row}`,
      );
  }
  if (!(unlabelled instanceof Tensor) || unlabelled.dtype !== "bool" || !sameShape(unlabelled.shape, [n]))
    throw new ValueError(
      `${where}: unlabelled must be bool [${n}], as sampleTimes draws it, got ${kindOf(unlabelled)}`,
    );
  for (const name of columns) {
    const column = points[name];
    if (!(column instanceof Tensor) || column.dtype !== data.dtype || !sameShape(column.shape, [n, 1]))
      throw new ValueError(
        `${where}: ${name} must be ${data.dtype} [${n}, 1], as sampleTimes draws it, got ${kindOf(column)}`,
      );
    if (!(condition instanceof Tensor) && condition![name] !== undefined)
      throw new ValueError(`${where}: the condition has a ${name} already, which the objective is to give`);
  }
  const scale = columns.includes("guidance") ? points.guidance! : undefined;
  if (scale !== undefined && !scale.isSymbolic) {
    const values = scale.toTypedArray();
    const row = values.findIndex((value: number) => !(value > 0 && value < Infinity));
    if (row !== -1)
      throw new ValueError(`${where}: guidance must be above 0, got ${values[row]} in row ${row}`);
  }
}

function kindOf(value: unknown): string {
  return value instanceof Tensor ? `${value.dtype}${show(value.shape)}` : describe(value);
}
