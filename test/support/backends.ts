import * as fx from "fluxion";
import t from "tap";

const infos = fx.backends();

/** The backends that run on this machine, the reference first. The tests say why one is left out. */
export const backends: readonly fx.BackendName[] = (["typescript", "cpu", "cuda"] as const).filter((name) => {
  const { available, reason } = infos.find((info) => info.name === name)!;
  if (!available) t.comment(`${name} is not tested: ${reason}`);
  return available;
});

export const hasCpu = backends.includes("cpu");
export const hasCuda = backends.includes("cuda");
