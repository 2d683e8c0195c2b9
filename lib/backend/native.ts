import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { BackendError } from "../errors.js";
import { IndexOutOfRange } from "./backend.js";

/**
 * Loads the addon of this name. It lies at the same place relative to lib/backend and dist/backend. Throws BackendError,
 * with the reason that the install noted, where it is not built.
 */
export function loadAddon<A extends { stop(): void }>(name: "cpu" | "cuda"): A {
  const path = fileURLToPath(new URL(`../../build/${name}/Release/fluxion_${name}.node`, import.meta.url));
  if (!existsSync(path)) {
    throw new BackendError(
      `the ${name} addon is not built${buildFailure(name)}; "npm run build:native" builds it`,
    );
  }
  let addon: A;
  try {
    addon = createRequire(import.meta.url)(path) as A;
  } catch (cause) {
    throw new BackendError(`the ${name} addon cannot be loaded: ${message(cause)}`, { cause });
  }
  // Node waits for its worker threads before it exits: let running loops end with the step at hand.
  process.once("exit", addon.stop);
  return addon;
}

/** Why the install could not build the addon, as it noted; empty when it left no note. */
function buildFailure(name: "cpu" | "cuda"): string {
  try {
    const note = readFileSync(new URL("../../build/native-status.json", import.meta.url), "utf8");
    const reason = (JSON.parse(note) as Record<string, { reason?: string | null } | undefined>)[name]?.reason;
    return reason ? ` (${reason})` : "";
  } catch {
    return "";
  }
}

/** Calls an addon, which throws plain errors; users get ours. */
export function translated<T>(call: () => T): T {
  try {
    return call();
  } catch (cause) {
    throw translation(cause);
  }
}

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
    /^(index -?\d+ is out of range for an axis of size \d+)(?: at site (\d+))?$/.exec(message(cause)) ?? [];
  if (problem !== undefined)
    return new IndexOutOfRange(problem, site === undefined ? undefined : Number(site));
  return new BackendError(message(cause), { cause });
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
