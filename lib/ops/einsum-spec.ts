import { ShapeError, ValueError } from "../errors.js";
import { type Shape, show } from "../tensor/shape.js";

/** What an einsum computes: every axis has a label, and axes of one label run together. */
export interface EinsumSpec {
  /** The labels of each operand's axes. An axis under an ellipsis is labelled by its place from the end. */
  readonly inputs: readonly (readonly string[])[];
  readonly output: readonly string[];
  readonly sizes: ReadonlyMap<string, number>;
}

/** A term of the specification: its labels before and after the ellipsis, if there is one. */
interface Term {
  readonly text: string;
  readonly before: readonly string[];
  /** Undefined when there is no ellipsis. */
  readonly after: readonly string[] | undefined;
}

/**
 * Reads a specification, such as "...ij,jk->...ik", for operands of these shapes. Without "->" the output is the
 * axes of the ellipses and then, in alphabetical order (capitals first), the labels that occur once.
 */
export function parseEinsum(where: string, spec: string, shapes: readonly Shape[]): EinsumSpec {
  const [left, right, ...more] = spec.replace(/ /g, "").split("->");
  if (more.length > 0) throw new ValueError(`${where}: more than one "->"`);
  const terms = left!.split(",").map((text) => parseTerm(where, text));
  if (terms.length !== shapes.length)
    throw new ValueError(
      `${where}: ${terms.length} ${terms.length === 1 ? "term" : "terms"} for ${shapes.length} operands`,
    );
  const inputs = terms.map((term, i) => inputLabels(where, term, i, shapes[i]!));
  const sizes = sizesOf(where, inputs, shapes);
  const covered = [...sizes.keys()].filter(isCovered).sort((a, b) => placeOf(b) - placeOf(a));
  const output =
    right === undefined
      ? [...covered, ...lettersMetOnce(inputs)]
      : outputLabels(where, parseTerm(where, right), covered, sizes);
  return { inputs, output, sizes };
}

function parseTerm(where: string, text: string): Term {
  const parts = text.split("...");
  if (parts.length > 2) throw new ValueError(`${where}: more than one ellipsis in "${text}"`);
  const [before, after] = parts.map((part) => {
    const wrong = /[^a-zA-Z]/.exec(part);
    if (wrong !== null)
      throw new ValueError(
        `${where}: "${wrong[0]}" in "${text}" is no index: use letters, and "..." for axes without names`,
      );
    return [...part];
  });
  return { text, before: before!, after };
}

/** The label of the axis that is so many places before the last one under an ellipsis. */
const coveredLabel = (place: number) => `...${place}`;
const isCovered = (label: string) => label.startsWith("...");
const placeOf = (label: string) => Number(label.slice(3));

function inputLabels(where: string, { text, before, after }: Term, operand: number, shape: Shape): string[] {
  const named = before.length + (after?.length ?? 0);
  const covered = shape.length - named;
  if (after === undefined ? covered !== 0 : covered < 0)
    throw new ShapeError(
      `${where}: operand ${operand} of shape ${show(shape)} has ${shape.length} axes, "${text}" names ${named}`,
    );
  const middle = Array.from({ length: covered }, (_, i) => coveredLabel(covered - 1 - i));
  return [...before, ...middle, ...(after ?? [])];
}

/** The size of each label: axes of one label have equal sizes, or 1, which is repeated. */
function sizesOf(
  where: string,
  inputs: readonly (readonly string[])[],
  shapes: readonly Shape[],
): Map<string, number> {
  const found = new Map<string, { size: number; operand: number }>();
  const differ = (label: string, a: string, b: string): never => {
    const name = isCovered(label) ? `an axis under "..."` : `index ${label}`;
    throw new ShapeError(`${where}: ${name} is ${a} and ${b}`);
  };
  inputs.forEach((labels, operand) => {
    labels.forEach((label, axis) => {
      const size = shapes[operand]![axis]!;
      const first = shapes[operand]![labels.indexOf(label)]!;
      // A diagonal does not broadcast.
      if (size !== first) differ(label, String(first), `${size} in operand ${operand}`);
      const known = found.get(label);
      if (known === undefined || known.size === 1) found.set(label, { size, operand });
      else if (size !== 1 && size !== known.size)
        differ(label, `${known.size} in operand ${known.operand}`, `${size} in operand ${operand}`);
    });
  });
  return new Map([...found].map(([label, { size }]) => [label, size]));
}

function lettersMetOnce(inputs: readonly (readonly string[])[]): string[] {
  const all = inputs.flat().filter((label) => !isCovered(label));
  return all.filter((label) => all.indexOf(label) === all.lastIndexOf(label)).sort();
}

function outputLabels(
  where: string,
  { text, before, after }: Term,
  covered: readonly string[],
  sizes: ReadonlyMap<string, number>,
): string[] {
  if (after === undefined && covered.length > 0)
    throw new ValueError(
      `${where}: the output "${text}" needs an ellipsis for the axes under those before it`,
    );
  const letters = [...before, ...(after ?? [])];
  for (const letter of letters) {
    if (!sizes.has(letter)) throw new ValueError(`${where}: index ${letter} of the output is in no operand`);
    if (letters.indexOf(letter) !== letters.lastIndexOf(letter))
      throw new ValueError(`${where}: index ${letter} is twice in the output`);
  }
  return [...before, ...covered, ...(after ?? [])];
}
