import t from "tap";
import { userLocation } from "#lib/location.js";

type Prepare = NonNullable<typeof Error.prepareStackTrace>;

function foundBy(prepare: Prepare): string | undefined {
  const usual = Error.prepareStackTrace;
  Error.prepareStackTrace = prepare;
  try {
    return userLocation();
  } finally {
    if (usual === undefined) delete (Error as { prepareStackTrace?: unknown }).prepareStackTrace;
    else Error.prepareStackTrace = usual;
  }
}

/** What is found in a stack of these lines, as engines write them. */
const foundIn = (...lines: string[]) => foundBy(() => ["Error", ...lines].join("\n"));

const cwd = process.cwd();

t.test("the innermost frame outside of the library's folder", async (t) => {
  const library = [
    "    at stackLines (file:///app/node_modules/fluxion/dist/location.js:40:5)",
    "    at Tensor.value [as add] (file:///app/node_modules/fluxion/dist/ops/methods.js:9:1)",
    "    at Array.map (<anonymous>)",
  ];
  t.equal(foundIn(...library, "    at loss (file:///app/src/model.js:12:7)"), "/app/src/model.js:12:7");
  t.equal(foundIn(...library, "    at file:///app/main.js:3:4"), "/app/main.js:3:4", "at the top level");
  t.equal(foundIn(...library, "    at async main (/app/a.js:1:2)"), "/app/a.js:1:2", "a path, awaited");
  t.equal(foundIn(...library, "    at async file:///app/b.js:1:2"), "/app/b.js:1:2");
  t.equal(foundIn(...library, "    at new Model (file:///app/c.js:1:2)"), "/app/c.js:1:2");
  t.equal(foundIn(...library, "    at f (file:///app/my%20code/d.js?v=2:1:2)"), "/app/my code/d.js:1:2");
  t.equal(foundIn(...library, "    at /app/e (old)/f.js:1:2"), "/app/e (old)/f.js:1:2");
  t.equal(foundIn(...library, "    at g (/app/e (old)/f.js:1:2)"), "/app/e (old)/f.js:1:2");
  t.equal(foundIn(...library, "    at evalmachine.<anonymous>:2:1"), "evalmachine.<anonymous>:2:1");
  t.equal(foundIn(...library, "    at [eval]:1:3"), "[eval]:1:3");
  t.equal(
    foundIn(...library, `    at f (file://${cwd}/src/a.js:1:2)`),
    "src/a.js:1:2",
    "relative to the current directory",
  );
  t.equal(foundIn(...library, `    at f (${cwd}-old/a.js:1:2)`), `${cwd}-old/a.js:1:2`);
});

t.test("the engine's frames are passed over, those of other packages come last", async (t) => {
  const library = "    at stackLines (/app/node_modules/fluxion/dist/location.js:40:5)";
  const node = "    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)";
  const generated = "    at eval (eval at build (/app/x.js:1:1), <anonymous>:3:4)";
  const other = "    at run (/app/node_modules/runner/index.js:5:6)";
  const user = "    at f (/app/a.js:1:2)";
  t.equal(foundIn(library, node, generated, other, user), "/app/a.js:1:2");
  t.equal(foundIn(library, node, other, node), "/app/node_modules/runner/index.js:5:6");
  t.equal(foundIn(library, node, generated), undefined);
  t.equal(foundIn(library), undefined);
  t.equal(foundIn(), undefined, "no frames at all");
});

t.test("Windows, and source maps that show the library's sources", async (t) => {
  const inUrl = "    at stackLines (file:///C:/app/node_modules/fluxion/dist/location.js:40:5)";
  t.equal(foundIn(inUrl, "    at f (C:\\app\\a.js:1:2)"), "C:/app/a.js:1:2");
  t.equal(foundIn(inUrl, "    at f (file:///C:/app/a.js:1:2)"), "C:/app/a.js:1:2");
  t.equal(
    foundIn(
      inUrl,
      "    at g (C:\\app\\node_modules\\fluxion\\dist\\ops\\raw.js:1:1)",
      "    at f (C:\\app\\a.js:1:2)",
    ),
    "C:/app/a.js:1:2",
  );
  t.equal(
    foundIn(
      "    at stackLines (/app/node_modules/fluxion/lib/location.ts:40:5)",
      "    at emit (/app/node_modules/fluxion/lib/graph/trace.ts:1:1)",
      "    at f (/app/a.ts:1:2)",
    ),
    "/app/a.ts:1:2",
  );
});

t.test("other engines and bundles", async (t) => {
  t.equal(
    foundIn(
      "stackLines@http://host/fluxion/dist/location.js:40:5",
      "add@http://host/fluxion/dist/ops/raw.js:1:1",
      "f@http://host/app/main.js:1:2",
    ),
    "http://host/app/main.js:1:2",
  );
  const bundle = "    at stackLines (http://host/assets/bundle.js:1:9000)";
  t.equal(foundIn(bundle, "    at f (http://host/assets/bundle.js:1:2)"), undefined, "all in one file");
  t.equal(foundIn(bundle, "    at f (http://host/assets/app.js:1:2)"), "http://host/assets/app.js:1:2");
});

t.test("a stack that cannot be had is no error", async (t) => {
  const limit = Error.stackTraceLimit;
  const fail = () => {
    throw new RangeError("no");
  };
  for (const prepare of [() => 3, () => undefined, (_: Error, sites: object[]) => sites, fail])
    t.equal(foundBy(prepare), undefined);
  t.equal(Error.stackTraceLimit, limit);
});
