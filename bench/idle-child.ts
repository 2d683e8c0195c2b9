/** A process that does nothing: what Node itself takes. */
import { peakMemory } from "./memory.js";

console.log(JSON.stringify({ memory: await peakMemory() }));
