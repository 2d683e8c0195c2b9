/** The parts of tslab, the TypeScript kernel of Jupyter, that are used. */
export interface Tslab {
  readonly display: Display;
  newDisplay(): Display;
}

/** Where rich output goes; one from `newDisplay` overwrites what it showed before. */
export interface Display {
  html(text: string): void;
  svg(text: string): void;
  text(text: string): void;
}

/**
 * tslab, when this code runs in one of its notebooks. Its kernel leaves its own `require` in a global, which is the only
 * way to it: the library's own `import` would look for the package beside the library.
 */
export function tslab(): Tslab | undefined {
  const { __tslab__: kernel } = globalThis as { __tslab__?: { require?: (name: string) => unknown } };
  return typeof kernel?.require === "function" ? (kernel.require("tslab") as Tslab) : undefined;
}
