import { ValueError } from "../errors.js";
import {
  abs,
  add,
  cos,
  div,
  equal,
  expandDims,
  maximum,
  minimum,
  mul,
  sin,
  sqrt,
  square,
  sub,
  where,
} from "../ops/index.js";
import { checkChoice, checkNumber, checkOptions, checkRange, describe } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import { type LabelledDistribution, labelledDistribution } from "./distribution.js";
import { checkSize, inked, pixelCentres, uniformColumns } from "./pixels.js";

export interface ShapesOptions {
  /** Height and width of an image in pixels, at most 1024. Default 16. */
  readonly size?: number;
  /** The classes, in the order of their labels. Default: all, in the order of `ShapeName`. */
  readonly classes?: readonly ShapeName[];
  /** Range of the radius of the circle around a shape, as a share of `size`, at most 0.5. Default [0.28, 0.45]. */
  readonly radius?: readonly [number, number];
  /** Shapes are turned by up to so much either way, in radians. Default pi: any way. */
  readonly rotation?: number;
}

export type ShapeName = "circle" | "ring" | "square" | "frame" | "triangle" | "diamond" | "cross" | "star";

/** A point of the plane in units of the shape's radius, from its centre, beside its distance from there. */
interface Place {
  readonly x: Tensor;
  readonly y: Tensor;
  readonly r: Tensor;
}

/**
 * The signed distance to each shape's edge, negative inside, in a circle of radius 1 which it touches. Straight edges
 * are continued beyond corners (the distance to a line, not to the corner), which keeps corners sharp.
 */
const distances: Readonly<Record<ShapeName, (place: Place) => Tensor>> = {
  circle: ({ r }) => sub(r, 1),
  ring: ({ r }) => sub(abs(sub(r, 0.8)), 0.2),
  square: ({ x, y }) => sub(maximum(abs(x), abs(y)), Math.SQRT1_2),
  frame: ({ x, y }) => sub(abs(sub(maximum(abs(x), abs(y)), Math.SQRT1_2 - 0.16)), 0.16),
  triangle: ({ x, y }) => sub(maximum(add(mul(abs(x), Math.sqrt(3) / 2), mul(y, -0.5)), y), 0.5),
  // Half diagonals b and 1: |x| + b |y| = b, divided by the length of the normal.
  diamond: ({ x, y }) => mul(sub(add(abs(x), mul(abs(y), 0.5)), 0.5), 1 / Math.hypot(1, 0.5)),
  cross({ x, y }) {
    const [across, along] = [abs(x), abs(y)];
    const width = 0.26;
    return maximum(
      sub(minimum(across, along), width),
      sub(maximum(across, along), Math.sqrt(1 - width ** 2)),
    );
  },
  star({ x, y }) {
    // Five lines bound a pentagram, cos(2 pi / 5) from its centre, and a point inside is beyond at most one of them.
    const [first, ...others] = [0, 1, 2, 3, 4].map((tip) => {
      const angle = (2 * Math.PI * tip) / 5;
      return sub(add(mul(x, Math.sin(angle)), mul(y, -Math.cos(angle))), Math.cos((2 * Math.PI) / 5));
    });
    let farthest = first!;
    let second: Tensor | undefined;
    for (const next of others) {
      const lesser = minimum(farthest, next);
      second = second === undefined ? lesser : maximum(second, lesser);
      farthest = maximum(farthest, next);
    }
    return second!;
  },
};

const shapeNames = Object.keys(distances) as ShapeName[];

/**
 * Images of one shape each, [n, size, size, 1]: ink 1 on ground -1, with smooth edges. The shape is the class; its
 * radius, turn and place are uniform, the place such that the shape lies within the image.
 *
 * A ring is an outlined circle, a frame an outlined square; the other shapes are filled. `radius` is that of the circle
 * around the shape: a circle covers pi (radius size)^2 pixels.
 */
export function shapes(
  options: ShapesOptions = {},
): LabelledDistribution & { readonly dim: readonly number[] } {
  const name = "shapes";
  checkOptions(name, options, ["size", "classes", "radius", "rotation"]);
  const size = checkSize(name, options.size);
  const classes = checkClasses(name, options.classes ?? shapeNames);
  const radii = checkRange(name, "radius", options.radius ?? [0.28, 0.45], { above: 0, max: 0.5 });
  const rotation = checkNumber(name, "rotation", options.rotation ?? Math.PI, { min: 0 });
  return labelledDistribution(name, [size, size, 1], classes, (key, label, dtype) => {
    const n = label.shape[0]!;
    const ranges = [radii, [-rotation, rotation], [-1, 1], [-1, 1]] as const;
    const [share, turn, right, down] = uniformColumns(key, n, ranges, dtype) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const radius = mul(share, size);
    const room = sub(size / 2, radius);
    const [c, s] = [div(cos(turn), radius), div(sin(turn), radius)];
    const pixel = pixelCentres(size, dtype);
    const dx = sub(pixel.x, mul(right, room));
    const dy = sub(pixel.y, mul(down, room));
    const x = add(mul(dx, c), mul(dy, s));
    const y = sub(mul(dy, c), mul(dx, s));
    const place = { x, y, r: sqrt(add(square(x), square(y))) };
    const ofClass = classes.map((shape) => distances[shape](place));
    const column = expandDims(label, 1);
    const distance = ofClass.reduce((chosen, next, k) => where(equal(column, k), next, chosen));
    return inked(mul(distance, radius), size);
  });
}

function checkClasses(name: string, classes: unknown): readonly ShapeName[] {
  if (!Array.isArray(classes) || classes.length === 0)
    throw new ValueError(`${name}: classes must be an array of at least one name, got ${describe(classes)}`);
  const checked = classes.map((shape, i) => checkChoice(name, `classes[${i}]`, shape, shapeNames));
  const twice = checked.find((shape, i) => checked.indexOf(shape) !== i);
  if (twice !== undefined) throw new ValueError(`${name}: classes has ${describe(twice)} twice`);
  return checked;
}
