import { userLocation } from "./location.js";

export interface FluxionErrorOptions extends ErrorOptions {
  /** Where in the user's code the failing call stands; default: where the call under way does. */
  readonly location?: string;
}

/**
 * Base class of every error that fluxion throws on purpose. The message ends with the place in the user's code of the
 * call that failed, " (at model.ts:12:7)": inside of a function that is traced (by jit, grad, ...) the line in that
 * function. Where there is none (work that goes on while no call of the user's waits for it) nothing is added.
 */
export class FluxionError extends Error {
  override name = "FluxionError";
  // Private, so that an error that is printed does not show them beside its message, which holds both.
  readonly #problem: string;
  readonly #location: string | undefined;

  constructor(problem: string, options: FluxionErrorOptions = {}) {
    const location = options.location ?? userLocation();
    super(location === undefined ? problem : `${problem} (at ${location})`, options);
    this.#problem = problem;
    this.#location = location;
  }

  /** The message without the location. */
  get problem(): string {
    return this.#problem;
  }

  /** "file:line:column", the file relative to the current directory when it lies in it; undefined when not known. */
  get location(): string | undefined {
    return this.#location;
  }
}

/** Shapes, axes or sizes do not fit an operation. */
export class ShapeError extends FluxionError {
  override name = "ShapeError";
}

/** A dtype does not fit an operation, or dtypes differ where they must be equal. */
export class DTypeError extends FluxionError {
  override name = "DTypeError";
}

/** An argument has a value that the function does not accept. */
export class ValueError extends FluxionError {
  override name = "ValueError";
}

/** A symbolic tensor was used where a concrete one is needed, or outside of its trace. */
export class TraceError extends FluxionError {
  override name = "TraceError";
}

/** A backend is missing, or failed to compile or to run a plan. */
export class BackendError extends FluxionError {
  override name = "BackendError";
}

/** A file is damaged, cut short, or belongs to something else. */
export class FileError extends FluxionError {
  override name = "FileError";
}

/** Training met a loss or parameters that are not finite, or sampling a state or a velocity. */
export class NonFiniteError extends FluxionError {
  override name = "NonFiniteError";
}
