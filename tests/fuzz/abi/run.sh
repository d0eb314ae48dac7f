#!/usr/bin/env bash
# Builds the core with clang for libFuzzer, and runs it for so many seconds: run.sh SECONDS [option of libFuzzer …]
# With a file instead of SECONDS, replays that input and prints its acts. Exit code 0: nothing was found.
#
# PYTHON is an interpreter with cmake, ninja and pybind11 beside it (the ordinary test environment). What is built, the
# corpus and crashing inputs go to AIOBRIDGE_FUZZ_DIR, or /tmp/aiobridge-fuzz.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
what=${1:?seconds, or a file to replay}
shift
python=${PYTHON:-python3}
work=${AIOBRIDGE_FUZZ_DIR:-/tmp/aiobridge-fuzz}
mkdir -p "$work/corpus" "$work/found"

# libFuzzer is clang's. Where it cannot be installed here, say so.
if ! command -v "${CXX:-clang++-14}" >/dev/null && command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends clang-14 libclang-rt-14-dev >/dev/null
fi
cxx=$(command -v "${CXX:-clang++-14}") || { echo "needs ${CXX:-clang++-14} and its libFuzzer" >&2; exit 2; }

# The interpreter's own scripts first: cmake and ninja of the same environment.
PATH=$("$python" -c 'import sysconfig; print(sysconfig.get_path("scripts"))'):$PATH
cmake -G Ninja -S "$here" -B "$work/build" -DCMAKE_CXX_COMPILER="$cxx" \
  -DPython_EXECUTABLE="$(command -v "$python")" -Dpybind11_DIR="$("$python" -P -m pybind11 --cmakedir)" >"$work/cmake.log"
cmake --build "$work/build" | tail -n 1

# libstdc++ too: with the sanitizer's library alone, the first C++ exception aborts.
libraries="$("$cxx" -print-file-name="libclang_rt.asan-$(uname -m).so") $("$cxx" -print-file-name=libstdc++.so)"
export PYTHONPATH="$work/build" PYTHONDONTWRITEBYTECODE=1 UBSAN_OPTIONS=print_stacktrace=1
# Python's own allocator would hide what is freed. Without a GIL there is no other, but it can look for itself.
free_threaded=$("$python" -P -c 'import sysconfig; print(sysconfig.get_config_var("Py_GIL_DISABLED") or 0)')
export PYTHONMALLOC=$([[ $free_threaded == 1 ]] && echo debug || echo malloc)
# A stream of 2**31 events finds no memory.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=256
# Without address space randomisation: older kernels and this compiler's sanitizers disagree about it.
fuzz=(setarch -R env LD_PRELOAD="$libraries" "$python" -P "$here/driver.py" -rss_limit_mb=0 -timeout=30)

if [[ -f $what ]]; then
  AIOBRIDGE_FUZZ_TRACE=1 exec "${fuzz[@]}" "$what"
fi
seed=${SEED:-$((RANDOM * 32768 + RANDOM + 1))}
echo "seed $seed (SEED=$seed $0 $what), inputs in $work"
if ! "${fuzz[@]}" -seed="$seed" -max_total_time="$what" -max_len=128 -len_control=0 -print_final_stats=1 -verbosity=1 \
  -artifact_prefix="$work/found/" "$@" "$work/corpus" >"$work/log" 2>&1; then
  grep -v 'failed to allocate' "$work/log" | tail -n 120
  found=$(ls -t "$work"/found/* | head -n 1)
  echo "found: replay with $0 $found"
  exit 1
fi
grep -E 'cov:|^stat::' "$work/log" | tail -n 6
