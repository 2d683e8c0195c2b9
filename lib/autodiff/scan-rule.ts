import type { Batch, Dual } from "../graph/callee.js";
import type { Graph, Node, Spec } from "../graph/graph.js";
import type { Attributes } from "../graph/primitives.js";
import { emitSeveral, replay, traceGraph } from "../graph/trace.js";
import { repeated } from "../ops/batching.js";
import * as raw from "../ops/raw.js";
import type { Tangent } from "../ops/rules.js";
import type { Tensor } from "../tensor/tensor.js";
import { batchGraph } from "./batch.js";
import { traceClosed } from "./closed.js";
import { applyLinear, divide, linearizeGraph, pushForward, transposeGraph } from "./differentiate.js";
import type { SeveralRule } from "./several.js";

type Scan = Attributes["scan"];

/** The three parts of a scan's inputs (or of anything listed like them). */
function parts<T>(list: readonly T[], { consts, carries }: Scan): [T[], T[], T[]] {
  return [list.slice(0, consts), list.slice(consts, consts + carries), list.slice(consts + carries)];
}

/** A closed graph for the body of a scan: what its function captured becomes consts, its first inputs. */
export function closedBody(
  f: (inputs: Tensor[]) => readonly Tensor[],
  specs: readonly Spec[],
  ofUser = false,
): { body: Graph; captured: readonly Tensor[] } {
  const { graph, captured } = traceClosed(f, specs, ofUser);
  const own = graph.inputs.length - captured.length;
  return {
    body: { ...graph, inputs: [...graph.inputs.slice(own), ...graph.inputs.slice(0, own)] },
    captured,
  };
}

/** A scan whose body may capture tensors of the current trace; `consts` counts those that are given here. */
function emitScan(
  f: (inputs: Tensor[]) => readonly Tensor[],
  lists: { consts: readonly Tensor[]; carries: readonly Tensor[]; xs: readonly Tensor[] },
  { length, reverse }: Pick<Scan, "length" | "reverse">,
): Tensor[] {
  const { consts, carries, xs } = lists;
  const slices = xs.map(({ shape, dtype }) => ({ shape: shape.slice(1), dtype }));
  const { body, captured } = closedBody(f, [...consts, ...carries, ...slices]);
  return emitSeveral("scan", [...captured, ...consts, ...carries, ...xs], {
    body,
    length,
    reverse,
    consts: captured.length + consts.length,
    carries: carries.length,
  });
}

const present = <T>(list: readonly (T | undefined)[]): T[] => list.filter((x) => x !== undefined) as T[];

/** The inputs of the body that have tangents, once carries that get one in some turn count too. */
function activeInputs(scan: Scan, dx: readonly Tangent[]): boolean[] {
  const active = dx.map((d) => d !== undefined);
  for (let more = true; more; ) {
    more = false;
    const { tangents } = tangentsOf(scan.body, active);
    for (let i = 0; i < scan.carries; i++) {
      const at = scan.consts + i;
      if (tangents[i] && !active[at]) more = active[at] = true;
    }
  }
  return active;
}

/** Which outputs of a graph have tangents when these inputs do. */
function tangentsOf(graph: Graph, active: readonly boolean[]): { tangents: boolean[] } {
  let tangents: boolean[] = [];
  traceGraph(
    (inputs) => {
      const n = graph.inputs.length;
      let next = n;
      const dual = pushForward(
        graph,
        inputs.slice(0, n),
        active.map((a) => (a ? inputs[next++] : undefined)),
      );
      tangents = dual.tangents.map((d) => d !== undefined);
      return dual.values;
    },
    [...graph.inputs, ...graph.inputs.filter((_, i) => active[i])],
  );
  return { tangents };
}

/**
 * The derivative of a loop is a loop. In forward mode values and tangents run in one. Split, the first loop computes
 * the values and puts aside, turn by turn, what the second, linear one needs of them.
 */
function jvpScan(x: readonly Tensor[], dx: readonly Tangent[], scan: Scan, split: boolean): Dual {
  const active = activeInputs(scan, dx);
  const { tangents: outActive } = tangentsOf(scan.body, active);
  for (let i = 0; i < scan.carries; i++) outActive[i] = active[scan.consts + i]!;
  const tangents = dx.map((d, i) => (active[i] ? (d ?? raw.constantLike(x[i]!, 0)) : undefined));
  return split
    ? splitScan(x, tangents, scan, active, outActive)
    : jointScan(x, tangents, scan, active, outActive);
}

