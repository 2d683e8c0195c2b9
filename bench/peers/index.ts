import { fileURLToPath } from "node:url";
import type { ObjectiveName } from "../floor.js";
import type { Side } from "../measure.js";
import { layers, type StepSize } from "../trainers.js";
import { findTorch, type Torch, torchSide } from "./torch.js";
import { findJax, findTfjs, type WebPeer, webSides } from "./web.js";

/** Whom the library is compared with, as far as they are here. */
export interface Peers {
  readonly torch?: Torch;
  readonly jax?: WebPeer;
  readonly tfjs?: WebPeer;
}

/** This package: compiled, this file lies in build-ts/bench/peers. */
const home = fileURLToPath(new URL("../../..", import.meta.url));

/** Finds the peers, says of each what it is or how to install it, and gives that as `about`. */
export async function findPeers(
  folder: string | undefined,
  print: (line: string) => void,
): Promise<{ readonly peers: Peers; readonly about: Record<string, string> }> {
  const found = {
    torch: await findTorch(),
    jax: await findJax(folder ?? home),
    tfjs: findTfjs(folder ?? home),
  };
  const peers: Record<string, unknown> = {};
  const about: Record<string, string> = {};
  for (const [name, peer] of Object.entries(found)) {
    if ("missing" in peer) about[name] = `without ${peer.missing}`;
    else {
      peers[name] = peer;
      about[name] = `beside ${peer.version}${"note" in peer ? `; ${peer.note}` : ""}`;
    }
    print(about[name]!);
  }
  return { peers, about };
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

export function peerSteps({ torch, jax, tfjs }: Peers, objective: ObjectiveName, size: StepSize): PeerStep[] {
  const work = { task: "step", objective, layers, ...size };
  // The median of a turn: as with ours, the first step, with the caches of others, hardly counts.
  const repeats = size.hidden > 128 ? 3 : 5;
  const steps: PeerStep[] = [];
  if (torch !== undefined) {
    const jvps = objective === "fm" ? ["none"] : ["forward", "double-backward"];
    const ways = torch.settings.flatMap((setting) =>
      jvps.map((jvp) => torchSide(setting, { ...work, jvp }, jvp === "none" ? "" : `${jvp} JVP`, repeats, 1)),
    );
    steps.push({ name: "PyTorch", ways, slow: false });
  }
  if (jax !== undefined) steps.push({ name: "jax-js", ways: webSides(jax, work, 1), slow: true });
  if (tfjs !== undefined) {
    const refused = objective === "fm" ? {} : { refused: "has no forward mode (jvp)" };
    steps.push({ name: "tfjs", ways: webSides(tfjs, work, 1), slow: true, ...refused });
  }
  return steps;
}
