#!/usr/bin/env bash
# Sets the environment of a run, then becomes it, or starts its processes and looks after them.
set -euo pipefail

usage() {
  cat <<'TEXT'
./launch.sh [--processes=N] [--cpu-devices=N] [--max-restarts=K] [--coordinator=HOST:PORT --process-id=I]
            NAME|FILE.py [--flag=value ...]

Runs python -m experiments.NAME, or python FILE.py of one's own, with the flags that follow it. Without options every
accelerator of this machine is used by one process, or else its CPU as one device.

  --processes=N     N processes that train as one; the GPUs of this machine are divided among them, lines of output
                    begin with the number of their process, and if one dies all are stopped
  --cpu-devices=N   make the CPU N devices a process: one an idle core, with --parallel=pmap, is faster for convolutions;
                    8 try out a larger machine
  --max-restarts=K  after a crash start again from the last checkpoint, at most K times; not after a mistake in the
                    flags or data, nor a loss that is no number, which would come again
  --coordinator=HOST:PORT --process-id=I
                    of --processes=N on several machines start number I here; HOST is the machine of number 0, PORT
                    free there; all need the same --workdir in a folder that all see
  --help            this text; ./launch.sh NAME --help shows the flags of an experiment

Examples: ./launch.sh image_classifier
  ./launch.sh --cpu-devices=2 image_classifier --parallel=pmap --dataset=mnist --data_dir="$HOME/data"
  ./launch.sh --cpu-devices=8 image_classifier --parallel=pmap --batch_size=256
  ./launch.sh --processes=2 --cpu-devices=2 --max-restarts=3 image_classifier --workdir=runs/two
  ./launch.sh --processes=2 --cpu-devices=1 mine.py --workdir=runs/mine/two
  ./launch.sh --processes=4 --max-restarts=3 image_classifier       # on a machine with four or eight GPUs
  ./launch.sh --coordinator=node1:1234 --processes=2 --process-id=0 image_classifier --workdir=/shared/run   # on node1
  ./launch.sh --coordinator=node1:1234 --processes=2 --process-id=1 image_classifier --workdir=/shared/run   # on node2
  srun --ntasks=8 --gpus-per-node=4 --label ./launch.sh image_classifier       # Slurm: one process a GPU
  gcloud compute tpus tpu-vm ssh POD --worker=all --command="./launch.sh image_classifier --workdir=/shared/run"

Environment: PYTHON, the interpreter (python); JAXDL_TUNED=0, none of the settings that make a CPU fast.
Exit status: the one of the experiment, of the first process that fails; 128 + n after signal n, and 75 if the port is
taken that the processes meet at: one that was chosen here is chosen anew before, up to 5 times.
If launch.sh itself is killed, its processes save their state and end (on Linux).
TEXT
}

say() { printf 'launch.sh: %s\n' "$1" >&2 || true; } # a terminal that is gone costs no restart

fail() {
  say "$1"
  exit 2
}