function jointScan(
  x: readonly Tensor[],
  dx: readonly Tangent[],
  scan: Scan,
  active: readonly boolean[],
  outActive: readonly boolean[],
): Dual {
  const [consts, carries, xs] = parts(x, scan);
  const [dConsts, dCarries, dXs] = parts(dx, scan).map(present) as [Tensor[], Tensor[], Tensor[]];
  const [activeConsts, activeCarries, activeXs] = parts(active, scan);
  const results = emitScan(
    (inputs) => {
      const take = (n: number) => inputs.splice(0, n);
      const primals: Tensor[] = [];
      const tangents: Tangent[] = [];
      for (const [list, flags] of [
        [consts, activeConsts],
        [carries, activeCarries],
        [xs, activeXs],
      ] as const) {
        primals.push(...take(list.length));
        const own = take(flags.filter(Boolean).length);
        tangents.push(...flags.map((flag) => (flag ? own.shift() : undefined)));
      }
      const dual = pushForward(scan.body, primals, tangents);
      const outTangents = dual.values.map((y, i) =>
        outActive[i] ? (dual.tangents[i] ?? raw.constantLike(y, 0)) : undefined,
      );
      const n = scan.carries;
      return [
        ...dual.values.slice(0, n),
        ...present(outTangents.slice(0, n)),
        ...dual.values.slice(n),
        ...present(outTangents.slice(n)),
      ];
    },
    { consts: [...consts, ...dConsts], carries: [...carries, ...dCarries], xs: [...xs, ...dXs] },
    scan,
  );
  const take = (n: number) => results.splice(0, n);
  const total = scan.body.outputs.length;
  const carried = take(scan.carries);
  const dCarried = take(dCarries.length);
  const ys = take(total - scan.carries);
  const queue = [...dCarried, ...results];
  return {
    values: [...carried, ...ys],
    tangents: outActive.map((flag) => (flag ? queue.shift() : undefined)),
  };
}

function splitScan(
  x: readonly Tensor[],
  dx: readonly Tangent[],
  scan: Scan,
  active: readonly boolean[],
  outActive: readonly boolean[],
): Dual {
  const { body } = scan;
  const activeIndices = active.map((_, i) => i).filter((i) => active[i]);
  const lin = linearizeGraph(body, activeIndices);
  const arguments_ = lin.graph.inputs.slice(0, body.inputs.length);
  const [constNodes, , sliceNodes] = parts(arguments_, scan);

  // What the linear loop needs of the values: the same in every turn, a slice, or put aside by the first loop.
  const isConstant = (node: Node) => node.op === "constant" || node.op === "iota";
  const invariant = new Set<Node>(constNodes);
  for (const node of lin.primalNodes)
    if (node.op !== "input" && node.inputs.every((i) => invariant.has(i))) invariant.add(node);
  const residuals = lin.residuals.filter((node) => !isConstant(node));
  const fixed = residuals.filter((node) => invariant.has(node));
  const sliced = residuals.filter((node) => sliceNodes.includes(node));
  const saved = residuals.filter((node) => !invariant.has(node) && !sliceNodes.includes(node));

  const [consts, carries, xs] = parts(x, scan);
  const closed: Graph = { ...lin.graph, captured: [] };
  const fixedValues = replay(
    closed,
    lin.primalNodes.filter((node) => invariant.has(node)),
    x,
  );
  const first = emitScan(
    (inputs) => {
      const values = replay(closed, lin.primalNodes, inputs);
      return [...lin.values, ...saved].map((node) => values.get(node)!);
    },
    { consts, carries, xs },
    scan,
  );
  const values = first.slice(0, body.outputs.length);
  const savedValues = first.slice(body.outputs.length);

  const [dConsts, dCarries, dXs] = parts(dx, scan).map(present) as [Tensor[], Tensor[], Tensor[]];
  const second = emitScan(
    (inputs) => {
      const take = (n: number) => inputs.splice(0, n);
      const known = new Map<Node, Tensor>();
      const learn = (nodes: readonly Node[]) => {
        for (const node of nodes) known.set(node, inputs.shift()!);
      };
      learn(fixed);
      const tangents = take(dConsts.length + dCarries.length);
      learn(saved);
      learn(sliced);
      tangents.push(...inputs);
      for (const [node, tensor] of replay(closed, lin.residuals.filter(isConstant), []))
        if (isConstant(node)) known.set(node, tensor);
      const zero = (i: number) => raw.constant(0, body.outputs[i]!.shape, body.outputs[i]!.dtype);
      return present(
        applyLinear(lin, known, tangents).map((d, i) => (outActive[i] ? (d ?? zero(i)) : undefined)),
      );
    },
    {
      consts: [...fixed.map((node) => fixedValues.get(node)!), ...dConsts],
      carries: dCarries,
      xs: [...savedValues, ...sliced.map((node) => xs[sliceNodes.indexOf(node)]!), ...dXs],
    },
    scan,
  );
  return { values, tangents: outActive.map((flag) => (flag ? second.shift() : undefined)) };
}

