import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as fx from "fluxion";
import t from "tap";

/** The blocks of a page that are code, in order. */
function blocks(page: string): string[] {
  const text = readFileSync(fileURLToPath(new URL(`../../docs/${page}`, import.meta.url)), "utf8");
  return [...text.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) => code!);
}

const AsyncFunction = (async () => {}).constructor as FunctionConstructor;

t.test("the code in docs/flow.md runs", async (t) => {
  const given = {
    ...fx,
    board: fx.data.checkerboard(),
    optimizer: fx.optim.adam({ learningRate: 1e-3 }),
    batchSize: 64,
    field: fx.models.averageVelocityMlp({ dim: 2, hidden: 8, layers: 1 }),
  };
  const code = blocks("flow.md");
  t.ok(code.length >= 3, `${code.length} blocks`);
  for (const block of code) {
    // Its names are those of the page, the library's and what `given` adds.
    const run = new AsyncFunction("given", `with (given) { await (async () => {${block}\n})(); }`);
    await t.resolves(run(given) as unknown as Promise<void>, block.split("\n")[0]!);
  }
});
