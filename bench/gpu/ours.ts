import * as fx from "fluxion";
import { backendOf } from "#lib/backend/index.js";
import type { Side } from "../measure.js";
import { trainerOf } from "../trainers.js";
import type { GpuCase, GpuWork } from "./cases.js";
import { ditProgram } from "./dit.js";

export const ourName = "fluxion";

/** Seconds that one measurement should take: long beside a call, and enough for the card's clocks to rise. */
export const turnSeconds = 0.1;

/** Something that can be done many times in a row. */
interface Repeatable {
  /** Does it so many times; resolves when the results are there. */
  run(count: number): Promise<unknown>;
  dispose(): void;
}

/** Our side of a case. What it needs is made in its first turn. */
export function ourSide({ work, precision }: GpuCase, backend: fx.BackendName): Side {
  if (work.task === "tutorial") return tutorialSide(work, precision, backend);
  let made: { readonly repeatable: Repeatable; readonly count: number } | undefined;
  return {
    label: ourName,
    async turn() {
      fx.setMatmulPrecision(precision);
      made ??= await ready(repeatableOf(work, backend));
      return (await secondsOf(made.repeatable, made.count)) / made.count;
    },
    end: () => made?.repeatable.dispose(),
  };
}

/** Compiled and warm, with how often it is done in one measurement. */
async function ready(repeatable: Repeatable) {
  await repeatable.run(3);
  let count = 1;
  let seconds = await secondsOf(repeatable, count);
  while (seconds < turnSeconds / 4 && count < 100_000) {
    count *= 2;
    seconds = await secondsOf(repeatable, count);
  }
  return { repeatable, count: Math.max(1, Math.round((count * turnSeconds) / seconds)) };
}

async function secondsOf(repeatable: Repeatable, count: number): Promise<number> {
  const start = performance.now();
  await repeatable.run(count);
  return (performance.now() - start) / 1000;
}

function repeatableOf(work: Exclude<GpuWork, { task: "tutorial" }>, backend: fx.BackendName): Repeatable {
  switch (work.task) {
    case "step": {
      const trainer = trainerOf(work.objective, work, backend);
      return {
        run: (steps) => trainer.fit({ steps, progress: false }),
        dispose: () => trainer.dispose(),
      };
    }
    case "dit":
      return looped(ditProgram(work), backend);
    case "gemm": {
      const [left, right] = fx.random.split(fx.random.key(0), 2);
      const a = fx.random.normal(left!, [work.m, work.k]);
      const b = fx.random.normal(right!, [work.k, work.n]);
      return looped(() => fx.matmul(a, b), backend);
    }
  }
}

/** A program of constant inputs as a loop: its results are the state, so that each time writes them anew. */
function looped(program: () => unknown, backend: fx.BackendName): Repeatable {
  fx.setBackend(backend);
  const step = () => ({ state: program(), observed: [fx.zeros([])] });
  return fx.compileLoop(step, fx.jit(program)(), { backend: backendOf(backend) });
}

/** A whole training, with all that is traced and compiled for it. */
function tutorialSide(
  work: Extract<GpuWork, { task: "tutorial" }>,
  precision: GpuCase["precision"],
  backend: fx.BackendName,
): Side {
  return {
    label: ourName,
    async turn() {
      fx.setMatmulPrecision(precision);
      const start = performance.now();
      const trainer = trainerOf(work.objective, work, backend);
      await trainer.fit({ steps: work.steps, progress: false });
      const seconds = (performance.now() - start) / 1000;
      trainer.dispose();
      return seconds;
    },
  };
}
