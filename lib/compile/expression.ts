import type { Node } from "../graph/graph.js";
import type { Attributes } from "../graph/primitives.js";
import type { DType } from "../tensor/dtype.js";
import type { Access } from "./access.js";
import { type Expression, type Instruction, type ScalarOp, scalarOps, type View } from "./plan.js";

/** A primitive of this name is one scalar operation. */
const scalar: ReadonlySet<string> = new Set(scalarOps);

/** Builds an expression in which nothing is computed twice. */
export class ExpressionBuilder {
  readonly #instructions: Instruction[] = [];
  readonly #known = new Map<string, number>();
  readonly #values = new Map<Node, number>();
  readonly #bufferOf: (node: Node) => number;

  constructor(bufferOf: (node: Node) => number) {
    this.#bufferOf = bufferOf;
  }

  #push(instruction: Instruction): number {
    const key = JSON.stringify(instruction, (_, v) =>
      typeof v === "number" ? (Object.is(v, -0) ? "-0" : String(v)) : v,
    );
    let value = this.#known.get(key);
    if (value === undefined) {
      value = this.#instructions.push(instruction) - 1;
      this.#known.set(key, value);
    }
    return value;
  }

  #op(op: ScalarOp, dtype: DType, ...args: number[]): number {
    return this.#push({ op, dtype, args });
  }

  /** The product's element, in the expression of a matmul. */
  accumulator(node: Node): void {
    this.#values.set(node, this.#push({ op: "accumulator", dtype: node.dtype }));
  }

  /** The element that an access reads at the current index. */
  read(access: Access): number {
    const { source, offset, strides } = access;
    if (source.op === "constant") {
      const { value, dtype } = source.attrs as Attributes["constant"];
      return this.#push({ op: "constant", dtype, value });
    }
    if (source.op === "iota") return this.#push({ op: "index", dtype: source.dtype, offset, strides });
    const view: View = { buffer: this.#bufferOf(source), offset, strides };
    return this.#push({ op: "load", dtype: source.dtype, view });
  }

  /** Computes an elementwise node; `access` reads the inputs that were not computed here. */
  compute(node: Node, access: (input: Node) => Access): number {
    const args = node.inputs.map((input) => this.#values.get(input) ?? this.read(access(input)));
    const value = this.#lower(node, args);
    this.#values.set(node, value);
    return value;
  }

  #lower(node: Node, args: number[]): number {
    const { op, dtype } = node;
    if (op === "gelu") {
      const { order } = node.attrs as Attributes["gelu"];
      return this.#op(order === 0 ? "gelu" : "geluSlope", dtype, ...args);
    }
    if (scalar.has(op)) return this.#op(op as ScalarOp, dtype, ...args);
    if (op === "threefry") {
      const { word } = node.attrs as Attributes["threefry"];
      return this.#op(word === 0 ? "threefry0" : word === 1 ? "threefry1" : "threefryXor", dtype, ...args);
    }
    throw new Error(`internal: ${op} is not elementwise`);
  }

  valueOf(node: Node): number {
    return this.#values.get(node)!;
  }

  finish(outputs: Expression["outputs"]): Expression {
    return { instructions: this.#instructions, outputs };
  }
}