check_number() { # --option=NUMBER LOW HIGH
  [[ ${1#*=} =~ ^(0|[1-9][0-9]{0,3})$ && ${1#*=} -ge $2 && ${1#*=} -le $3 ]] ||
    fail "$1: must be a whole number from $2 to $3"
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
    -*) fail "$1: no such option; options of launch.sh stand before NAME, flags of the experiment after it (--help)" ;;
    *) break ;;
  esac
  shift
done
(($#)) || fail "no experiment named; python -m experiments lists them (--help)"
if [[ -n $coordinator ]]; then
  [[ -n $processes && -n $id ]] || fail "--coordinator=$coordinator: needs --processes=N and --process-id=I too"
  ((id < processes)) || fail "--process-id=$id: must be from 0 to $((processes - 1)) with --processes=$processes"
  [[ -z $restarts ]] || fail "--max-restarts=$restarts: is for the processes of one machine, not with --coordinator"
elif [[ -n $id ]]; then
  fail "--process-id=$id: needs --coordinator=HOST:PORT, the machine of process 0 and a free port there"
elif [[ -n ${SLURM_STEP_NODELIST:-} && ${SLURM_NTASKS:-1} != 1 ]]; then
  slurm=$SLURM_JOB_ID.${SLURM_STEP_ID:-0}
  [[ -z $processes$restarts ]] || fail "srun starts the processes already: leave out --processes and --max-restarts"
fi

name=$1
shift
here=$(dirname "$(readlink -f "$0")")
if [[ $name == *.py ]]; then # of the user's own
  [[ -f $name ]] || fail "$name: no such file; name an experiment or its Python file"
  program=("$name") name=$(basename "$name" .py)
else
  [[ $name =~ ^[a-z][a-z0-9_]*$ && (-f $here/experiments/$name.py || -f $here/experiments/$name/__main__.py) ]] ||
    fail "$name: no such experiment; python -m experiments lists them"
  program=(-m "experiments.$name")
fi
python=${PYTHON:-python}
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}
# What jaxdl/tuned.py has, which also says why; set here, so that each process need not start itself anew for it.
if [[ ${JAXDL_TUNED:-} != 0 ]]; then
  export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
  # An XLA flag that another version of jaxlib does not know would end the program, so ask which it is.
  if [[ -z ${XLA_FLAGS:-} && $("$python" -c 'import jaxlib; print(jaxlib.__version__)' 2>/dev/null) == 0.10.* ]]; then
    export XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=individual_dot,reduce
  fi
fi
# Between processes only gloo is in jaxlib for the CPU.
export JAX_CPU_COLLECTIVES_IMPLEMENTATION=${JAX_CPU_COLLECTIVES_IMPLEMENTATION:-gloo}

if [[ -n $coordinator ]]; then
  export JAXDL_COORDINATOR=$coordinator JAXDL_PROCESSES=$processes JAXDL_PROCESS_ID=$id
  exec "$python" "${program[@]}" "$@"
elif [[ -n $slurm ]]; then
  # One folder for all tasks, also when Slurm starts the job again; a --workdir among the flags comes later and wins.
  exec "$python" "${program[@]}" "--workdir=runs/$name/slurm-$slurm" "$@"
elif [[ (${processes:-1} == 1 && ${restarts:-0} == 0) || " $* " == *" --help "* ]]; then
  exec "$python" "${program[@]}" "$@"
fi

# From here on: several processes, or one that is started again.
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
flags=("--workdir=runs/$name/$(date +%Y%m%d-%H%M%S)-$$" "$@") # of two --workdir the later one, the user's, counts
export PYTHONUNBUFFERED=1
export JAXDL_LAUNCHER=$$ # whose end is that of its processes, by SIGTERM
JAXDL_LAUNCH=$HOSTNAME-$$-$(date +%s%N) # --overwrite at a restart goes on with what this launch has begun
export JAXDL_LAUNCH
pids=() labels=() signalled=''

signal_all() { kill -s "$1" -- "${@:2}" 2>/dev/null || true; } # some have ended, or none has begun

# A process that is saving its state takes a second signal as an order to end at once.
pass_on() {
  if [[ -n $signalled ]]; then signal_all KILL "${pids[@]/#/-}"; else signal_all "$1" "${pids[@]}"; fi
  signalled=$1
}
trap 'pass_on INT' INT && trap 'pass_on TERM' TERM && trap 'pass_on HUP' HUP # under nohup HUP stays ignored
trap : PIPE # for say; its processes do not inherit it

# sed would leave a last line without its end, and the next process would go on in it.
label() {
  trap '' INT TERM HUP # it ends when nobody can write to it any more
  while IFS= read -r line || [[ -n $line ]]; do printf '%s%s\n' "$1" "$line"; done
}

start_all() {
  local rank port out err share=$((${#gpus[@]} / processes))
  if ((processes > 1)); then
    port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    export JAXDL_COORDINATOR=127.0.0.1:$port JAXDL_PROCESSES=$processes
  fi
  set -m # each process leads a group, so Ctrl-C reaches it once, from here, and its children can be ended with it
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
  [[ -z $signalled ]] || signal_all "$signalled" "${pids[@]}" # it came while they were being started
}

# Those that wait for a dead one cannot heed TERM; 4 s are for those that can.
stop_all() {
  signal_all TERM "${pids[@]}"
  for ((tenths = 0; tenths < 40; tenths++)); do
    kill -0 "${pids[@]}" || break
    sleep 0.1 || true # Ctrl-C ends it too
  done
  signal_all KILL "${pids[@]/#/-}"
  wait "${pids[@]}" || true
  pids=()
}

# Waits until all have ended; `status` and `first` tell of the first one that failed.
await_all() {
  local pid ended rank
  status=0 first=''
  while ((${#pids[@]})); do
    ended=0
    wait -n -p pid "${pids[@]}" || ended=$?
    [[ -n ${pid:-} ]] || continue # a signal came, its trap has passed it on
    for rank in "${!pids[@]}"; do [[ ${pids[rank]} != "$pid" ]] || break; done
    unset "pids[rank]"
    signal_all KILL "-$pid" # what it may have left behind
    ((ended)) || continue
    [[ -n $first ]] || status=$ended first=$rank
    if ((${#pids[@]})) && [[ -z $signalled || $ended != $((128 + $(kill -l "$signalled"))) ]]; then stop_all; fi
  done 2>/dev/null # bash tells of a job that was killed by a line of its own
  ((${#labels[@]} == 0)) || wait "${labels[@]}" || true
  labels=()
}

for ((attempt = 0; ; attempt++)); do
  ports=5 # that may turn out to be taken between their choice and their use
  start_all
  await_all
  while [[ $status == 75 && -z $signalled ]] && ((processes > 1 && ports-- > 0)); do
    say "the port was taken meanwhile; again with another one"
    start_all
    await_all
  done
  [[ $status != 0 && -z $signalled ]] || exit "$status"
  again='' told="process $first ended with status $status"
  ((status <= 128)) || told+=" (SIG$(kill -l "$((status - 128))" 2>/dev/null))" || true
  [[ $status =~ ^(2|65|66|70|75)$ || $attempt == "$restarts" ]] || again="; restart $((attempt + 1)) of $restarts"
  say "$told$again"
  [[ -n $again ]] || exit "$status"
done
