#!/usr/bin/env bash
# Runs a training command that goes on from its own checkpoints until it is done: after a failure it is started again, at most
# MAX_RESTARTS times (default 20), and not when two failures in a row left the newest checkpoint at the same step.
#   run_until_done.sh FOLDER COMMAND...
#   run_until_done.sh runs/a mpirun -n 4 node_modules/.bin/evenkeel train --out runs/a --resume auto --keep 3
# FOLDER is where the command keeps its checkpoints. Signals are handed on to the command; one that it ended by (129, 130, 140, 143) is not
# a failure. The exit code is the command's last one.
set -u
folder=$1
shift
restarts=${MAX_RESTARTS:-20}
pause=${PAUSE:-5}

say() { printf '%s run_until_done: %s\n' "$(date -u +%FT%TZ)" "$*" >&2; }

# The step of the newest whole checkpoint; -1 where there is none.
step() {
  node --input-type=module --eval '
    import { existsSync } from "node:fs";
    import { findCheckpoint } from "evenkeel/train";
    const [folder] = process.argv.slice(-1);
    console.log((existsSync(folder) ? findCheckpoint(folder)?.step : null) ?? -1);
  ' "$folder" || echo -1
}

signalled=
command=
# shellcheck disable=SC2317 # called by the traps
hand_on() {
  signalled=$1
  handed_on=1
  [ -n "$command" ] && kill "-$1" "$command"
}
for signal in HUP INT TERM USR2; do
  # shellcheck disable=SC2064 # the name as it is now
  trap "hand_on $signal" "$signal"
done

failed_at=
for ((run = 0; ; run++)); do
  "$@" &
  command=$!
  # A signal ends the wait before the command has ended.
  while :; do
    handed_on=
    wait "$command"
    code=$?
    [ -n "$handed_on" ] || break
  done
  command=
  [ "$code" -eq 0 ] && exit 0
  case $code in 129 | 130 | 140 | 143) exit "$code" ;; esac
  if [ -n "$signalled" ]; then
    say "asked to end by $signalled; the command ended with $code"
    exit "$code"
  fi
  now=$(step)
  if [ "$now" = "$failed_at" ]; then
    say "exit code $code at step $now, as the time before: something else than chance; giving up"
    exit "$code"
  fi
  if [ "$run" -ge "$restarts" ]; then
    say "exit code $code after $restarts restarts; giving up"
    exit "$code"
  fi
  failed_at=$now
  say "exit code $code; going on from step $now"
  sleep "$pause"
done
