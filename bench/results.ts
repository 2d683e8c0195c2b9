import type { AttentionRow } from "./attention.js";
import type { Bits } from "./bits.js";
import type { GemmRow } from "./gemm.js";
import type { MapRow } from "./map.js";
import type { PeakRow } from "./peak.js";
import type { ScalingRow } from "./scaling.js";
import type { Startup } from "./startup.js";
import type { Steps } from "./steps.js";

/** All that a run found: what --json writes and --svg draws. Times are in seconds. */
export interface Results {
  readonly machine: Readonly<Record<string, string | number>>;
  readonly quick: boolean;
  /** Each peer's version, or why it is missing. */
  readonly peers: Readonly<Record<string, string>>;
  readonly peak: readonly PeakRow[];
  readonly gemm?: readonly GemmRow[];
  readonly steps?: Steps;
  readonly attention?: readonly AttentionRow[];
  readonly map?: readonly MapRow[];
  readonly scaling?: readonly ScalingRow[];
  readonly startup?: Startup;
  readonly bits?: Bits;
}
