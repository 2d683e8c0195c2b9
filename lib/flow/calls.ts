import type { Jitted } from "../compile/jit.js";

/** A call of a compiled program that a computation needs, and that whoever runs it makes at once or off the main thread. */
interface Call {
  now(): unknown;
  later(): Promise<unknown>;
}

/** A computation in which compiled programs are called by `yield* call(...)`: one text for both ways to run it. */
export type Calls<Result> = Generator<Call, Result, unknown>;

/** program(...args). */
// biome-ignore lint/suspicious/noExplicitAny: the signature of F is kept whole.
export function* call<F extends (...args: any[]) => unknown>(
  program: Jitted<F>,
  ...args: Parameters<F>
): Calls<ReturnType<F>> {
  return (yield { now: () => program(...args), later: () => program.async(...args) }) as ReturnType<F>;
}

/** Runs the computation here. */
export function run<Result>(calls: Calls<Result>): Result {
  let turn = calls.next();
  while (!turn.done) turn = calls.next(turn.value.now());
  return turn.value;
}

/** Runs the computation's programs off the main thread, one after the other. */
export async function runAsync<Result>(calls: Calls<Result>): Promise<Result> {
  let turn = calls.next();
  while (!turn.done) turn = calls.next(await turn.value.later());
  return turn.value;
}
