#!/bin/bash
# tests/run.sh [deploy|second|acceptance|upgrade|rollback|faults|operations|preflight]...: the playbooks against the hosts of a lab. Without a step: all, in that order.
#
#   LAB        the lab's command: `$LAB ctl CMD..` runs CMD where the hosts are reached; `$LAB kill HOST` and the like are the faults
#   INVENTORY  names a manager, three workers of which the last are no managers, and a client, by the lab's names of hosts
#   FULL       a file on a worker's scratch disk, which grows until the disk is full
#   ARTEFACTS, ARTEFACTS_NEXT, ARTEFACTS_BROKEN
#              folders with the version that is deployed, a later one, and one that is later still and not healthy
# shellcheck disable=SC2016  # what is in single quotes expands on the hosts
# Each step says how long it took. What fails ends the test, and the whole output is in $WORK.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${LAB:?the command of the lab}" "${INVENTORY:?the inventory of its hosts}" "${ARTEFACTS:?the folder of the artefacts}"
WORK=${WORK:-$(mktemp -d)}
FULL=${FULL:-/scratch0/full}
DATA=/var/lib/firesteel/test/tpch
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
recap() { sed -n '/^PLAY RECAP/,$p' "$1" | grep -E ' : ok='; }

rows() {
  at firesteel_workers:firesteel_clients "firesteel bench gen tpch --scale 0.1 --threads 1 --out $DATA" >"$WORK/rows.out" 2>&1 || die "making rows"
}

manager() { # as the client knows it
  at 'firesteel_clients[0]' 'cat /etc/firesteel/firesteel.toml' | sed -n 's/^manager = "\(.*\)"/\1/p' | head -1
}

job() { # TPC-H from the client, each answer held against the right one
  local begun=$SECONDS
  at 'firesteel_clients[0]' "firesteel bench verify tpch --data $DATA --manager $(manager)" >"$WORK/job.out" 2>&1 ||
    { tail -30 "$WORK/job.out"; die "a job from the client"; }
  grep -q '22 of 22 answers are right' "$WORK/job.out" || { tail -30 "$WORK/job.out"; die "answers of TPC-H"; }
  pass "TPC-H from the client: $(grep -o '22 of 22.*' "$WORK/job.out"), $((SECONDS - begun)) s"
}

loop_begin() { # jobs one after the other on the client, until the loop is ended
  at 'firesteel_clients[0]' "systemctl stop firesteel-test-loop 2>/dev/null; systemctl reset-failed firesteel-test-loop 2>/dev/null; rm -f /run/firesteel-test-*" >"$WORK/loop.out" 2>&1 || die "the client"
  $LAB ctl ansible 'firesteel_clients[0]' -i "$INVENTORY" -m ansible.builtin.copy -a "src=$PWD/tests/loop.sh dest=/run/firesteel-test-jobs mode=0755" >>"$WORK/loop.out" 2>&1 || die "the client"
  at 'firesteel_clients[0]' "systemd-run --quiet --unit=firesteel-test-loop /run/firesteel-test-jobs $DATA" >>"$WORK/loop.out" 2>&1 || { cat "$WORK/loop.out"; die "beginning the loop of jobs"; }
}

loop_end() { # what it came to; any wrong one ends the test
  at 'firesteel_clients[0]' 'touch /run/firesteel-test-end; for i in $(seq 300); do systemctl is-active --quiet firesteel-test-loop || break; sleep 1; done
    awk "{ n[\$1]++; t += \$2; if (\$2 > most) most = \$2 } END { printf \"%d runs of five queries right, %d wrong, %d ms on average, %d at most\\n\", n[\"right\"], n[\"wrong\"], t / NR, most }" /run/firesteel-test-loop
    cat /run/firesteel-test-wrong 2>/dev/null || true' >"$WORK/loop-$1.out" 2>&1 || { cat "$WORK/loop-$1.out"; die "the loop of jobs"; }
  grep -qE '^[1-9][0-9]* runs of five queries right, 0 wrong' "$WORK/loop-$1.out" || { cat "$WORK/loop-$1.out"; die "jobs during $1"; }
  pass "jobs during $1: $(grep 'runs of five' "$WORK/loop-$1.out")"
}

versions() { at firesteel_workers 'basename "$(dirname "$(dirname "$(dirname "$(readlink /proc/$(systemctl show -p MainPID --value firesteel-worker)/exe)")")")"' 2>/dev/null | grep -v '|'; }

step_deploy() {
  play deploy site -e "firesteel_artefacts=$ARTEFACTS"
  well deploy
  rows
  job
}

step_second() {
  play second site -e "firesteel_artefacts=$ARTEFACTS"
  well second
  recap "$WORK/second.out"
  [ "$(recap "$WORK/second.out" | grep -vc 'changed=0 ')" -eq 0 ] || { grep -B3 '^changed: ' "$WORK/second.out"; die "a second run changes something"; }
  pass "a second run changes nothing"
}

