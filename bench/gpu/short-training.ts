/** A few steps of each objective on the cuda backend, at each precision: short enough for compute-sanitizer. */
import * as fx from "fluxion";
import { objectives } from "../floor.js";
import { trainerOf } from "../trainers.js";
import { precisions } from "./cases.js";

for (const precision of precisions)
  for (const objective of objectives) {
    fx.setMatmulPrecision(precision);
    const trainer = trainerOf(objective, { hidden: 64, batch: 256 }, "cuda");
    const { loss } = await trainer.fit({ steps: 3, progress: false });
    trainer.dispose();
    console.log(`${objective}, ${precision}: loss ${loss}`);
    if (!Number.isFinite(loss)) process.exitCode = 1;
  }
