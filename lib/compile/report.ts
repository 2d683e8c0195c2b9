import type { Inspection } from "./inspect.js";
import type { Kernel } from "./kernels.js";

const width = 110;
/** A graph of more lines is shown by its first and last ones. */
const mostLines = 40;
const firstLines = 24;
const lastLines = 8;

/** An inspection as text: totals, graph, kernels, memory. */
export function report(inspection: Inspection, full: boolean): string {
  return [
    header(inspection),
    graphText(String(inspection.graph), full),
    kernelTable(inspection, full),
    memoryText(inspection),
  ].join("\n\n");
}

function header({ backend, kernels, flops, transcendentals, bytes }: Inspection): string {
  const read = kernels.reduce((sum, kernel) => sum + kernel.bytesRead, 0);
  const intensity = bytes === 0 ? "" : `, ${Number((flops / bytes).toPrecision(3))} FLOP a byte`;
  return [
    `${counted(kernels.length, "kernel")} on the ${backend} backend`,
    `  ${quantity(flops, "FLOP")}, of them ${quantity(transcendentals, "")} transcendental`,
    `  ${quantity(read, "B")} read, ${quantity(bytes - read, "B")} written${intensity}`,
  ].join("\n");
}

function graphText(text: string, full: boolean): string {
  const lines = text.split("\n").map((line) => `  ${line}`);
  // The last line lists the outputs.
  const title = `graph of ${counted(lines.length - 1, "value")}`;
  if (full) return [title, ...lines].join("\n");
  if (lines.length <= mostLines) return [title, ...lines.map(clipped)].join("\n");
  const hidden = lines.length - firstLines - lastLines;
  return [
    title,
    ...lines.slice(0, firstLines).map(clipped),
    `  ... ${hidden} more; toString({ full: true }) shows them`,
    ...lines.slice(-lastLines).map(clipped),
  ].join("\n");
}

const clipped = (line: string) => cut(line, width);
export const cut = (text: string, length: number) =>
  text.length <= length ? text : `${text.slice(0, length - 1)}…`;

interface TableRow {
  readonly number: string;
  readonly kernel: string;
  readonly gives: string;
  /** Flops, their share, bytes, their share. */
  readonly figures: readonly string[];
}

function kernelTable({ kernels, flops, bytes }: Inspection, full: boolean): string {
  if (kernels.length === 0) return "no kernels: every output is an input";
  const share = (part: number, whole: number) => (whole === 0 ? "" : `${((100 * part) / whole).toFixed(1)}%`);
  const rowsOf = (kernel: Kernel, number: string, depth: number): TableRow[] => {
    const touched = kernel.bytesRead + kernel.bytesWritten;
    const place = kernel.location === undefined ? "" : ` (${kernel.location})`;
    // What a part of a strip touches mostly stays in the cache, and adds up to more than the strip's own traffic.
    const traffic =
      depth === 0 ? [quantity(touched, "B"), share(touched, bytes)] : [`(${quantity(touched, "B")})`, ""];
    return [
      {
        number,
        kernel: `${"  ".repeat(depth)}${kernel.description}${place}`,
        gives: [...new Set(kernel.outputs.flatMap(({ value }) => value ?? []))].join(" "),
        figures: [quantity(kernel.flops, ""), share(kernel.flops, flops), ...traffic],
      },
      ...kernel.parts.flatMap((part, i) => rowsOf(part, `${number}.${i + 1}`, depth + 1)),
    ];
  };
  const head = { number: "#", kernel: "kernel", gives: "gives", figures: ["FLOP", "", "touches", ""] };
  const rows = [head, ...kernels.flatMap((kernel, i) => rowsOf(kernel, String(i + 1), 0))];

  const widest = (texts: readonly string[]) => Math.max(...texts.map((text) => text.length));
  const numbers = widest(rows.map(({ number }) => number));
  const figures = head.figures.map((_, i) => widest(rows.map((row) => row.figures[i]!)));
  const rest = width - numbers - figures.reduce((sum, n) => sum + 2 + n, 0) - 4 - 2;
  const most = full ? Infinity : 18;
  const gives = Math.min(most, widest(rows.map((row) => row.gives)));
  const kernel = Math.min(full ? Infinity : rest - gives, widest(rows.map((row) => row.kernel)));
  const lines = rows.map((row) =>
    [
      `  ${row.number.padEnd(numbers)}`,
      cut(row.kernel, kernel).padEnd(kernel),
      cut(row.gives, gives).padEnd(gives),
      ...row.figures.map((text, i) => text.padStart(figures[i]!)),
    ]
      .join("  ")
      .trimEnd(),
  );
  if (kernels.some(({ parts }) => parts.length > 0))
    lines.push("  (in a strip: most of it stays in the cache from part to part)");
  return lines.join("\n");
}

function memoryText({ memory: { inputs, outputs, arena, local }, peakBytes }: Inspection): string {
  const parts = [
    `inputs ${quantity(inputs, "B")}`,
    `outputs ${quantity(outputs, "B")}`,
    `temporaries ${quantity(arena, "B")}`,
    ...(local === 0 ? [] : [`a block or turn ${quantity(local, "B")}`]),
  ];
  return `memory ${quantity(peakBytes, "B")}: ${parts.join(", ")}`;
}

export const counted = (n: number, noun: string) => `${n} ${noun}${n === 1 ? "" : "s"}`;

const prefixes = ["", "k", "M", "G", "T", "P"];

/** Three digits and a decimal prefix: 1234567 B is "1.23 MB". */
export function quantity(value: number, unit: string): string {
  let power = 0;
  let scaled = value;
  // 999.5 and more would be shown as 1000.
  while (scaled >= 999.5 && power < prefixes.length - 1) {
    scaled /= 1000;
    power++;
  }
  const digits = power === 0 ? String(value) : scaled.toPrecision(3);
  return `${digits} ${prefixes[power]}${unit}`.trimEnd();
}
