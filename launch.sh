#!/usr/bin/env bash
# Sets the environment of a run on this machine, then becomes it.
set -euo pipefail

usage() {
  cat <<'TEXT'
./launch.sh [--cpu-devices=N] NAME [--flag=value ...]

Runs python -m experiments.NAME with the flags that follow it. Without options every accelerator of this machine is
used, or else its CPU as one device.

  --cpu-devices=N   make the CPU N devices, 1 to 1024: one a core is faster for convolutions, 8 try out a larger machine
  --help            this text; ./launch.sh NAME --help shows the flags of an experiment

Examples:
  ./launch.sh image_classifier
  ./launch.sh --cpu-devices=2 image_classifier --dataset=mnist --data_dir="$HOME/data"
  ./launch.sh --cpu-devices=8 image_classifier --parallel=pmap --batch_size=256

Environment: PYTHON, the interpreter (python).
TEXT
}

fail() {
  printf 'launch.sh: %s\n' "$1" >&2
  exit 2
}

while (($#)); do
  case $1 in
    --cpu-devices=*)
      devices=${1#*=}
      if ! [[ $devices =~ ^[1-9][0-9]{0,3}$ ]] || ((devices > 1024)); then
        fail "$1: must be a whole number from 1 to 1024"
      fi
      export JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=$devices
      ;;
    --help | -h)
      usage
      exit 0
      ;;
    -*) fail "$1: no such option; options of launch.sh stand before NAME, flags of the experiment after it (--help)" ;;
    *) break ;;
  esac
  shift
done
(($#)) || fail "no experiment named; python -m experiments lists them (--help)"

name=$1
shift
here=$(dirname "$(readlink -f "$0")")
if ! [[ $name =~ ^[a-z][a-z0-9_]*$ && -f $here/experiments/$name.py ]]; then
  fail "$name: no such experiment; python -m experiments lists them"
fi
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}
# Huge pages for large buffers: a fifth of a CPU step goes into page faults without (the 32-64 CNN: 38 ms, then 31).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
# jaxlib 0.10's default library for CPU convolutions uses one core for much of the work: the 32-64 CNN's step takes 28 ms
# with it and 19 ms without; its matrix products and reductions are good and stay. An XLA flag that another version does not know would end the program, so ask which it is.
if [[ -z ${XLA_FLAGS:-} && $("${PYTHON:-python}" -c 'import jaxlib; print(jaxlib.__version__)' 2>/dev/null) == 0.10.* ]]; then
  export XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=individual_dot,reduce
fi
exec "${PYTHON:-python}" -m "experiments.$name" "$@"
