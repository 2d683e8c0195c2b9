import * as fx from "fluxion";
import type { ObjectiveName } from "./floor.js";
import type { Side } from "./measure.js";

/** Hidden layers of the network in all training steps. */
export const layers = 4;

export interface StepSize {
  readonly hidden: number;
  readonly batch: number;
}

/** A training on the checkerboard, as in the demo. */
export function trainerOf(objective: ObjectiveName, { hidden, batch }: StepSize, backend: fx.BackendName) {
  const size = { dim: 2, hidden, layers };
  const optimizer = fx.optim.adam({ learningRate: 3e-3 });
  const rest = { data: fx.data.checkerboard(), optimizer, batchSize: batch, backend };
  if (objective === "fm")
    return new fx.Trainer({ model: fx.models.velocityMlp(size), objective: fx.flow.flowMatching(), ...rest });
  const loss = {
    mf: () => fx.flow.meanFlow(),
    mf75: () => fx.flow.meanFlow({ equalTimeFraction: 0.75 }),
    imf: () => fx.flow.improvedMeanFlow(),
  }[objective]();
  return new fx.Trainer({ model: fx.models.averageVelocityMlp(size), objective: loss, ...rest });
}

/** Our training steps, `steps` of them in a turn. */
export function trainingSide(
  objective: ObjectiveName,
  size: StepSize,
  backend: fx.BackendName,
  steps: number,
): Side {
  const trainer = trainerOf(objective, size, backend);
  return {
    label: backend,
    async turn() {
      const { seconds } = await trainer.fit({ steps, progress: false });
      return seconds / steps;
    },
    end: () => trainer.dispose(),
  };
}
