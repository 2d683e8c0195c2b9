/**
 * A small diffusion transformer that draws digits in one step: `npm run demo:glyphs` trains it by mean flow on images
 * drawn by code, and writes a grid of one-step samples beside drawn ones.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import * as fx from "fluxion";

const help = `Trains a diffusion transformer by mean flow on drawn digits, and draws some in one step.

usage: npm run demo:glyphs -- [flags]

  --steps N                  training steps (default 4000)
  --seed N                   seed of parameters, batches and samples (default 0)
  --conditioning NAME        adaLN-zero or in-context (default adaLN-zero)
  --out FOLDER               where the figures go (default runs/glyphs)
  --help                     this text`;

const perClass = 8;
const sampleKey = 1;

async function main(options: {
  steps: number;
  seed: number;
  conditioning: string;
  out: string;
}): Promise<void> {
  const { steps, seed, out } = options;
  const data = fx.data.glyphs({ size: 16 });
  const trainer = new fx.Trainer({
    model: fx.models.averageVelocityDit({
      dim: [16, 16, 1],
      patch: 4,
      hidden: 96,
      depth: 4,
      heads: 4,
      classes: data.classes,
      conditioning: options.conditioning as "adaLN-zero",
    }),
    // As in the mean flow paper: r = t for three samples of four, times that favour the middle, adaptive weights.
    objective: fx.flow.meanFlow({
      equalTimeFraction: 0.75,
      times: fx.flow.logitNormalTimes({ mean: -0.4, std: 1 }),
      weighting: fx.flow.adaptiveWeighting({ power: 1, offset: 0.01 }),
    }),
    data,
    optimizer: fx.optim.adam({
      learningRate: fx.optim.warmupCosine({ peak: 2e-3, warmupSteps: Math.min(100, steps >> 2), steps }),
    }),
    batchSize: 128,
    seed,
    ema: 0.999,
  });
  await trainer.fit({ steps, progress: { label: "mean flow" } });

  const label = fx.tensor(
    Array.from({ length: data.classes * perClass }, (_, i) => Math.floor(i / perClass)),
    { dtype: "int32" },
  );
  const key = fx.random.key(seed + sampleKey);
  const sampled = await trainer.sample(label.size, { sampler: fx.flow.oneStep(), condition: label, key });
  const drawn = data.sampleLabelled(key, label.size, { labels: label }).data;
  for (const [name, images, title] of [
    ["one-step", sampled, `One-step samples, ${steps} training steps`],
    ["data", drawn, "Drawn by code"],
  ] as const) {
    const figure = fx.plot.imageGrid(images, { columns: perClass, rowLabels: data.classNames, title });
    await figure.save(join(out, `${name}.svg`));
    await fx.io.writeFileAtomic(join(out, `${name}.png`), await figure.toPNG());
  }
  console.log(`Figures: ${join(out, "one-step.png")} and ${join(out, "data.png")}`);
}

function readOptions(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      steps: { type: "string", default: "4000" },
      seed: { type: "string", default: "0" },
      conditioning: { type: "string", default: "adaLN-zero" },
      out: { type: "string", default: "runs/glyphs" },
      help: { type: "boolean" },
    },
  });
  const whole = (name: "steps" | "seed", min: number) => {
    const value = Number(values[name]);
    if (!Number.isSafeInteger(value) || value < min)
      throw new TypeError(`--${name} must be a whole number from ${min} on, got ${values[name]}`);
    return value;
  };
  return {
    steps: whole("steps", 1),
    seed: whole("seed", 0),
    conditioning: values.conditioning,
    out: values.out,
    help: values.help === true,
  };
}

try {
  const options = readOptions(process.argv.slice(2));
  if (options.help) console.log(help);
  else await main(options);
} catch (error) {
  if (error instanceof TypeError) {
    console.error(`${error.message}\nSee npm run demo:glyphs -- --help`);
    process.exitCode = 2;
  } else if (error instanceof fx.FluxionError) {
    console.error(`${error.name}: ${error.message}`);
    process.exitCode = 1;
  } else throw error;
}
