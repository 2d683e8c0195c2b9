/**
 * All objectives side by side: `npm run compare` trains them in one setting on three data sets, and writes one table and
 * one figure, quality against evaluations of the network.
 */
import { compare } from "./compare/comparison.js";
import { help, readOptions } from "./compare/options.js";
import { runMain } from "./support/main.js";

await runMain("npm run compare", async () => {
  const options = readOptions(process.argv.slice(2));
  if (options === undefined) console.log(help);
  else await compare(options, { print: (line) => console.log(line), progress: true });
});
