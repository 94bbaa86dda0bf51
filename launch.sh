#!/usr/bin/env bash
# Sets the environment of a run, then executes it, or starts and supervises its processes.
set -euo pipefail

usage() {
  cat <<'TEXT'
./launch.sh [--processes=N] [--cpu-devices=N] [--max-restarts=K] [--coordinator=HOST:PORT --process-id=I]
            NAME|FILE.py [--flag=value ...]

Runs python -m experiments.NAME, or your own python FILE.py, with the flags after it. Without options, one process uses
all accelerators of this machine, or its CPU as one device if there are none.

  --processes=N     train with N processes together. The GPUs of this machine are divided among them, each line of
                    output starts with the number of its process, and if one process fails, all are stopped
  --cpu-devices=N   split the CPU of each process into N devices. One device per idle core, with --parallel=pmap, is
                    faster for convolutions; 8 devices simulate a larger machine
  --max-restarts=K  after a crash restart from the last checkpoint, at most K times. Errors that would recur are not
                    retried: invalid flags or data, or a loss that is not finite
  --coordinator=HOST:PORT --process-id=I
                    with --processes=N on several machines: start process I here. HOST is the machine of process 0,
                    PORT a free port there. All processes need the same --workdir, in a shared folder
  --help            print this text; ./launch.sh NAME --help prints the flags of an experiment

Examples:
  ./launch.sh image_classifier
  ./launch.sh --cpu-devices=2 image_classifier --parallel=pmap --dataset=mnist --data_dir="$HOME/data"
  ./launch.sh --cpu-devices=8 image_classifier --parallel=pmap --batch_size=256
  ./launch.sh --processes=2 --cpu-devices=2 --max-restarts=3 image_classifier --workdir=runs/two
  ./launch.sh --processes=2 --cpu-devices=1 mine.py --workdir=runs/mine/two
  ./launch.sh --processes=4 --max-restarts=3 image_classifier       # on a machine with four or eight GPUs
  ./launch.sh --coordinator=node1:1234 --processes=2 --process-id=0 image_classifier --workdir=/shared/run   # on node1
  ./launch.sh --coordinator=node1:1234 --processes=2 --process-id=1 image_classifier --workdir=/shared/run   # on node2
  srun --ntasks=8 --gpus-per-node=4 --label ./launch.sh image_classifier       # Slurm: one process per GPU
  gcloud compute tpus tpu-vm ssh POD --worker=all --command="./launch.sh image_classifier --workdir=/shared/run"

Environment: PYTHON is the interpreter (default: python); JAXDL_TUNED=0 disables the settings that speed up CPUs.
Exit status: that of the experiment, or of the first process that fails; 128 + n after signal n; 75 if the port for the
processes is in use. A port chosen by launch.sh is replaced first, up to 5 times.
If launch.sh itself is killed, its processes save their state and exit (on Linux).
TEXT
}

say() { printf 'launch.sh: %s\n' "$1" >&2 || true; } # a closed terminal must not prevent a restart

fail() {
  say "$1"
  exit 2
}

check_number() { # --option=NUMBER LOW HIGH
  [[ ${1#*=} =~ ^(0|[1-9][0-9]{0,3})$ && ${1#*=} -ge $2 && ${1#*=} -le $3 ]] ||
    fail "$1: must be an integer from $2 to $3"
}

processes='' restarts='' coordinator='' id='' slurm=''
while (($#)); do
  case $1 in
    --processes=*) check_number "$1" 1 1024 && processes=${1#*=} ;;
    --cpu-devices=*) check_number "$1" 1 1024 && export JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES="${1#*=}" ;;
    --max-restarts=*) check_number "$1" 0 9999 && restarts=${1#*=} ;;
    --process-id=*) check_number "$1" 0 1023 && id=${1#*=} ;;
    --coordinator=*)
      coordinator=${1#*=}
      [[ $coordinator =~ ^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([1-9][0-9]{0,4})$ && ${BASH_REMATCH[2]} -lt 65536 ]] ||
        fail "$1: must be HOST:PORT, the port from 1 to 65535" ;;
    --processes | --cpu-devices | --max-restarts | --coordinator | --process-id)
      fail "$1${2:+ $2}: must be written with =, $1=${2:-N}" ;;
    --help | -h) usage && exit 0 ;;
    -*) fail "$1: no such option; put options of launch.sh before NAME, flags of the experiment after it (--help)" ;;
    *) break ;;
  esac
  shift