step_acceptance() {
  play acceptance acceptance -e firesteel_acceptance_disk_size=128MiB -e "firesteel_operations_folder=$WORK/collected"
  well acceptance
  sed -n '/"msg": \[/,/\]/p' "$WORK/acceptance.out" | grep -E '^ +"'
  grep -q '22 of 22 answers are right' "$WORK/acceptance.out" || die "acceptance ran no job"
}

step_upgrade() {
  loop_begin
  play upgrade upgrade -e "firesteel_artefacts=${ARTEFACTS_NEXT:?}"
  well upgrade
  loop_end upgrade
  versions | sort | uniq -c
  [ "$(versions | sort -u | wc -l)" -eq 1 ] || die "workers run several versions"
  grep -qF "firesteel-$(versions | sort -u)-" "$ARTEFACTS_NEXT/SHA256SUMS" || die "workers do not run the new version"
  pass "an upgrade under load"
}

step_rollback() {
  local before after
  before=$(versions)
  loop_begin
  play rollback upgrade -e "firesteel_artefacts=${ARTEFACTS_BROKEN:?}" -e firesteel_operations_wait=20
  [ "$played" -ne 0 ] || die "a broken version went through"
  grep -q 'is not healthy on .* again, healthily' "$WORK/rollback.out" || { tail -40 "$WORK/rollback.out"; die "it was not told that it was rolled back"; }
  grep -o '[^"]* is not healthy on [^"]*' "$WORK/rollback.out" | head -1
  loop_end rollback
  after=$(versions)
  [ "$before" = "$after" ] || die "after the rollback: $after"
  play validate validate
  well validate
  pass "a broken version is rolled back on its host, and the play stops there"
}

step_preflight() {
  [ -x tests/preflight.sh ] || die "tests/preflight.sh is not there"
  local hosts
  mapfile -t hosts < <($LAB ctl ansible-inventory -i "$INVENTORY" --list | python3 -c 'import json,sys; print("\n".join(v["ansible_host"] for v in json.load(sys.stdin)["_meta"]["hostvars"].values()))')
  LAB_CTL="$LAB ctl" tests/preflight.sh "${hosts[@]:0:4}"
}

fault() { # name, seconds, command that breaks, command that mends
  loop_begin
  sleep 5
  eval "$3"
  sleep "$2"
  eval "$4"
  sleep 15
  loop_end "$1"
  play "after-$1" validate
  well "after-$1"
  pass "$1"
}

worker_alone() { # the last worker that is no manager
  local last
  last=$($LAB ctl ansible 'firesteel_workers:!firesteel_managers' -i "$INVENTORY" --list-hosts 2>/dev/null | tail -n +2 | tail -1 | tr -d ' ')
  [ -n "$last" ] || die "$INVENTORY has no worker that is no manager"
  echo "$last"
}

step_faults() {
  local manager last
  manager=$($LAB ctl ansible 'firesteel_managers[0]' -i "$INVENTORY" --list-hosts | tail -1 | tr -d ' ')
  last=$(worker_alone)
  fault power-loss 20 "$LAB kill $last" "$LAB start $last"
  fault frozen 30 "$LAB freeze $last" "$LAB thaw $last"
  fault partition 20 "$LAB part $manager $last" "$LAB unpart"
  fault disk-full 20 "$LAB in $last sh -c 'dd if=/dev/zero of=$FULL bs=1M 2>/dev/null || true'" "$LAB in $last rm -f $FULL"
  play logs gather_logs -e "firesteel_operations_folder=$WORK/collected"
  well logs
  tar -tzf "$WORK"/collected/logs-*.tar.gz | sort
}

step_operations() {
  local last
  last=$(worker_alone)
  loop_begin
  play decommission decommission -e "firesteel_leaving=$last"
  well decommission
  play scale-out scale_out -e "firesteel_artefacts=${ARTEFACTS_NEXT:-$ARTEFACTS}"
  well scale-out
  loop_end "a worker's leaving and coming"
  play unconfirmed reset -e firesteel_reset_confirm=no
  [ "$played" -ne 0 ] || die "reset went on without a yes"
  play reset reset -e firesteel_reset_confirm=reset
  well reset
  at all 'ls -d /opt/firesteel /etc/firesteel /var/log/firesteel /usr/bin/firesteel /usr/local/lib/firesteel /etc/*/*firesteel* /etc/systemd/system/*firesteel* /etc/systemd/system/*/*firesteel* 2>/dev/null || true' >"$WORK/left.out"
  ! grep -q firesteel "$WORK/left.out" || { cat "$WORK/left.out"; die "reset left something"; }
  pass "a cluster that leaves nothing behind"
}

for step in "${@:-deploy second acceptance upgrade rollback faults operations preflight}"; do
  for one in $step; do
    declare -F "step_$one" >/dev/null || die "there is no step $one"
    begun=$SECONDS
    "step_$one"
    echo "== $one: $((SECONDS - begun)) s"
  done
done
