import { ShapeError, ValueError } from "../errors.js";
import { checkCount, checkNumber, checkOptions, checkRange, describe } from "../options.js";
import { show } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import { type Figure, figure } from "./figure.js";
import { encodePng } from "./png.js";

export interface ImageGridOptions {
  title?: string;
  /** Images in a row. Default: as the labels say, else such that the grid is about square. */
  columns?: number;
  /** A title above each image, as many as there are images. */
  titles?: readonly string[];
  /** Labels of the rows, from the top, as many as there are rows. */
  rowLabels?: readonly string[];
  /** Labels of the columns, from the left, as many as there are columns. */
  columnLabels?: readonly string[];
  /** The values that are drawn dark and light; those beyond are drawn as these. Default [-1, 1]. */
  range?: readonly [number, number];
  /** Width of one image in units of the SVG. Default: the whole multiple of its pixels that is nearest to 64. */
  size?: number;
}

const optionNames = ["title", "columns", "titles", "rowLabels", "columnLabels", "range", "size"];

/** Units of the SVG between images, and for the title of one. */
const spacing = 4;
const titleHeight = 15;

/** The largest area of a grid in square units of the SVG: a PNG of it takes 256 MB while it is drawn. */
const largestArea = 4000 ** 2;

/** Red, for a value that is not finite: it must not pass for a dark or a light one. */
const notFinite = [0xd0, 0x4a, 0x35] as const;

/**
 * Images side by side, row after row, with crisp pixels. In the SVG they are one embedded PNG.
 *
 * @param images [n, height, width] or [n, height, width, 1] in grey, [n, height, width, 3] in red, green and blue. A
 *   pixel that is not finite is drawn red
 * @throws ShapeError for another shape; ValueError for wrong options, labels of another number than what they are for,
 *   and a grid that is too large
 */
export function imageGrid(images: Tensor, options: ImageGridOptions = {}): Figure {
  const where = "plot.imageGrid";
  checkOptions(where, options, optionNames);
  const shape = checkImages(where, images);
  const { title, titles, rowLabels, columnLabels } = options;
  checkTexts(where, "titles", titles, shape.count, "images");
  const grid = layout(where, shape, options);
  checkTexts(where, "rowLabels", rowLabels, grid.rows, "rows");
  checkTexts(where, "columnLabels", columnLabels, grid.columns, "columns");
  const [dark, light] = checkRange(where, "range", options.range ?? [-1, 1]);
  if (dark === light) throw new ValueError(`${where}: range must have two values, got ${dark} twice`);

  const { unit, top } = grid;
  const png = encodePng(paint(images, shape, grid, [dark, light]), grid.width, grid.height);
  const url = `data:image/png;base64,${Buffer.from(png).toString("base64")}`;
  const size = { width: grid.width * unit, height: grid.height * unit };
  const step = { x: grid.stepX * unit, y: grid.stepY * unit };
  const middle = { x: (shape.width * unit) / 2, y: (top + shape.height / 2) * unit };
  const position = {
    x: axis("x", [0, size.width], columnLabels, step.x, middle.x, { orient: "top", labelAngle: 0 }),
    y: axis("y", [size.height, 0], rowLabels, step.y, middle.y, {}),
  };
  const captions = (titles ?? []).map((text, i) => ({
    text,
    x: (i % grid.columns) * step.x + middle.x,
    y: Math.floor(i / grid.columns) * step.y + top * unit,
  }));
  const picture = { type: "image", ...size, align: "left", baseline: "top", aspect: false, smooth: false };
  // Without a screen, Vega takes letters to be about a third wider than they are.
  const limit = 1.3 * step.x;
  const caption = { type: "text", baseline: "bottom", dy: -3, fontSize: 11, color: "#444", limit };
  return figure({
    ...(title === undefined ? {} : { title }),
    ...size,
    view: { stroke: null },
    layer: [
      {
        data: { values: [{ url, x: 0, y: 0 }] },
        mark: { ...picture, aria: false },
        encoding: { ...position, url: { field: "url", type: "nominal" } },
      },
      {
        data: { values: captions },
        mark: { ...caption, aria: false },
        encoding: { ...position, text: { field: "text", type: "nominal" } },
      },
    ],
  });
}

