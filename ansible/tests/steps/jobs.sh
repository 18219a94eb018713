# shellcheck shell=bash
# shellcheck disable=SC2016  # what is in single quotes expands on the hosts
# Rows, jobs and the loop of jobs.

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
  bring "$PWD/tests/loop.sh" 'firesteel_clients[0]' /run/firesteel-test-jobs 0755
  at 'firesteel_clients[0]' "systemd-run --quiet --unit=firesteel-test-loop /run/firesteel-test-jobs $DATA" >>"$WORK/loop.out" 2>&1 || { cat "$WORK/loop.out"; die "beginning the loop of jobs"; }
}

loop_end() { # what it came to; any wrong one ends the test
  at 'firesteel_clients[0]' 'touch /run/firesteel-test-end; for i in $(seq 300); do systemctl is-active --quiet firesteel-test-loop || break; sleep 1; done
    awk "{ n[\$1]++; t += \$2; if (\$2 > most) most = \$2 } END { printf \"%d runs of five queries right, %d wrong, %d ms on average, %d at most\\n\", n[\"right\"], n[\"wrong\"], t / NR, most }" /run/firesteel-test-loop
    cat /run/firesteel-test-wrong 2>/dev/null || true' >"$WORK/loop-$1.out" 2>&1 || { cat "$WORK/loop-$1.out"; die "the loop of jobs"; }
  grep -qE '^[1-9][0-9]* runs of five queries right, 0 wrong' "$WORK/loop-$1.out" || { cat "$WORK/loop-$1.out"; die "jobs during $1"; }
  pass "jobs during $1: $(grep 'runs of five' "$WORK/loop-$1.out")"
}
