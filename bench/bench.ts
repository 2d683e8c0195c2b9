import type { Peak } from "./peak.js";
import type { Peers } from "./peers/index.js";

/** What every section is given. */
export interface Bench {
  /** Fewer rounds and sizes. */
  readonly quick: boolean;
  /** Rounds of turns in a comparison. */
  readonly rounds: number;
  readonly peers: Peers;
  readonly peak: Peak;
  /** A line of the report. */
  print(line: string): void;
  /** What goes on now, for somebody who watches a terminal; it leaves no trace. */
  progress(doing: string): void;
}
