import type { Plan } from "../../compile/plan.js";
import type { TypedArray } from "../../tensor/dtype.js";
import type { LoopState } from "./iteration.js";

/** What the main thread sends to the worker. Plans and loops are known by number once they were sent. */
export type Message =
  | { readonly kind: "plan"; readonly plan: number; readonly data: Plan }
  | { readonly kind: "loop"; readonly loop: number; readonly plan: number; readonly state: LoopState }
  | ({ readonly call: number } & Request)
  | Release;

/** Calls, which are answered by one reply each. */
export type Request =
  | { readonly kind: "run"; readonly plan: number; readonly inputs: TypedArray[] }
  | { readonly kind: "iterate"; readonly plan: number; readonly loop: number; readonly steps: number };

export type Release =
  | { readonly kind: "forget"; readonly plan: number }
  | { readonly kind: "close"; readonly loop: number };

export type Reply =
  | { readonly call: number; readonly arrays: TypedArray[]; readonly completed: number }
  | {
      readonly call: number;
      readonly error: string;
      /** Of an index out of range. */
      readonly site?: number | undefined;
    };
