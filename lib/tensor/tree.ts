import { ValueError } from "../errors.js";
import { Tensor } from "./tensor.js";

/** Nested arrays and plain objects whose leaves are tensors (or other values, which transforms treat as static). */
// biome-ignore lint/suspicious/noExplicitAny: a tree may hold anything; the functions below keep its type.
export type Tree = any;

/** The shape of a tree without its tensors. Two trees fit each other when their `key`s are equal. */
export interface Structure {
  readonly key: string;
  readonly leaves: number;
  readonly template: Template;
}

type Template =
  | { readonly kind: "leaf" }
  | { readonly kind: "static"; readonly value: unknown }
  | { readonly kind: "array"; readonly children: readonly Template[] }
  | { readonly kind: "object"; readonly keys: readonly string[]; readonly children: readonly Template[] };

const leaf: Template = { kind: "leaf" };
const functionIds = new WeakMap<object, number>();
let nextFunctionId = 0;

function identity(value: object): number {
  let id = functionIds.get(value);
  if (id === undefined) functionIds.set(value, (id = nextFunctionId++));
  return id;
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function collect(value: unknown, leaves: Tensor[], key: string[], depth: number): Template {
  if (depth > 200) throw new ValueError("tree: nested more than 200 levels deep (does it contain itself?)");
  if (value instanceof Tensor) {
    leaves.push(value);
    key.push("*");
    return leaf;
  }
  if (Array.isArray(value)) {
    key.push("[");
    const children = value.map((child) => collect(child, leaves, key, depth + 1));
    key.push("]");
    return { kind: "array", children };
  }
  if (isPlainObject(value)) {
    const keys = Object.keys(value).sort();
    key.push("{");
    const children = keys.map((name) => {
      key.push(JSON.stringify(name));
      return collect(value[name], leaves, key, depth + 1);
    });
    key.push("}");
    return { kind: "object", keys, children };
  }
  const named = (typeof value === "object" && value !== null) || typeof value === "function";
  key.push(
    named ? `#${identity(value)}` : `${typeof value}:${Object.is(value, -0) ? "-0" : String(value)}`,
    ",",
  );
  return { kind: "static", value };
}

/** The tensors of a tree in a fixed order (arrays by index, objects by sorted key), and its structure. */
export function flatten(value: Tree): { leaves: Tensor[]; structure: Structure } {
  const leaves: Tensor[] = [];
  const key: string[] = [];
  const template = collect(value, leaves, key, 0);
  return { leaves, structure: { key: key.join(""), leaves: leaves.length, template } };
}

function build(template: Template, next: () => unknown): unknown {
  if (template.kind === "leaf") return next();
  if (template.kind === "static") return template.value;
  if (template.kind === "array") return template.children.map((child) => build(child, next));
  return Object.fromEntries(template.keys.map((name, i) => [name, build(template.children[i]!, next)]));
}

/** The tree of this structure with these leaves: the inverse of flatten. */
export function unflatten(structure: Structure, leaves: readonly unknown[]): Tree {
  if (leaves.length !== structure.leaves)
    throw new ValueError(
      `tree.unflatten: the structure has ${structure.leaves} leaves, got ${leaves.length}`,
    );
  let i = 0;
  return build(structure.template, () => leaves[i++]);
}

/** The tensors of a tree. */
export function leaves(value: Tree): Tensor[] {
  return flatten(value).leaves;
}

/** Applies f to corresponding tensors of trees of one structure; the result has the structure of the first. */
export function map<T extends Tree>(f: (...tensors: Tensor[]) => Tensor, first: T, ...rest: Tree[]): T {
  const head = flatten(first);
  const others = rest.map((value, i) => {
    const other = flatten(value);
    checkSameStructure("tree.map", head.structure, other.structure, `argument ${i + 2}`, "the first");
    return other.leaves;
  });
  return unflatten(
    head.structure,
    head.leaves.map((x, i) => f(x, ...others.map((list) => list[i]!))),
  ) as T;
}

/** Throws when trees differ in where their tensors are (static values may differ). */
export function checkSameStructure(
  where: string,
  a: Structure,
  b: Structure,
  nameB: string,
  nameA: string,
): void {
  if (outline(a.template) !== outline(b.template))
    throw new ValueError(
      `${where}: ${nameB} has the structure ${outline(b.template)}, ${nameA} has ${outline(a.template)}`,
    );
}

function outline(template: Template): string {
  if (template.kind === "leaf") return "*";
  if (template.kind === "static") return "-";
  if (template.kind === "array") return `[${template.children.map(outline).join(", ")}]`;
  return `{ ${template.keys.map((name, i) => `${name}: ${outline(template.children[i]!)}`).join(", ")} }`;
}