interface ImageShape {
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

function checkImages(where: string, images: unknown): ImageShape {
  if (!(images instanceof Tensor))
    throw new ValueError(`${where}: images must be a Tensor, got ${describe(images)}`);
  const [count = 0, height = 0, width = 0, channels = 1] = images.shape;
  const fits = images.rank === 3 || (images.rank === 4 && (channels === 1 || channels === 3));
  if (!fits || images.size === 0)
    throw new ShapeError(
      `${where}: images must be [n, height, width] or [n, height, width, 1 or 3] with at least one pixel, ` +
        `got ${show(images.shape)}`,
    );
  return { count, height, width, channels };
}

function checkTexts(where: string, name: string, texts: unknown, count: number, of: string): void {
  if (texts === undefined) return;
  if (!Array.isArray(texts) || texts.some((text) => typeof text !== "string"))
    throw new ValueError(`${where}: ${name} must be an array of strings, got ${describe(texts)}`);
  if (texts.length !== count)
    throw new ValueError(`${where}: ${name} must be one for each of ${count} ${of}, got ${texts.length}`);
}

/** Where the images lie. Lengths are in pixels of the images, of which the whole grid is made. */
interface Layout {
  readonly columns: number;
  readonly rows: number;
  readonly width: number;
  readonly height: number;
  /** From one image to the next. */
  readonly stepX: number;
  readonly stepY: number;
  /** Room above each image for its title. */
  readonly top: number;
  /** Units of the SVG for a pixel. */
  readonly unit: number;
}

function layout(where: string, { count, height, width }: ImageShape, options: ImageGridOptions): Layout {
  const { titles, rowLabels, columnLabels } = options;
  const fromRows = rowLabels === undefined ? Math.sqrt(count) : count / Math.max(rowLabels.length, 1);
  const columns = checkCount(
    where,
    "columns",
    options.columns ?? columnLabels?.length ?? Math.ceil(fromRows),
  );
  const rows = Math.ceil(count / columns);
  const size = options.size ?? width * Math.max(1, Math.round(64 / width));
  const unit = checkNumber(where, "size", size, { above: 0 }) / width;
  const gap = Math.max(1, Math.round(spacing / unit));
  const top = titles === undefined ? 0 : Math.ceil(titleHeight / unit);
  const [stepX, stepY] = [width + gap, top + height + gap];
  const grid = { width: columns * stepX - gap, height: rows * stepY - gap };
  if (grid.width * grid.height * Math.max(1, unit ** 2) > largestArea)
    throw new ValueError(
      `${where}: ${rows} x ${columns} images of ${height} x ${width} pixels, ${size} units wide, make too large a ` +
        `picture, ${Math.ceil(grid.width * unit)} x ${Math.ceil(grid.height * unit)} units; draw fewer, or smaller`,
    );
  return { columns, rows, ...grid, stepX, stepY, top, unit };
}

/** The grid's pixels as red, green, blue and opacity; between the images they are clear. */
function paint(
  images: Tensor,
  { count, height, width, channels }: ImageShape,
  grid: Layout,
  [dark, light]: readonly [number, number],
): Uint8Array {
  const values = images.toTypedArray();
  const rgba = new Uint8Array(4 * grid.width * grid.height);
  let from = 0;
  for (let i = 0; i < count; i++) {
    const left = (i % grid.columns) * grid.stepX;
    const upper = Math.floor(i / grid.columns) * grid.stepY + grid.top;
    for (let y = 0; y < height; y++) {
      let to = 4 * ((upper + y) * grid.width + left);
      for (let x = 0; x < width; x++, from += channels, to += 4) {
        let finite = true;
        for (let c = 0; c < 3; c++) {
          const value = Number(values[channels === 1 ? from : from + c]);
          finite &&= Number.isFinite(value);
          rgba[to + c] = Math.round(255 * Math.min(1, Math.max(0, (value - dark) / (light - dark))));
        }
        if (!finite) rgba.set(notFinite, to);
        rgba[to + 3] = 255;
      }
    }
  }
  return rgba;
}

/** An axis in units of the SVG that shows nothing but the labels, the first at `first` and the others by steps. */
function axis(
  field: string,
  domain: readonly [number, number],
  labels: readonly string[] | undefined,
  step: number,
  first: number,
  look: object,
): Record<string, unknown> {
  return {
    field,
    type: "quantitative",
    scale: { domain, nice: false, zero: false },
    axis:
      labels === undefined
        ? null
        : {
            title: null,
            grid: false,
            ticks: false,
            domain: false,
            labelPadding: 6,
            labelOverlap: false,
            labelBound: false,
            labelFlush: false,
            values: labels.map((_, i) => first + i * step),
            labelExpr: `${JSON.stringify(labels)}[floor(datum.value / ${step})]`,
            ...look,
          },
  };
}
