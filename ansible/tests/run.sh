#!/bin/bash
# tests/run.sh [STEP]...: the playbooks against the hosts of a lab. Without a step: all, in this order:
#   deploy second renewal acceptance bench upgrade rollback faults operations    one cluster, from its deployment to its end
#   preflight three molecule                                                     each begins with hosts that have none, and leaves them so
#
#   LAB        the lab's command: `$LAB ctl CMD..` runs CMD where the hosts are reached; `$LAB kill HOST` and the like are the faults
#   INVENTORY  names a manager, three workers of which the last are no managers, and a client, by the lab's names of hosts
#   INVENTORY_THREE
#              names three hosts that are managers and workers, and a client that observes; steps/three.sh says what else it has
#   FULL       a file on a worker's scratch disk, which grows until the disk is full
#   ARTEFACTS, ARTEFACTS_NEXT, ARTEFACTS_BROKEN
#              folders with the version that is deployed, a later one, and one that is later still and not healthy
# Each step says how long it took. What fails ends the test, and the whole output is in $WORK.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${LAB:?the command of the lab}" "${INVENTORY:?the inventory of its hosts}" "${ARTEFACTS:?the folder of the artefacts}"
WORK=${WORK:-$(mktemp -d)}
FULL=${FULL:-/scratch0/full}
# shellcheck disable=SC2034  # the steps use it
DATA=/var/lib/firesteel/test/tpch
played=0 # how the last play ended
all_steps="deploy second renewal acceptance bench upgrade rollback faults operations preflight three molecule"
mkdir -p "$WORK/collections/ansible_collections/firesteel"
[ -n "${ANSIBLE_COLLECTIONS_PATH:-}" ] || ln -sfn "$PWD" "$WORK/collections/ansible_collections/firesteel/cluster"
export ANSIBLE_COLLECTIONS_PATH=${ANSIBLE_COLLECTIONS_PATH:-$WORK/collections}
export ANSIBLE_HOST_KEY_CHECKING=false ANSIBLE_NOCOLOR=1 ANSIBLE_PIPELINING=true ANSIBLE_TIMEOUT=${ANSIBLE_TIMEOUT:-90}

die() { echo "FAILED: $*; see $WORK" >&2; exit 1; }
pass() { echo "ok: $*"; }

play() { # name of the output, playbook, arguments...
  local out=$WORK/$1.out begun=$SECONDS book=$2
  shift 2
  if $LAB ctl ansible-playbook -i "$INVENTORY" "firesteel.cluster.$book" "$@" >"$out" 2>&1; then played=0; else played=$?; fi
  echo "$book took $((SECONDS - begun)) s"
}
well() { [ "$played" -eq 0 ] || { tail -40 "$WORK/$1.out"; die "$1"; }; }
at() { # group or host, shell command
  $LAB ctl ansible "$1" -i "$INVENTORY" -m ansible.builtin.shell -a "$2"
}
hosts_of() { # pattern
  $LAB ctl ansible "$1" -i "$INVENTORY" --list-hosts 2>/dev/null | tail -n +2 | tr -d ' '
}
address() { $LAB ctl getent ahostsv4 "$1" | awk 'NR == 1 { print $1 }'; }
said() { grep -v ' | ' || true; } # what `at` said, without the line that names the host
bring() { # file, host, path and mode there, which may name an owner as well
  $LAB ctl ansible "$2" -i "$INVENTORY" -m ansible.builtin.copy -a "src=$1 dest=$3 mode=$4" >"$WORK/bring.out" 2>&1 ||
    { cat "$WORK/bring.out"; die "bringing $3 to $2"; }
}
recap() { sed -n '/^PLAY RECAP/,$p' "$1" | grep -E ' : ok='; }
unchanged() { # name of the output
  recap "$WORK/$1.out"
  [ "$(recap "$WORK/$1.out" | grep -vc 'changed=0 ')" -eq 0 ] || { grep -B3 '^changed: ' "$WORK/$1.out"; die "$1 changes something"; }
}

for file in tests/steps/*.sh; do
  # shellcheck source=/dev/null
  . "$file"
done

steps=("$@")
[ $# -gt 0 ] || read -ra steps <<<"$all_steps"
for step in "${steps[@]}"; do
  declare -F "step_$step" >/dev/null || die "there is no step $step: there are $all_steps"
  begun=$SECONDS
  "step_$step"
  echo "== $step: $((SECONDS - begun)) s"
done
