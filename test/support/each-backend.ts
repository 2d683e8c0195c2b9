import * as fx from "fluxion";
import t, { type Test } from "tap";

/** Runs the body on every backend of this machine; says why one is left out. */
export function onEach(title: string, body: (t: Test) => void | Promise<void>): void {
  for (const { name, available, reason } of fx.backends()) {
    t.test(`${title} (${name})`, available ? {} : { skip: reason ?? "not available" }, async (t) => {
      fx.setBackend(name);
      await body(t);
    });
  }
}
