import { ValueError } from "./errors.js";

/**
 * Throws ValueError unless `options` is an object with no other keys than `known`: a misspelt option must not be
 * silently ignored.
 */
export function checkOptions(where: string, options: unknown, known: readonly string[]): void {
  if (typeof options !== "object" || options === null || Array.isArray(options))
    throw new ValueError(`${where}: options must be an object, got ${describe(options)}`);
  for (const name of Object.keys(options))
    if (!known.includes(name))
      throw new ValueError(
        `${where}: unknown option ${JSON.stringify(name)}; known options: ${known.length === 0 ? "none" : known.join(", ")}`,
      );
}

/** The limits of a numeric option; each is inclusive unless its name says otherwise. */
export interface NumberLimits {
  readonly min?: number;
  readonly max?: number;
  readonly above?: number;
  readonly below?: number;
}

/** The value, if it is a finite number within the limits; else ValueError naming the option, the value and the limits. */
export function checkNumber(where: string, name: string, value: unknown, limits: NumberLimits = {}): number {
  const { min = -Infinity, max = Infinity, above = -Infinity, below = Infinity } = limits;
  const fits =
    typeof value === "number" &&
    Number.isFinite(value) &&
    value >= min &&
    value <= max &&
    value > above &&
    value < below;
  if (!fits)
    throw new ValueError(`${where}: ${name} must be a finite number${range(limits)}, got ${describe(value)}`);
  return value;
}

/** The value, if it is a pair [low, high] of numbers within the limits, low <= high; else ValueError. */
export function checkRange(
  where: string,
  name: string,
  value: unknown,
  limits: NumberLimits = {},
): readonly [number, number] {
  if (!Array.isArray(value) || value.length !== 2)
    throw new ValueError(`${where}: ${name} must be a pair [low, high], got ${describe(value)}`);
  const [low, high] = value.map((end, i) => checkNumber(where, `${name}[${i}]`, end, limits));
  if (low! > high!) throw new ValueError(`${where}: ${name} must be [low, high], got [${low}, ${high}]`);
  return [low!, high!];
}

/** The value, if it is a whole number >= min (default 1); else ValueError. */
export function checkCount(where: string, name: string, value: unknown, min = 1): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min)
    throw new ValueError(`${where}: ${name} must be a whole number >= ${min}, got ${describe(value)}`);
  return value;
}

/** The value, if it is one of the names; else ValueError listing them. */
export function checkChoice<T extends string>(
  where: string,
  name: string,
  value: unknown,
  choices: readonly T[],
): T {
  if (!choices.includes(value as T))
    throw new ValueError(
      `${where}: ${name} must be one of ${choices.map((c) => JSON.stringify(c)).join(", ")}, got ${describe(value)}`,
    );
  return value as T;
}

/** The value, if it is true or false; else ValueError. */
export function checkFlag(where: string, name: string, value: unknown): boolean {
  if (typeof value !== "boolean")
    throw new ValueError(`${where}: ${name} must be true or false, got ${describe(value)}`);
  return value;
}

function range({ min, max, above, below }: NumberLimits): string {
  const parts = [
    min === undefined ? "" : ` >= ${min}`,
    above === undefined ? "" : ` > ${above}`,
    max === undefined ? "" : ` <= ${max}`,
    below === undefined ? "" : ` < ${below}`,
  ].filter(Boolean);
  return parts.join(" and");
}

/** A value for an error message. */
export function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (value === null) return "null";
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === "object") return `an object { ${Object.keys(value).slice(0, 8).join(", ")} }`;
  return typeof value === "function" ? "a function" : String(value);
}
