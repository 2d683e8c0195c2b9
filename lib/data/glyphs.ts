import {
  add,
  clip,
  cos,
  div,
  expandDims,
  maximum,
  min,
  mul,
  reshape,
  sin,
  slice,
  sqrt,
  square,
  sub,
  take,
  tensor,
} from "../ops/index.js";
import { checkNumber, checkOptions, checkRange } from "../options.js";
import type { Tensor } from "../tensor/tensor.js";
import { type LabelledDistribution, labelledDistribution } from "./distribution.js";
import { checkSize, inked, pixelCentres, uniformColumns } from "./pixels.js";

export interface GlyphsOptions {
  /** Height and width of an image in pixels, at most 1024. Default 16. */
  readonly size?: number;
  /** Range of a glyph's height, between the middles of its outer strokes, as a share of `size`. Default [0.55, 0.72]. */
  readonly height?: readonly [number, number];
  /** Range of the strokes' width, as a share of `size`. Default [0.08, 0.13]. */
  readonly strokeWidth?: readonly [number, number];
  /** Glyphs are turned by up to so much either way, in radians. Default 0.2. */
  readonly rotation?: number;
  /** Glyphs are moved from the middle by up to so much in each direction, as a share of `size`. Default 0.05. */
  readonly shift?: number;
}

type Point = readonly [x: number, y: number];
type Stroke = readonly Point[];

/** Points along an ellipse from one angle to another, in degrees: 0 is right, 90 down, 180 left, 270 up. */
function arc(centre: Point, radii: Point, from: number, to: number): Stroke {
  const pieces = Math.ceil(Math.abs(to - from) / 36);
  return Array.from({ length: pieces + 1 }, (_, i) => {
    const angle = ((from + ((to - from) * i) / pieces) * Math.PI) / 180;
    return [centre[0] + radii[0] * Math.cos(angle), centre[1] + radii[1] * Math.sin(angle)];
  });
}

const six: readonly Stroke[] = [arc([0, 0.2], [0.27, 0.3], 0, 360), arc([0.2, 0.2], [0.47, 0.7], 180, 265)];

/** The strokes of each digit, in a box with y from -0.5 (top) to 0.5. */
const digits: readonly (readonly Stroke[])[] = [
  [arc([0, 0], [0.28, 0.5], 0, 360)],
  [
    [
      [-0.16, -0.3],
      [0.06, -0.5],
      [0.06, 0.5],
    ],
  ],
  [[...arc([0, -0.23], [0.26, 0.27], 190, 395), [-0.27, 0.5], [0.28, 0.5]]],
  [arc([0, -0.25], [0.24, 0.25], 205, 450), arc([0, 0.25], [0.27, 0.25], 270, 515)],
  [
    [
      [0.12, 0.5],
      [0.12, -0.5],
      [-0.3, 0.2],
      [0.3, 0.2],
    ],
  ],
  [[[0.24, -0.5], [-0.19, -0.5], ...arc([0, 0.18], [0.27, 0.32], 220, 510)]],
  six,
  [
    [
      [-0.27, -0.5],
      [0.27, -0.5],
      [-0.08, 0.5],
    ],
  ],
  [arc([0, -0.25], [0.22, 0.25], 0, 360), arc([0, 0.25], [0.27, 0.25], 0, 360)],
  six.map((stroke) => stroke.map(([x, y]): Point => [-x, -y])),
];

/** The segments of each digit as [x0, y0, x1, y1], all as many: the last one is repeated. */
const segments = (() => {
  const lists = digits.map((strokes) =>
    strokes.flatMap((stroke) => stroke.slice(1).map((end, i) => [...stroke[i]!, ...end])),
  );
  const most = Math.max(...lists.map((list) => list.length));
  return lists.map((list) => Array.from({ length: most }, (_, i) => list[Math.min(i, list.length - 1)]!));
})();

/**
 * Images of the digits 0 to 9, [n, size, size, 1]: ink 1 on ground -1, with smooth edges. The digit is the class. Its
 * strokes have round ends; their width, the glyph's height, turn and place are uniform.
 */
export function glyphs(
  options: GlyphsOptions = {},
): LabelledDistribution & { readonly dim: readonly number[] } {
  const name = "glyphs";
  checkOptions(name, options, ["size", "height", "strokeWidth", "rotation", "shift"]);
  const size = checkSize(name, options.size);
  const heights = checkRange(name, "height", options.height ?? [0.55, 0.72], { above: 0, max: 1 });
  const widths = checkRange(name, "strokeWidth", options.strokeWidth ?? [0.08, 0.13], { above: 0, max: 1 });
  const rotation = checkNumber(name, "rotation", options.rotation ?? 0.2, { min: 0 });
  const shift = checkNumber(name, "shift", options.shift ?? 0.05, { min: 0, max: 1 });
  const classNames = digits.map((_, digit) => String(digit));
  return labelledDistribution(name, [size, size, 1], classNames, (key, label, dtype) => {
    const n = label.shape[0]!;
    const ranges = [heights, widths, [-rotation, rotation], [-shift, shift], [-shift, shift]] as const;
    const [height, width, turn, right, down] = uniformColumns(key, n, ranges, dtype) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const scale = mul(height, size);
    const [c, s] = [mul(cos(turn), scale), mul(sin(turn), scale)];
    // The pixels stay, and the few ends of segments move.
    const strokes = take(tensor(segments, { dtype }), label, 0);
    const at = (i: number) =>
      reshape(slice(strokes, [0, 0, i], [n, strokes.shape[1]!, 1]), [n, strokes.shape[1]!]);
    const moved = (x: Tensor, y: Tensor) => ({
      x: add(sub(mul(x, c), mul(y, s)), mul(right, size)),
      y: add(add(mul(x, s), mul(y, c)), mul(down, size)),
    });
    const distance = distanceToSegments(moved(at(0), at(1)), moved(at(2), at(3)), pixelCentres(size, dtype));
    return inked(sub(distance, mul(width, size / 2)), size);
  });
}

interface Points {
  readonly x: Tensor;
  readonly y: Tensor;
}

/**
 * The distance of each point [p] to the nearest of the segments from a to b [n, k]: [n, p]. That to one segment is
 * |q - h d| with q = point - a, d = b - a, and h = q . d / d . d, cut off at the ends 0 and 1.
 */
function distanceToSegments(a: Points, b: Points, point: Points): Tensor {
  const each = (x: Tensor) => expandDims(x, 2);
  const [ax, ay] = [each(a.x), each(a.y)];
  const [dx, dy] = [sub(each(b.x), ax), sub(each(b.y), ay)];
  const [qx, qy] = [sub(point.x, ax), sub(point.y, ay)];
  // A glyph so small that this would be 0 is a dot wherever h lies.
  const inverse = div(1, maximum(add(square(dx), square(dy)), 1e-30));
  const along = clip(add(mul(qx, mul(dx, inverse)), mul(qy, mul(dy, inverse))), 0, 1);
  return sqrt(min(add(square(sub(qx, mul(along, dx))), square(sub(qy, mul(along, dy)))), 1));
}
