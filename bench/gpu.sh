#!/usr/bin/env bash
# Tests and measures the cuda backend on a machine with a GPU. It needs no network: without node_modules it unpacks
# what bench/gpu-pack.sh prepared in build/gpu.
#
# usage: bash bench/gpu.sh [tests] [sanitize] [bench] [--quick] [--carried] [flags of the bench]
#
#   tests      the tests of the cuda backend, and those of the library's core on it
#   sanitize   compute-sanitizer's memcheck and racecheck of a short training and of the golden values
#   bench      beside PyTorch and JAX (flags: node build-ts/bench/gpu.js --help)
#
# Without a section it does all three. --carried takes the addons as they were packed, where it would build them anew.
# Each section takes at most ten minutes. Results are in ${OUT:-build/gpu/out}: summary.txt, tests.log, sanitize.log,
# bench.log, and gpu.json, gpu.md and gpu.jsonl of the bench. The exit status is 1 when something failed.
set -uo pipefail
cd "$(dirname "$0")/.."

sections=()
flags=()
quick=0
carried=0
for argument in "$@"; do
  case $argument in
    tests | sanitize | bench) sections+=("$argument") ;;
    --pack) exec bash bench/gpu-pack.sh ;;
    --carried) carried=1 ;;
    --quick)
      quick=1
      flags+=(--quick)
      ;;
    --help)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' bench/gpu.sh
      exit
      ;;
    *)
      if [ ${#flags[@]} = "$quick" ] && [[ $argument != --* ]]; then
        echo "gpu.sh: there is no section \"$argument\"; use tests, sanitize or bench" >&2
        exit 2
      fi
      flags+=("$argument")
      ;;
  esac
done
[ ${#sections[@]} -gt 0 ] || sections=(tests sanitize bench)
if [ ${#flags[@]} -gt "$quick" ] && [[ ! " ${sections[*]} " =~ " bench " ]]; then
  echo "gpu.sh: ${flags[*]}: these are flags of the section bench, which was not asked for" >&2
  exit 2
fi

pack=build/gpu
out=${OUT:-build/gpu/out}
mkdir -p "$out"
out=$(cd "$out" && pwd)
: >"$out/summary.txt"
failed=0
say() { echo "$*" | tee -a "$out/summary.txt"; }
fail() {
  say "FAILED: $*"
  failed=1
}

# --- Node, the compiled tree and the addons -----------------------------------------------------------------------

unxz_to_stdout() {
  if command -v xz >/dev/null; then
    xz -dc "$1"
  else
    python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$1"
  fi
}

new_enough() {
  node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' \
    2>/dev/null
}

# Unpacked things lie in build/gpu-home and, of the tree, at their places; a second call finds them there.
find_node() {
  PATH=$PWD/build/gpu-home:$PATH
  if new_enough; then return; fi
  [ -f $pack/node.xz ] || {
    echo "gpu.sh: needs Node 20.19 or newer, or $pack as bench/gpu-pack.sh makes it" >&2
    exit 2
  }
  mkdir -p build/gpu-home
  unxz_to_stdout $pack/node.xz >build/gpu-home/node
  chmod +x build/gpu-home/node
  hash -r
  [ "$(node --version)" = "$(cat $pack/node-version)" ] || {
    echo "gpu.sh: the carried Node does not run here" >&2
    exit 2
  }
}

unpack_tree() { unxz_to_stdout $pack/tree.tar.xz | tar -x "$@"; }

build_addons() {
  command -v g++ >/dev/null && command -v make >/dev/null && command -v cmake >/dev/null && command -v python3 >/dev/null &&
    timeout 240 node scripts/build-native.mjs >"$out/build.log" 2>&1 &&
    [ -f build/cuda/Release/fluxion_cuda.node ]
}

prepare_tree() {
  if [ -f $pack/tree.tar.xz ] && { [ ! -d node_modules ] || [ -d build/gpu-home ]; }; then
    local stamp
    stamp="$(cksum <$pack/tree.tar.xz) $carried"
    [ "$(cat build/gpu-home/stamp 2>/dev/null)" = "$stamp" ] && return
    mkdir -p build/gpu-home
    unpack_tree || exit 2
    if [ $carried = 0 ] && build_addons; then
      say "addons: built here"
    else
      unpack_tree --wildcards '*.node' || exit 2 # a failed build takes an older addon away
      say "addons: as carried"
    fi
    echo "$stamp" >build/gpu-home/stamp
  else
    compile='import { compile } from "./scripts/compile.mjs"; process.exit(compile("tsconfig.json") && compile("tsconfig.test.json") ? 0 : 1)'
    node --input-type=module -e "$compile" || exit 2
  fi
}

# --- Sections -----------------------------------------------------------------------------------------------------

# One test file: its log, and a line of its own with what it came to.
one_test() {
  local name=$1 log="$2/$1.log" status
  # A test may take as long as the section: each operation outside of jit is a kernel to compile.
  TAP_TIMEOUT=530 timeout 540 node --enable-source-maps "build-ts/test/$name.test.js" >"$log" 2>&1
  status=$?
  echo "$status $name $(grep -E '^# \{|^# (pass|fail)' "$log" | tail -1)"
}
export -f one_test

tests() {
  local logs core own
  logs=$(mktemp -d)
  own=$(cd build-ts/test && ls cuda-*.test.js 2>/dev/null | sed 's/\.test\.js$//')
  core="differential golden ops autodiff train flow"
  [ $quick = 1 ] && core="golden ops train"
  [ -n "$own" ] || say "tests: there is no test/cuda-*.test.ts"
  {
    # The long ones first; all at once, as far as there are processors.
    printf '%s\n' $core $own |
      FLUXION_BACKEND=cuda FLUXION_TEST_DEVICE=own xargs -P "$(nproc)" -I{} bash -c "one_test {} $logs"
  } >"$logs/results"
  : >"$out/tests.log"
  while read -r status name result; do
    if [ "$status" = 0 ]; then
      say "test $name: passed $result"
    else
      fail "test $name: exit status $status $result"
      { echo "=== $name"; grep -v '^ *ok ' "$logs/$name.log" | head -c 400000; } >>"$out/tests.log"
    fi
  done <"$logs/results"
  rm -rf "$logs"
}

sanitize() {
  if ! command -v compute-sanitizer >/dev/null; then
    say "sanitize: compute-sanitizer is not on the PATH"
    return
  fi
  : >"$out/sanitize.log"
  local tool program
  for tool in memcheck racecheck; do
    for program in bench/gpu/short-training.js test/golden.test.js; do
      [ $quick = 1 ] && [ "$program" = test/golden.test.js ] && continue
      echo "=== $tool $program" >>"$out/sanitize.log"
      if FLUXION_BACKEND=cuda timeout 140 compute-sanitizer --tool $tool --error-exitcode 9 --print-limit 20 \
        node "build-ts/$program" >>"$out/sanitize.log" 2>&1; then
        say "$tool $program: passed"
      else
        fail "$tool $program: exit status $?, $(tail -1 "$out/sanitize.log")"
      fi
    done
  done
}

bench() {
  FLUXION_BACKEND=cuda timeout 590 node --enable-source-maps build-ts/bench/gpu.js --out "$out" \
    ${flags[@]+"${flags[@]}"} 2>&1 | tee "$out/bench.log"
  local status=${PIPESTATUS[0]}
  if [ "$status" = 124 ]; then # stopped: the table of what there is
    node build-ts/bench/gpu.js --merge --out "$out"
  fi
  if [ "$status" = 0 ]; then say "bench: passed"; else fail "bench: exit status $status"; fi
}

# Tests that leave a backend out where it is not there would pass without it: that it is there is a test of its own.
check_backend() {
  local reason
  reason=$(node --input-type=module -e 'import * as fx from "fluxion";
    const cuda = fx.backends().find(({ name }) => name === "cuda");
    console.log(cuda.available ? "" : cuda.reason);' 2>&1)
  if [ -z "$reason" ]; then say "backend cuda: available"; else fail "backend cuda: $reason"; fi
}

find_node
prepare_tree
check_backend
for section in "${sections[@]}"; do $section; done

echo
cat "$out/summary.txt"
exit $failed
