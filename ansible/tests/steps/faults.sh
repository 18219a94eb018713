# shellcheck shell=bash
# shellcheck disable=SC2016  # what is in single quotes expands on the hosts
# Hosts that break under jobs.

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
  last=$(hosts_of 'firesteel_workers:!firesteel_managers' | tail -1)
  [ -n "$last" ] || die "$INVENTORY has no worker that is no manager"
  echo "$last"
}

step_faults() {
  local manager last
  manager=$(hosts_of 'firesteel_managers[0]')
  last=$(worker_alone)
  fault power-loss 20 "$LAB kill $last" "$LAB start $last"
  fault frozen 30 "$LAB freeze $last" "$LAB thaw $last"
  fault partition 20 "$LAB part $manager $last" "$LAB unpart"
  fault disk-full 20 "$LAB in $last sh -c 'dd if=/dev/zero of=$FULL bs=1M 2>/dev/null || true'" "$LAB in $last rm -f $FULL"
  play logs gather_logs -e "firesteel_operations_folder=$WORK/collected"
  well logs
  tar -tzf "$WORK"/collected/logs-*.tar.gz | sort
}
