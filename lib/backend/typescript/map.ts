import { collapse, isEmpty } from "../../compile/collapse.js";
import type { Expression, MapStep } from "../../compile/plan.js";
import { buildKernel, emptyLines, type Kernel, type Lines, type Nest, type Scope } from "./kernel.js";
import type { PreparedStep } from "./steps.js";

/** Evaluates an expression at every index. */
export function prepareMap(step: MapStep): PreparedStep {
  if (isEmpty(step.shape)) return () => {};
  const { shape, expression } = collapse({ ...step, firstReduced: step.shape.length });
  const kernel = mapKernel({
    axes: shape.map((_, axis) => axis),
    sizes: shape,
    expression,
  });
  return (buffers) => kernel.run(buffers);
}

/** The kernel that stores an expression's outputs in each iteration of the innermost loop. */
export function mapKernel(nest: Omit<Nest, "instructions"> & { expression: Expression }): Kernel {
  const { instructions, outputs } = nest.expression;
  return buildKernel({ ...nest, instructions }, (scope: Scope): Lines => {
    const lines = emptyLines(scope.depth);
    for (const { value, view } of outputs) {
      const element = scope.element(view, instructions[value]!.dtype, scope.depth);
      lines.before[scope.depth]!.push(`${element} = ${scope.value(value)};`);
    }
    return lines;
  });
}
