import type { Expression, View } from "../../compile/plan.js";
import { type EmittedExpression, elementAt, emitExpression, sum } from "./expression.js";
import { cTypes, type Lowering } from "./lowering.js";

/** Neighbours in the last axis that a thread computes together. */
export type Lanes = 1 | 4;

/** Loads and stores of more than this would not stay in registers four at a time. */
const mostVectors = 16;

/**
 * Four lanes where the elements of each group of four in the last axis are next to each other in memory, and aligned, or
 * one and the same.
 */
export function lanesOf(
  shape: readonly number[],
  views: readonly View[],
  sizeOfBuffer: (buffer: number) => number,
): Lanes {
  const last = shape.length - 1;
  if (last < 0 || shape[last]! % 4 !== 0) return 1;
  const moving = views.filter(({ strides }) => strides[last] !== 0);
  const fit = moving.every(
    ({ buffer, offset, strides }) =>
      strides[last] === 1 &&
      offset % 4 === 0 &&
      strides.every((stride, axis) => axis === last || stride % 4 === 0) &&
      // A turn of a loop has a slice of a buffer, which begins at a multiple of its own size.
      sizeOfBuffer(buffer) % 4 === 0,
  );
  return fit && moving.length > 0 && moving.length <= mostVectors ? 4 : 1;
}

/**
 * Evaluates the expression at the coordinates, and at the next three in the last axis where there are four lanes, one after
 * another; `consume` gives the statements that take the values of a lane (its number as C++).
 */
export function laneLines(
  expression: Expression,
  lanes: Lanes,
  coordinates: readonly string[],
  pointer: (buffer: number) => string,
  consume: (emitted: EmittedExpression, lane: string) => readonly string[],
): string[] {
  if (lanes === 1) {
    const emitted = emitExpression(expression, {
      coordinates,
      element: (view) => elementAt(pointer(view.buffer), view, coordinates),
    });
    return [...emitted.lines, ...consume(emitted, "0")];
  }
  const last = coordinates.length - 1;
  const inner = coordinates.map((name, axis) => (axis === last ? `(${name} + lane)` : name));
  const loads = new Map<string, string>();
  const before: string[] = [];
  const emitted = emitExpression(expression, {
    coordinates: inner,
    element: (view, dtype) => {
      if (view.strides[last] === 0) return elementAt(pointer(view.buffer), view, coordinates);
      const place = `${pointer(view.buffer)} + ${sum(view.offset, view.strides, coordinates)}`;
      let array = loads.get(place);
      if (array === undefined) {
        array = `loaded${loads.size}`;
        loads.set(place, array);
        before.push(`${cTypes[dtype]} ${array}[4];`, `fluxion::load4(${array}, ${place});`);
      }
      return `${array}[lane]`;
    },
  });
  return [
    ...before,
    "#pragma unroll",
    "for (int lane = 0; lane < 4; lane++) {",
    ...[...emitted.lines, ...consume(emitted, "lane")].map((line) => `  ${line}`),
    "}",
  ];
}

/** The statements of a map: evaluates the expression and stores its outputs. */
export function mapLines(
  lowering: Lowering,
  expression: Expression,
  lanes: Lanes,
  coordinates: readonly string[],
  pointer: (buffer: number) => string,
): string[] {
  const { outputs } = expression;
  const place = (view: View) => `${pointer(view.buffer)} + ${sum(view.offset, view.strides, coordinates)}`;
  const computed = laneLines(expression, lanes, coordinates, pointer, (emitted, lane) =>
    outputs.map(({ value, view }, i) =>
      lanes === 1
        ? `${elementAt(pointer(view.buffer), view, coordinates)} = ${emitted.value(value)};`
        : `stored${i}[${lane}] = ${emitted.value(value)};`,
    ),
  );
  if (lanes === 1) return computed;
  return [
    ...outputs.map(({ view }, i) => `${cTypes[lowering.dtypeOf(view.buffer)]} stored${i}[4];`),
    ...computed,
    ...outputs.map(({ view }, i) => `fluxion::store4(${place(view)}, stored${i});`),
  ];
}
