# shellcheck shell=bash
# shellcheck disable=SC2016,SC2154  # what is in single quotes expands on the hosts; run.sh has `played`
# Versions that change, workers that come and go, the end.

versions() { at firesteel_workers 'exe=$(readlink /proc/$(systemctl show -p MainPID --value firesteel-worker)/exe); basename "${exe%/usr/*}"' 2>/dev/null | said; }

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

reset_all() {
  play reset reset -e firesteel_reset_confirm=reset
  well reset
  at all 'ls -d /var/lib/firesteel/manager /var/lib/firesteel/check /var/lib/firesteel/bench /opt/firesteel /etc/firesteel /var/log/firesteel /usr/bin/firesteel /usr/local/lib/firesteel /etc/*/*firesteel* /etc/*/*/*firesteel* /var/lib/grafana/dashboards/*firesteel* /etc/systemd/system/*firesteel* /etc/systemd/system/*/*firesteel* 2>/dev/null || true' >"$WORK/left.out"
  ! grep -q firesteel "$WORK/left.out" || { cat "$WORK/left.out"; die "reset left something"; }
  pass "a cluster that leaves nothing behind"
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
  reset_all
}
