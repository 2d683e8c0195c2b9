import * as fx from "fluxion";
import t from "tap";

const { flow, models } = fx;
const { recipes } = flow;
const board = fx.data.checkerboard();
const small = { dim: 2, hidden: 32, layers: 2, steps: 800 } as const;

t.test("a recipe is the options of a trainer but data and seed", async (t) => {
  for (const [name, recipe] of Object.entries({
    tutorial: recipes.tutorial(small),
    paper: recipes.paper(small),
    best: recipes.best(small),
  })) {
    const { model, objective, optimizer, ...rest } = recipe;
    const trainer = new fx.Trainer({
      ...rest,
      model,
      objective,
      optimizer: optimizer as fx.optim.Optimizer,
      data: board,
      seed: 1,
      batchSize: 64,
    });
    await trainer.fit({ steps: 3, progress: false });
    t.equal(trainer.losses.length, 3, name);
    const drawn = await trainer.sample(5, { sampler: flow.oneStep() });
    t.same(drawn.shape, [5, 2]);
  }
  const ready = new fx.Trainer({ ...recipes.tutorial({ dim: 2 }), data: board });
  t.equal(
    fx.tree.leaves(ready.params).reduce((n, x) => n + x.size, 0),
    50_434,
    "5 layers of a 4 x 128 network",
  );
});

t.test("the tutorial's setting is what it says", async (t) => {
  const { objective, batchSize, ...rest } = recipes.tutorial({ dim: 2 });
  t.equal(batchSize, 4096);
  t.notOk("ema" in rest);
  const key = fx.random.key(1);
  const { r, t: end, equalCount } = objective.sampleTimes(key, 100);
  const plain = flow.meanFlow().sampleTimes(key, 100);
  t.equal(equalCount, 0);
  t.same([r.toArray(), end.toArray()], [plain.r.toArray(), plain.t.toArray()]);
});

t.test("the paper's setting is what it says", async (t) => {
  const { model, objective, batchSize, ema } = recipes.paper({ dim: 2 });
  t.equal(batchSize, 256);
  t.equal(ema, 0.9999);
  const { t: end, equalCount } = objective.sampleTimes(fx.random.key(1), 20_000);
  t.equal(equalCount, 15_000);
  const logits = (end.toArray() as number[][]).slice(0, equalCount).map(([x]) => Math.log(x! / (1 - x!)));
  const mean = logits.reduce((a, b) => a + b, 0) / logits.length;
  t.ok(Math.abs(mean + 0.4) < 0.03, `the logits' mean is ${mean}`);
  const params = model.init(fx.random.key(2));
  const points = {
    data: board.sample(fx.random.key(3), 64),
    noise: fx.random.normal(fx.random.key(4), [64, 2]),
    ...objective.sampleTimes(fx.random.key(5), 64),
  };
  const { loss } = objective.lossAndRaw(model, params, points);
  t.ok(
    loss.item() < 1 && loss.item() > 0.9,
    `weighted by its own inverse, the loss is nearly 1: ${loss.item()}`,
  );
  t.equal(recipes.paper({ dim: 2, ema: 0.9, learningRate: 1e-3 }).ema, 0.9);
});

t.test(
  "with the best setting a small network soon fills the tiles better than with the tutorial's",
  async (t) => {
    const drawn = async (recipe: ReturnType<typeof recipes.tutorial> | ReturnType<typeof recipes.best>) => {
      const optimizer = recipe.optimizer as fx.optim.Optimizer;
      const trainer = new fx.Trainer({ ...recipe, optimizer, data: board, batchSize: 512 });
      await trainer.fit({ steps: small.steps, progress: false });
      return trainer.sample(4000, { sampler: flow.oneStep(), params: "live" });
    };
    const [tutorial, best] = [await drawn(recipes.tutorial(small)), await drawn(recipes.best(small))];
    const [worse, better] = [tutorial, best].map((x) => fx.metrics.checkerboardValidity(x)) as [
      number,
      number,
    ];
    t.ok(better > worse + 0.03, `${better} against ${worse}`);
  },
);

t.test("wrong options of recipes are named", async (t) => {
  for (const recipe of [recipes.tutorial, recipes.paper, recipes.best]) {
    t.throws(() => recipe({ dim: 0 }), { name: "ValueError" });
    t.throws(() => recipe({ dim: 2, steps: 0 }), { name: "ValueError" });
    t.throws(() => recipe({ dim: 2, width: 3 } as never), { name: "ValueError", message: /width/ });
  }
  t.throws(() => recipes.paper({ dim: 2, ema: 2 }), { name: "ValueError" });
  t.equal(models.averageVelocityMlp({ dim: 2 }).kind, recipes.best({ dim: 2 }).model.kind);
});
