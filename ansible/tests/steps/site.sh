# shellcheck shell=bash
# shellcheck disable=SC2016  # what is in single quotes expands on the hosts
# A cluster that is made, measured, and kept as it is.

step_deploy() {
  play deploy site -e "firesteel_artefacts=$ARTEFACTS"
  well deploy
  rows
  job
  newest_programs
}

# Hosts with the processor for it run the program that is compiled for it; all of them have this machine's.
newest_programs() {
  local program=bin/firesteel
  grep -qw avx2 /proc/cpuinfo && grep -qw bmi2 /proc/cpuinfo && program=x86-64-v3/firesteel
  at firesteel_workers 'readlink /proc/$(systemctl show -p MainPID --value firesteel-worker)/exe' 2>/dev/null | said >"$WORK/programs.out"
  [ "$(grep -c "/$program\$" "$WORK/programs.out")" -eq "$(hosts_of firesteel_workers | wc -w)" ] || { cat "$WORK/programs.out"; die "workers do not run $program"; }
  pass "workers run $program"
}

step_second() {
  play second site -e "firesteel_artefacts=$ARTEFACTS"
  well second
  unchanged second
  pass "a second run changes nothing"
}

step_acceptance() {
  play acceptance acceptance -e firesteel_acceptance_disk_size=128MiB -e "firesteel_operations_folder=$WORK/collected"
  well acceptance
  sed -n '/"msg": \[/,/\]/p' "$WORK/acceptance.out" | grep -E '^ +"'
  grep -q '22 of 22 answers are right' "$WORK/acceptance.out" || die "acceptance ran no job"
}

shown() { # host, port: a digest of the certificate that the daemon there shows
  $LAB ctl python3 -c 'import hashlib, ssl, sys; print(hashlib.sha256(ssl.get_server_certificate((sys.argv[1], int(sys.argv[2]))).encode()).hexdigest())' "$1" "$2"
}

shown_all() {
  local host
  for host in $(hosts_of firesteel_managers); do shown "$host" 7400; done
  for host in $(hosts_of firesteel_workers); do shown "$host" 7410; done
}

daemons() { # since when each runs
  at firesteel_workers:firesteel_managers 'systemctl show --property=ExecMainStartTimestampMonotonic --value firesteel-manager firesteel-worker' 2>/dev/null | sort
}

step_renewal() { # certificates that do not hold for long enough any more: daemons take new ones as they run
  local before after since try longer=(-e "firesteel_artefacts=$ARTEFACTS" -e firesteel_certs_days=730 -e firesteel_certs_renew_days=400)
  before=$(shown_all)
  since=$(daemons)
  loop_begin
  play renewal site "${longer[@]}"
  well renewal
  for try in $(seq 30); do
    after=$(shown_all)
    [ -n "$(comm -12 <(sort <<<"$before") <(sort <<<"$after"))" ] || break
    [ "$try" -lt 30 ] || die "daemons show the certificates that they had"
    sleep 2
  done
  loop_end renewal
  [ "$since" = "$(daemons)" ] || die "daemons were restarted for new certificates"
  pass "$(wc -l <<<"$after") daemons show new certificates, and were not restarted"
  job
  play renewed site "${longer[@]}"
  well renewed
  unchanged renewed
  pass "what holds for long enough stays"
}

step_bench() {
  play bench bench -e firesteel_bench_scale=0.1 -e firesteel_bench_queries=1,6 -e firesteel_bench_iterations=2 -e "firesteel_operations_folder=$WORK/collected"
  well bench
  sed -n '/"msg": \[/,/\]/p' "$WORK/bench.out" | grep -E '^ +"'
  python3 - "$WORK/collected/bench" <<'PYTHON' || die "what the benchmark has brought"
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
record = json.loads((folder / "record.json").read_text())
print("record:", record["mode"], record["verified"], "queries", [query["name"] for query in record["queries"]], "times", record["iterations"])
assert record["verified"] == "stored answers" and len(record["queries"]) == 2 and record["iterations"] == 2
assert "<html" in (folder / "report.html").read_text().lower()
PYTHON
  pass "a benchmark with its record and page"
}
