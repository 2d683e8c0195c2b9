/** Base class of every error that fluxion throws on purpose. */
export class FluxionError extends Error {
  override name = "FluxionError";
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

/** Training met a loss or parameters that are not finite. */
export class NonFiniteError extends FluxionError {
  override name = "NonFiniteError";
}
