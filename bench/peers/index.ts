import type { ObjectiveName } from "../floor.js";
import type { Side } from "../measure.js";
import { layers, type StepSize } from "../trainers.js";
import { findTorch, type Torch, torchSide } from "./torch.js";

/** Whom the library is compared with, as far as they are here. */
export interface Peers {
  readonly torch?: Torch;
}

/** Finds the peers, and says of each what it is or how to install it. */
export async function findPeers(_folder: string | undefined, print: (line: string) => void): Promise<Peers> {
  const torch = await findTorch();
  if ("missing" in torch) {
    print(`without ${torch.missing}`);
    return {};
  }
  print(`beside ${torch.version}${torch.note === undefined ? "" : `; ${torch.note}`}`);
  return { torch };
}

/** A peer's ways to do the same training step. */
export interface PeerStep {
  readonly name: string;
  readonly ways: readonly Side[];
  /** Takes seconds: measured in a few rounds only. */
  readonly slow: boolean;
  /** Why it has no part in this step. */
  readonly refused?: string;
}

export function peerSteps(peers: Peers, objective: ObjectiveName, size: StepSize): PeerStep[] {
  const steps: PeerStep[] = [];
  if (peers.torch !== undefined) {
    const jvps = objective === "fm" ? ["none"] : ["forward", "double-backward"];
    const ways = peers.torch.settings.flatMap((setting) =>
      jvps.map((jvp) =>
        torchSide(
          setting,
          { task: "step", objective, layers, jvp, ...size },
          jvp === "none" ? "" : `${jvp} JVP`,
          size.hidden > 128 ? 1 : 2,
          1,
        ),
      ),
    );
    steps.push({ name: "PyTorch", ways, slow: false });
  }
  return steps;
}