/**
 * The transpose of a linear loop runs the other way. With c the carries, k the linear consts and x the linear slices,
 * one turn takes the cotangents of the next carries and of the turn's ys to those of c, k and x: those of c are
 * carried, those of k add up.
 */
function transposeScan(ct: readonly Tangent[], x: readonly Tangent[], scan: Scan): Tangent[] {
  const { body } = scan;
  const linear = linearInputs(x, scan);
  if (parts(linear, scan)[1].includes(false)) return transposeBeside(ct, x, scan, linear);
  const [constFlags, , xFlags] = parts(linear, scan);
  const [constNodes, carryNodes, xNodes] = parts(body.inputs, scan);
  const [consts, , xs] = parts(x, scan);
  const zeroLike = ({ shape, dtype }: Node) => raw.constant(0, shape, dtype);
  const ctCarries = carryNodes.map((node, i) => ct[i] ?? zeroLike(node));
  const sums = constNodes.filter((_, i) => constFlags[i]);
  const wanted = xNodes.filter((_, i) => xFlags[i]);
  const ctYs = ct.slice(scan.carries);

  const results = emitScan(
    (inputs) => {
      const known = new Map<Node, Tensor>();
      const learn = (nodes: readonly Node[], flags: readonly boolean[]) => {
        for (const [i, node] of nodes.entries()) if (!flags[i]) known.set(node, inputs.shift()!);
      };
      learn(constNodes, constFlags);
      const carried = inputs.splice(0, scan.carries);
      const totals = inputs.splice(0, sums.length);
      learn(xNodes, xFlags);
      const cts = [...carried, ...ctYs.map((y) => (y === undefined ? undefined : inputs.shift()))];
      const all = transposeGraph(
        body,
        body.inputs.map((node) => known.get(node)),
        cts,
      );
      const found = new Map(body.inputs.map((node, i) => [node, all[i]] as const));
      const cotangent = (node: Node) => found.get(node) ?? zeroLike(node);
      return [
        ...carryNodes.map(cotangent),
        ...sums.map((node, i) => {
          const more = found.get(node);
          return more === undefined ? totals[i]! : raw.add(totals[i]!, more);
        }),
        ...wanted.map(cotangent),
      ];
    },
    {
      consts: present(consts),
      carries: [...ctCarries, ...sums.map(zeroLike)],
      xs: [...present(xs), ...present(ctYs)],
    },
    { length: scan.length, reverse: !scan.reverse },
  );
  const take = (n: number) => results.splice(0, n);
  const carried = take(scan.carries);
  const totals = take(sums.length);
  return [
    ...constFlags.map((flag) => (flag ? totals.shift() : undefined)),
    ...carried,
    ...xFlags.map((flag) => (flag ? results.shift() : undefined)),
  ];
}

/** The inputs of the body that depend on those of the loop that are undefined: carries too that do after some turns. */
function linearInputs(x: readonly Tangent[], { body, consts, carries }: Scan): boolean[] {
  const linear = x.map((value) => value === undefined);
  for (let more = true; more; ) {
    more = false;
    const inputs = body.inputs.filter((_, i) => linear[i]);
    const dependent = new Set<Node>([...inputs, ...divide(body, inputs).linearNodes]);
    for (let i = 0; i < carries; i++)
      if (!linear[consts + i] && dependent.has(body.outputs[i]!)) more = linear[consts + i] = true;
  }
  return linear;
}