done
(($#)) || fail "NAME or FILE.py is missing; python -m experiments lists the experiments (--help)"
if [[ -n $coordinator ]]; then
  [[ -n $processes && -n $id ]] || fail "--coordinator=$coordinator: also needs --processes=N and --process-id=I"
  ((id < processes)) || fail "--process-id=$id: must be from 0 to $((processes - 1)) with --processes=$processes"
  [[ -z $restarts ]] || fail "--max-restarts=$restarts: does not work with --coordinator, only on one machine"
elif [[ -n $id ]]; then
  fail "--process-id=$id: needs --coordinator=HOST:PORT, the machine of process 0 and a free port there"
elif [[ -n ${SLURM_STEP_NODELIST:-} && ${SLURM_NTASKS:-1} != 1 ]]; then
  slurm=$SLURM_JOB_ID.${SLURM_STEP_ID:-0}
  [[ -z $processes$restarts ]] || fail "srun already starts the processes; leave out --processes and --max-restarts"
fi

name=$1
shift
here=$(dirname "$(readlink -f "$0")")
if [[ $name == *.py ]]; then # the user's own file
  [[ -f $name ]] || fail "$name: no such file; give an experiment or your own Python file"
  program=("$name") name=$(basename "$name" .py)
else
  [[ $name =~ ^[a-z][a-z0-9_]*$ && (-f $here/experiments/$name.py || -f $here/experiments/$name/__main__.py) ]] ||
    fail "$name: no such experiment; python -m experiments lists all"
  program=(-m "experiments.$name")
fi
python=${PYTHON:-python}
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}
# The settings of jaxdl/tuned.py, which explains them; set here so that no process must restart itself for them.
if [[ ${JAXDL_TUNED:-} != 0 ]]; then
  export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
  # Other versions of jaxlib may abort because of an unknown XLA flag, so check the version.
  if [[ -z ${XLA_FLAGS:-} && $("$python" -c 'import jaxlib; print(jaxlib.__version__)' 2>/dev/null) == 0.10.* ]]; then
    export XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=individual_dot,reduce
  fi
fi
# On the CPU, jaxlib includes only gloo for collectives between processes.
export JAX_CPU_COLLECTIVES_IMPLEMENTATION=${JAX_CPU_COLLECTIVES_IMPLEMENTATION:-gloo}

if [[ -n $coordinator ]]; then
  export JAXDL_COORDINATOR=$coordinator JAXDL_PROCESSES=$processes JAXDL_PROCESS_ID=$id
  exec "$python" "${program[@]}" "$@"
elif [[ -n $slurm ]]; then
  # One folder for all tasks and for restarts by Slurm; a --workdir among the flags comes later and overrides it.
  exec "$python" "${program[@]}" "--workdir=runs/$name/slurm-$slurm" "$@"
elif [[ (${processes:-1} == 1 && ${restarts:-0} == 0) || " $* " == *" --help "* ]]; then
  exec "$python" "${program[@]}" "$@"
fi

# From here on: several processes, or one with restarts.
((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501)) || fail "--processes and --max-restarts need bash 5.1 or newer"
processes=${processes:-1} restarts=${restarts:-0}
gpus=()
if ((processes > 1)) && [[ ${JAX_PLATFORMS:-} != cpu ]]; then
  if [[ -v CUDA_VISIBLE_DEVICES ]]; then
    IFS=, read -ra gpus <<<"${CUDA_VISIBLE_DEVICES#-1}"
  else
    mapfile -t gpus < <(nvidia-smi -L 2>/dev/null | sed -n 's/^GPU \([0-9]*\):.*/\1/p')
  fi
  ((${#gpus[@]} % processes == 0)) ||
    fail "--processes=$processes: must divide the ${#gpus[@]} GPUs of this machine (--cpu-devices=1 uses its CPU)"
  ((${#gpus[@]} == 0)) || export CUDA_VISIBLE_DEVICES
fi
flags=("--workdir=runs/$name/$(date +%Y%m%d-%H%M%S)-$$" "$@") # a later --workdir of the user overrides it
export PYTHONUNBUFFERED=1
export JAXDL_LAUNCHER=$$ # its processes receive SIGTERM when it exits
JAXDL_LAUNCH=$HOSTNAME-$$-$(date +%s%N) # after a restart, --overwrite resumes the run that this launch began
export JAXDL_LAUNCH
pids=() labels=() signalled=''

signal_all() { kill -s "$1" -- "${@:2}" 2>/dev/null || true; } # some may have exited, or none started

# A process that saves its state exits at once on a second signal.
pass_on() {
  if [[ -n $signalled ]]; then signal_all KILL "${pids[@]/#/-}"; else signal_all "$1" "${pids[@]}"; fi
  signalled=$1
}
trap 'pass_on INT' INT && trap 'pass_on TERM' TERM && trap 'pass_on HUP' HUP # under nohup HUP stays ignored
trap : PIPE # for say; its processes do not inherit it

# sed would print an incomplete last line without a newline, and the next process would continue it.
label() {
  trap '' INT TERM HUP # it exits when all writers have closed the pipe
  while IFS= read -r line || [[ -n $line ]]; do printf '%s%s\n' "$1" "$line"; done
}

start_all() {
  local rank port out err share=$((${#gpus[@]} / processes))
  if ((processes > 1)); then
    port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    export JAXDL_COORDINATOR=127.0.0.1:$port JAXDL_PROCESSES=$processes
  fi
  set -m # one group per process: Ctrl-C reaches it only through this script, and its children are killed with it
  for ((rank = 0; rank < processes; rank++)); do
    ((share == 0)) || CUDA_VISIBLE_DEVICES=$(IFS=, && printf '%s' "${gpus[*]:rank*share:share}")
    if ((processes == 1)); then
      "$python" "${program[@]}" "${flags[@]}" </dev/null & pids=($!)
      break
    fi
    exec {out}> >(label "[$rank] ") && labels+=($!)
    exec {err}> >(label "[$rank] " >&2) && labels+=($!)
    JAXDL_PROCESS_ID=$rank "$python" "${program[@]}" "${flags[@]}" </dev/null 1>&$out 2>&$err & pids[rank]=$!
    exec {out}>&- {err}>&-
  done
  set +m
  [[ -z $signalled ]] || signal_all "$signalled" "${pids[@]}" # the signal came while they were being started
}

# Processes that wait for a dead one ignore TERM; the others get 4 s.
stop_all() {
  signal_all TERM "${pids[@]}"
  for ((tenths = 0; tenths < 40; tenths++)); do
    kill -0 "${pids[@]}" || break
    sleep 0.1 || true # Ctrl-C interrupts sleep too
  done
  signal_all KILL "${pids[@]/#/-}"
  wait "${pids[@]}" || true
  pids=()
}

# Waits until all have exited; sets `status` and `first`, status and number of the first process that failed.
await_all() {
  local pid ended rank
  status=0 first=''
  while ((${#pids[@]})); do
    ended=0
    wait -n -p pid "${pids[@]}" || ended=$?
    [[ -n ${pid:-} ]] || continue # interrupted by a signal, which its trap has passed on
    for rank in "${!pids[@]}"; do [[ ${pids[rank]} != "$pid" ]] || break; done
    unset "pids[rank]"
    signal_all KILL "-$pid" # its remaining children
    ((ended)) || continue
    [[ -n $first ]] || status=$ended first=$rank
    if ((${#pids[@]})) && [[ -z $signalled || $ended != $((128 + $(kill -l "$signalled"))) ]]; then stop_all; fi
  done 2>/dev/null # hides what bash prints about killed jobs
  ((${#labels[@]} == 0)) || wait "${labels[@]}" || true
  labels=()
}

for ((attempt = 0; ; attempt++)); do
  ports=5 # attempts, as a port may be taken between its choice and its use
  start_all
  await_all
  while [[ $status == 75 && -z $signalled ]] && ((processes > 1 && ports-- > 0)); do
    say "the port is in use; trying another one"
    start_all
    await_all
  done
  [[ $status != 0 && -z $signalled ]] || exit "$status"
  again='' report="process $first exited with status $status"
  ((status <= 128)) || report+=" (SIG$(kill -l "$((status - 128))" 2>/dev/null))" || true
  [[ $status =~ ^(2|65|66|70|75)$ || $attempt == "$restarts" ]] || again="; restart $((attempt + 1)) of $restarts"
  say "$report$again"
  [[ -n $again ]] || exit "$status"
done
