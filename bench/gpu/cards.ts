import type { Precision } from "./cases.js";

/** What a card does at best. */
export interface Card {
  readonly name: string;
  /** FLOP/s of dense products at each precision. */
  readonly flops: Readonly<Record<Precision, number>>;
  /** Bytes/s of its memory. */
  readonly memory: number;
}

// From NVIDIA's data sheets of the H100 and H200 (SXM), without sparsity.
const hopper = { float32: 67e12, tf32: 495e12, bfloat16: 989e12 };
const cards: readonly Card[] = [
  { name: "H200", flops: hopper, memory: 4.8e12 },
  { name: "H100", flops: hopper, memory: 3.35e12 },
];

/** The card that a device's name speaks of; undefined for one that is not in the table. */
export function cardOf(device: string): Card | undefined {
  return cards.find(({ name }) => device.includes(name));
}

/** Seconds that products and memory take at least. */
export function floorOn(card: Card, work: { precision: Precision; flops: number; bytes: number }) {
  const products = work.flops / card.flops[work.precision];
  const memory = work.bytes / card.memory;
  return { products, memory, seconds: Math.max(products, memory) };
}
