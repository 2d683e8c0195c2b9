/** A fresh process that imports the library and trains: prints how long each part of the start took, as JSON. */
import { peakMemory } from "./memory.js";

const seconds: Record<string, number> = {};
async function part<T>(name: string, work: () => T | Promise<T>): Promise<T> {
  const start = performance.now();
  const result = await work();
  seconds[name] = (performance.now() - start) / 1000;
  return result;
}

const fx = await part("import", () => import("fluxion"));
const { currentBackend } = await import("#lib/backend/index.js");
const backend = await part("addon", currentBackend);

// The first step traces and lowers, then asks the backend to compile, then runs: note when it asks.
let asked = 0;
let compiled = 0;
const { compile } = backend;
Object.assign(backend, {
  compile(plan: Parameters<typeof compile>[0]) {
    asked = performance.now();
    const executable = compile(plan);
    compiled = performance.now();
    return executable;
  },
});

const trainer = await part(
  "parameters",
  () =>
    new fx.Trainer({
      model: fx.models.velocityMlp({ dim: 2, hidden: 128, layers: 4 }),
      objective: fx.flow.flowMatching(),
      data: fx.data.checkerboard(),
      optimizer: fx.optim.adam({ learningRate: 3e-3 }),
      batchSize: 4096,
    }),
);
const start = performance.now();
await trainer.fit({ steps: 1, progress: false });
const end = performance.now();
seconds["trace"] = (asked - start) / 1000;
seconds["compile"] = (compiled - asked) / 1000;
seconds["first step"] = (end - compiled) / 1000;

await trainer.fit({ steps: 299, progress: false });
console.log(JSON.stringify({ seconds, memory: await peakMemory() }));
