import { FluxionError, ValueError } from "../errors.js";
import { writeFileAtomic } from "../io/atomic.js";
import { config } from "./look.js";

/** A picture that is described as data, and drawn when it is asked for. */
export interface Figure {
  /** The Vega-Lite specification, with its data. */
  readonly spec: Readonly<Record<string, unknown>>;
  /** The picture as an SVG document. Needs the packages vega and vega-lite. */
  toSVG(): Promise<string>;
  /**
   * The picture as the bytes of a PNG. Needs @resvg/resvg-js besides.
   *
   * @param options.scale pixels for each unit of the SVG, default 2
   */
  toPNG(options?: { scale?: number }): Promise<Uint8Array>;
  /** Writes the picture, atomically, as its name says: `.svg`, `.png`, or `.json` for the specification. */
  save(path: string): Promise<void>;
}

/** A figure in the library's look. */
export function figure(spec: Record<string, unknown>): Figure {
  const styled = { $schema: "https://vega.github.io/schema/vega-lite/v6.json", config, ...spec };
  let svg: Promise<string> | undefined;
  const toSVG = () => (svg ??= renderSvg(styled));
  const toPNG = async ({ scale = 2 } = {}) => renderPng(await toSVG(), scale);
  return {
    spec: styled,
    toSVG,
    toPNG,
    async save(path) {
      if (path.endsWith(".svg")) return writeFileAtomic(path, await toSVG());
      if (path.endsWith(".png")) return writeFileAtomic(path, await toPNG());
      if (path.endsWith(".json")) return writeFileAtomic(path, JSON.stringify(styled));
      throw new ValueError(`save: ${JSON.stringify(path)} must end in .svg, .png or .json`);
    },
  };
}

/* The parts of the drawing packages that are used; they are optional, so that their own types may be absent. */
interface VegaLite {
  compile(spec: unknown): { spec: unknown };
}
interface Vega {
  parse(spec: unknown): unknown;
  View: new (runtime: unknown, options: object) => { toSVG(): Promise<string>; finalize(): void };
}
interface Resvg {
  Resvg: new (svg: string, options: object) => { render(): { asPng(): Uint8Array } };
}

async function renderSvg(spec: unknown): Promise<string> {
  const vegaLite = await load<VegaLite>("vega-lite");
  const vega = await load<Vega>("vega");
  const view = new vega.View(vega.parse(vegaLite.compile(spec).spec), { renderer: "none" });
  try {
    return shorten(await view.toSVG());
  } finally {
    view.finalize();
  }
}

async function renderPng(svg: string, scale: number): Promise<Uint8Array> {
  if (!(scale > 0 && scale <= 20))
    throw new ValueError(`toPNG: scale must be above 0 and at most 20, got ${scale}`);
  const { Resvg } = await load<Resvg>("@resvg/resvg-js");
  const options = { fitTo: { mode: "zoom", value: scale }, font: { loadSystemFonts: true } };
  return new Resvg(svg.replaceAll(crisp, resvgCrisp), options).render().asPng();
}

/**
 * How Vega asks for images whose pixels are not blurred: in the words of SVG 1.1, then in those of today, which count
 * where they are known. This resvg knows only the older ones, but takes the later ones for a wish to blur.
 */
const crisp = "image-rendering: optimizeSpeed; image-rendering: pixelated;";
const resvgCrisp = "image-rendering: optimizeSpeed;";

/**
 * Positions to a hundredth of a unit: Vega writes them with 17 digits, which makes the file twice as large. Text between
 * tags stays as it is.
 */
function shorten(svg: string): string {
  const rounded = (number: string) => String(Math.round(Number(number) * 100) / 100);
  return svg.replace(/<[^>]*>/g, (tag) => tag.replace(/-?\d+\.\d{3,}(e-\d+)?/g, rounded));
}

const loaded = new Map<string, Promise<unknown>>();

/** An optional package, loaded when it is first needed. */
function load<Module>(name: string): Promise<Module> {
  let module = loaded.get(name);
  if (module === undefined) {
    module = import(name).catch((cause: unknown) => {
      loaded.delete(name);
      throw new FluxionError(
        `drawing needs the package ${name}, which could not be loaded ` +
          `(${cause instanceof Error ? cause.message : String(cause)}): npm install vega vega-lite @resvg/resvg-js`,
        { cause },
      );
    });
    loaded.set(name, module);
  }
  return module as Promise<Module>;
}
