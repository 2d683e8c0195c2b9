import { BackendError } from "../errors.js";
import { IndexOutOfRange } from "./backend.js";

/** What an error of any kind says. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The addons throw plain errors; users get ours. */
export function translated<T>(call: () => T): T {
  try {
    return call();
  } catch (cause) {
    throw translation(cause);
  }
}

/** The same of a promise. */
export async function translatedAsync<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    throw translation(cause);
  }
}

function translation(cause: unknown): BackendError {
  if (cause instanceof BackendError) return cause;
  // The addons say at the end of the message at which site an index is out of range.
  const [, problem, site] =
    /^(index -?\d+ is out of range for an axis of size \d+)(?: at site (\d+))?$/.exec(messageOf(cause)) ?? [];
  if (problem !== undefined)
    return new IndexOutOfRange(problem, site === undefined ? undefined : Number(site));
  return new BackendError(messageOf(cause), { cause });
}
