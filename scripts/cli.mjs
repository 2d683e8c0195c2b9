#!/usr/bin/env node
// npx fluxion build-native: builds the addons in place, for package managers that block install scripts.
const command = process.argv[2];
if (command === "build-native") {
  process.argv.push("--strict");
  await import("./build-native.mjs");
} else {
  console.error(`usage: fluxion build-native${command === undefined ? "" : `\nunknown command: ${command}`}`);
  process.exitCode = 2;
}
