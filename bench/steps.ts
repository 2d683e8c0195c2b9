import * as fx from "fluxion";
import type { Row } from "./index.js";
import { alternate, bestTorch, type Side } from "./measure.js";
import type { Setting } from "./peers/torch.js";

const hidden = 128;
const layers = 4;
const batch = 4096;

const objectives = ["fm", "mf", "imf"] as const;
type ObjectiveName = (typeof objectives)[number];

const titles: Record<ObjectiveName, string> = {
  fm: "flow matching",
  mf: "mean flow",
  imf: "improved mean flow",
};

/** Steps in one turn. */
const turnSteps = { cuda: 50, cpu: 10, typescript: 1 } as const;

export async function* benchSteps(
  backends: readonly fx.BackendName[],
  settings: readonly Setting[],
  quick: boolean,
): AsyncGenerator<Row> {
  for (const objective of objectives) {
    const trainers = backends.map((name) => ({ name, trainer: trainerOf(objective, name) }));
    const sides: Side[] = trainers.map(({ name, trainer }) => ours(name, trainer));
    if (settings.length > 0) {
      const work = { task: "step", objective, hidden, layers, batch };
      const ways = objective === "fm" ? ["none"] : ["forward", "double-backward"];
      const variants = ways.map((jvp) => ({ ...work, jvp }));
      sides.push(await bestTorch(settings, variants, 5, 1));
    }
    yield { section: "step", name: titles[objective], timings: await alternate(sides, quick ? 3 : 9) };
    for (const { trainer } of trainers) trainer.dispose();
  }
}

type AnyTrainer = Pick<fx.Trainer<ReturnType<typeof fx.models.velocityMlp>>, "fit" | "dispose">;

function trainerOf(objective: ObjectiveName, backend: fx.BackendName): AnyTrainer {
  const size = { dim: 2, hidden, layers };
  const optimizer = fx.optim.adam({ learningRate: 3e-3 });
  const rest = { data: fx.data.checkerboard(), optimizer, batchSize: batch, backend };
  if (objective === "fm")
    return new fx.Trainer({ model: fx.models.velocityMlp(size), objective: fx.flow.flowMatching(), ...rest });
  return new fx.Trainer({
    model: fx.models.averageVelocityMlp(size),
    objective: objective === "mf" ? fx.flow.meanFlow() : fx.flow.improvedMeanFlow(),
    ...rest,
  });
}

function ours(name: fx.BackendName, trainer: AnyTrainer): Side {
  return {
    label: name,
    async turn() {
      const { seconds } = await trainer.fit({ steps: turnSteps[name], progress: false });
      return [seconds / turnSteps[name]];
    },
  };
}
