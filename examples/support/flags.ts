import { type ParseArgsConfig, parseArgs } from "node:util";
import * as fx from "fluxion";

/** A flag that cannot be understood. */
export class UsageError extends Error {}

type FlagTypes = NonNullable<ParseArgsConfig["options"]>;
type Flags<Types extends FlagTypes> = ReturnType<typeof parseArgs<{ options: Types }>>["values"];

/**
 * The flags in the arguments, as text or as true.
 *
 * @throws UsageError for an unknown flag, a value that is missing, and for anything that is no flag
 */
export function parseFlags<const Types extends FlagTypes>(
  args: readonly string[],
  options: Types,
): Flags<Types> {
  try {
    return parseArgs({ args: [...args], options }).values as Flags<Types>;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** The value of a flag that takes a whole number from `least` on; the fallback when it is not given. */
export function wholeNumber(flag: string, text: string | undefined, fallback: number, least: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < least || value > 2 ** 31 - 1)
    throw new UsageError(
      `${flag} takes a whole number from ${least} to 2147483647, got ${JSON.stringify(text)}`,
    );
  return value;
}

/**
 * Those of the choices that a flag names, separated by commas, in the order of the choices; all when it is not given, but for
 * the `further` ones, which must be named.
 */
export function chosen<Choice extends { readonly name: string }>(
  flag: string,
  text: string | undefined,
  usual: readonly Choice[],
  further: readonly Choice[] = [],
): readonly Choice[] {
  if (text === undefined) return usual;
  const choices = [...usual, ...further];
  const wanted = text.split(",").map((name) => name.trim().toLowerCase());
  const known = choices.map(({ name }) => name.toLowerCase());
  for (const name of wanted)
    if (!known.includes(name))
      throw new UsageError(
        `${flag}: there is no ${JSON.stringify(name)}; use ${choices.map((choice) => choice.name).join(", ")}`,
      );
  return choices.filter((_, i) => wanted.includes(known[i]!));
}

/** Has everything run on the backend that --backend names. */
export function useBackend(name: string): void {
  try {
    fx.setBackend(name as fx.BackendName);
  } catch (error) {
    throw new UsageError(`--backend: ${(error as Error).message}`);
  }
}

/**
 * Whether a short look is wanted, and whether it must be shorter still: without the addon a step takes some fifty times as
 * long. Sets the backend first, if a flag names one.
 */
export function quickness(flags: {
  readonly quick?: boolean | undefined;
  readonly backend?: string | undefined;
}): { quick: boolean; slow: boolean } {
  const quick = flags.quick === true;
  if (flags.backend !== undefined) useBackend(flags.backend);
  return { quick, slow: quick && fx.backend() === "typescript" };
}
