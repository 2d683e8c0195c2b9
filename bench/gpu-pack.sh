#!/usr/bin/env bash
# Prepares what bench/gpu.sh needs on a GPU machine without a network, as build/gpu/: run it where npm install works.
#
# usage: bash bench/gpu-pack.sh
#
#   node.xz        this Node                     node-version   what it says of itself
#   tree.tar.xz    dist, build-ts, the addons that are built, and the packages that tests, benches and addon builds load
set -euo pipefail
cd "$(dirname "$0")/.."
limit_mib=60
node=$(node -p process.execPath)

if ldd "$node" | grep -q libnode; then
  echo "gpu-pack: $node is linked to libnode, and cannot be carried alone; use Node from nodejs.org" >&2
  exit 1
fi
compile='import { compile } from "./scripts/compile.mjs"; process.exit(compile("tsconfig.json") && compile("tsconfig.test.json") ? 0 : 1)'
node --input-type=module -e "$compile"

rm -rf build/gpu
mkdir -p build/gpu
node --version >build/gpu/node-version
xz -T0 -6 -c "$node" >build/gpu/node.xz

addons=()
for addon in build/cpu/Release/fluxion_cpu.node build/cuda/Release/fluxion_cuda.node; do
  if [ -f "$addon" ]; then addons+=("$addon"); else echo "gpu-pack: without $addon, which is not built here" >&2; fi
done
node scripts/gpu-packages.mjs >build/gpu/packages
tar -c --exclude='*.map' --exclude='*.d.ts' --exclude='*.d.mts' --exclude='*.d.cts' \
  dist build-ts "${addons[@]}" -T build/gpu/packages | xz -T0 -6 >build/gpu/tree.tar.xz

ls -lh build/gpu
size=$(du -sm build/gpu | cut -f1)
echo "build/gpu: $size MiB (at most $limit_mib)"
[ "$size" -le "$limit_mib" ]
