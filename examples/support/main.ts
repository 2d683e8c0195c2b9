import * as fx from "fluxion";
import { UsageError } from "./flags.js";

/** Runs a program whose errors end it with a message: 2 is the status after a wrong flag, 1 after an error of the library's. */
export async function runMain(command: string, main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    if (error instanceof UsageError) {
      console.error(`${error.message}\nSee ${command} -- --help`);
      process.exitCode = 2;
    } else if (error instanceof fx.FluxionError) {
      console.error(`${error.name}: ${error.message}`);
      process.exitCode = 1;
    } else throw error;
  }
}