/**
 * The transpose of a loop that carries values beside what is linear, as a loop in a custom rule may: a first loop computes
 * these carries, which are slices of the linear loop then.
 */
function transposeBeside(
  ct: readonly Tangent[],
  x: readonly Tangent[],
  scan: Scan,
  linear: readonly boolean[],
): Tangent[] {
  const { body } = scan;
  const [consts, carries, xs] = parts(x, scan);
  const [constNodes, carryNodes, xNodes] = parts(body.inputs, scan);
  const isLinear = (_: unknown, i: number) => linear[scan.consts + i]!;
  const isKnown = (_: unknown, i: number) => !linear[scan.consts + i]!;
  const outputs = body.outputs.slice(0, scan.carries);
  const { primalNodes } = divide(
    body,
    body.inputs.filter((_, i) => linear[i]),
  );
  const first = emitScan(
    (inputs) => {
      const given = linear.map((flag) => (flag ? undefined : inputs.shift()));
      const values = replay(body, primalNodes, given as Tensor[]);
      return [...outputs, ...carryNodes]
        .filter((_, i) => isKnown(_, i % scan.carries))
        .map((node) => values.get(node)!);
    },
    { consts: present(consts), carries: carries.filter(isKnown) as Tensor[], xs: present(xs) },
    scan,
  );
  const known = carries.filter(isKnown).length;
  const rest: Scan = {
    ...scan,
    body: {
      ...body,
      inputs: [...constNodes, ...carryNodes.filter(isLinear), ...xNodes, ...carryNodes.filter(isKnown)],
      outputs: [...outputs.filter(isLinear), ...body.outputs.slice(scan.carries)],
    },
    carries: scan.carries - known,
  };
  const found = transposeScan(
    [...ct.slice(0, scan.carries).filter(isLinear), ...ct.slice(scan.carries)],
    [...consts, ...carries.filter(isLinear), ...xs, ...first.slice(known)],
    rest,
  );
  const [ofConsts, ofCarries, ofXs] = parts(found, rest);
  return [
    ...ofConsts,
    ...carries.map((_, i) => (isLinear(_, i) ? ofCarries.shift() : undefined)),
    ...ofXs.slice(0, xs.length),
  ];
}

/** Many loops as one: what differs between them has the batch as its first axis in the body. */
function batchScan(x: readonly Tensor[], scan: Scan, batched: readonly boolean[], size: number): Batch {
  const [consts, carries, xs] = parts(x, scan);
  const flags = [...batched];
  const [, , xFlags] = parts(flags, scan);
  const specs = (which: readonly boolean[]) =>
    scan.body.inputs.map(({ shape, dtype }, i) => ({ shape: which[i] ? [size, ...shape] : shape, dtype }));
  // A carry that differs after some turn differs in all.
  let out: readonly boolean[] = [];
  for (let more = true; more; ) {
    more = false;
    traceGraph((inputs) => {
      const batch = batchGraph(scan.body, inputs, flags, size);
      out = batch.batched;
      return batch.values;
    }, specs(flags));
    for (let i = 0; i < scan.carries; i++)
      if (out[i] && !flags[scan.consts + i]) more = flags[scan.consts + i] = true;
  }
  const carried = (i: number) => flags[scan.consts + i]!;
  const results = emitScan(
    (inputs) => {
      const { values, batched: done } = batchGraph(scan.body, inputs, flags, size);
      return values.map((y, i) => (i < scan.carries && carried(i) && !done[i] ? repeated(y, size) : y));
    },
    {
      consts,
      carries: carries.map((c, i) => (carried(i) && !batched[scan.consts + i] ? repeated(c, size) : c)),
      // The loop runs over the first axis: the batch comes second.
      xs: xs.map((s, i) => (xFlags[i] ? raw.moveAxis(s, 0, 1) : s)),
    },
    scan,
  );
  return {
    values: results.map((y, i) => (i >= scan.carries && out[i] ? raw.moveAxis(y, 1, 0) : y)),
    batched: results.map((_, i) => (i < scan.carries ? carried(i) : out[i]!)),
  };
}

export const scanRule: SeveralRule<"scan"> = { jvp: jvpScan, transpose: transposeScan, batch: batchScan };
