import { mean, square } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";

/** The root mean square of all elements. Concrete tensors only. */
export const rootMeanSquare = (x: Tensor): number => Math.sqrt(mean(square(x)).item());
