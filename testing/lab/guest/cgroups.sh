#!/bin/bash
# Control groups of executors, by a real kernel. Run as root in a guest with two NUMA nodes and version 2 mounted at /sys/fs/cgroup,
# in a folder with the binary `firesteel`:
#
#   bash cgroups.sh
#
# It starts a manager and a worker, looks at the groups, has the kernel kill an executor for memory, kills the worker, and looks that
# nothing is left. It prints what it saw and ends with 0 when all was right.
set -euo pipefail

here=$PWD
root=/sys/fs/cgroup
work=$(mktemp -d)
manager=127.0.0.1:7400
groups=$root/firesteel-guest
wait_max=${WAIT_MAX:-120}
pids=()

fail() {
    echo "FAILED: $*" >&2
    tail -n 30 "$work"/*.log >&2 || true
    exit 1
}

finish() {
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT

# until_ NAME COMMAND..: waits until the command succeeds.
until_() {
    local what=$1 end=$((SECONDS + wait_max))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || fail "not within ${wait_max} s: $what"
        sleep 0.5
    done
}

start_worker() {
    FIRESTEEL_WORKER_CGROUPS=on "$here/firesteel" worker --insecure --id guest --manager $manager --bind 127.0.0.1:0 \
        --advertise 127.0.0.1 --memory 256MiB --scratch "$work/scratch" 2>>"$work/worker.log" &
    worker=$!
    pids+=("$worker")
}

# The process in the group of an executor.
executor() { cat "$groups/executor-$1/cgroup.procs"; }
ready() { [ "$(grep -c 'executor ready' "$work/worker.log")" -ge "$1" ]; }
answer() {
    local sum
    sum=$("$here/firesteel" sql --insecure --manager $manager -q --format csv -c "select sum(i) as s from generate_series(1, 100000) as t(i)")
    [ "$sum" = $'s\n5000050000' ] || fail "the query's answer is $sum"
    echo "ok: a query gives the right answer"
}

# In the root group, which everybody may share: there the worker makes one for itself.
echo $$ >$root/cgroup.procs
grep -qw cpuset $root/cgroup.controllers || fail "no cgroup v2 with cpuset at $root"
"$here/firesteel" manager --insecure --bind $manager >"$work/manager.out" 2>"$work/manager.log" &
pids+=($!)
until_ "the manager is ready" grep -q "manager ready" "$work/manager.out"

start_worker
until_ "two executors are ready" ready 2
echo "-- groups"
(cd "$groups" && grep -H . ./*/cgroup.procs ./executor-*/{cpuset.cpus,cpuset.mems,memory.max,memory.oom.group})
grep -qx "$worker" "$groups/daemon/cgroup.procs" || fail "the worker is not in its own group"
for n in 0 1; do
    pid=$(executor $n)
    [ "$(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -d' ' -f2)" = executor ] || fail "no executor is in executor-$n"
    [ "$(cat "$groups/executor-$n/cpuset.mems")" = $n ] || fail "executor $n is not bound to its node"
    # 256 MiB, a quarter of that, and 512 MiB.
    [ "$(cat "$groups/executor-$n/memory.max")" = $((832 << 20)) ] || fail "executor $n has another limit"
    cpus=$(cat "$groups/executor-$n/cpuset.cpus.effective")
    for thread in /proc/"$pid"/task/*; do
        allowed=$(awk '/^Cpus_allowed_list/ { print $2 }' "$thread/status")
        node=$(awk '/^Mems_allowed_list/ { print $2 }' "$thread/status")
        [ "$node" = $n ] || fail "thread $(cat "$thread/comm") of executor $n may use nodes $node"
        echo "executor $n (cpus $cpus): thread $(cat "$thread/comm") on $allowed"
    done | sort | uniq -c
    echo "ok: executor $n, pid $pid, is in its group with all its threads"
done
answer

echo "-- a driver of a submitted job"
echo "select sum(i % 7) from generate_series(1, 1000000000000) as t(i)" >"$work/slow.sql"
"$here/firesteel" submit "$work/slow.sql" --insecure --manager $manager >"$work/submit.out" 2>"$work/submit.log" &
submit=$!
pids+=("$submit")
until_ "a driver has a group" compgen -G "$groups/driver-*/cgroup.procs"
grep -H . "$groups"/driver-*/{cgroup.procs,memory.max}
job=$(basename "$(compgen -G "$groups/driver-*")")
"$here/firesteel" jobs cancel "${job#driver-}" --insecure --manager $manager
until_ "the driver's group is gone" test ! -e "$groups/$job"
wait "$submit" || true
echo "ok: the driver's group came and went"

echo "-- an executor above its limit"
before=$(executor 0)
echo $((4 << 20)) >"$groups/executor-0/memory.max" || true
until_ "the kill is told" grep -q "killed by the kernel for memory" "$work/worker.log"
grep "killed by the kernel for memory" "$work/worker.log" | head -n 2
until_ "it is started again" ready 3
[ "$(executor 0)" != "$before" ] || fail "the executor was not killed"
[ "$(cat "$groups/executor-0/memory.max")" = $((832 << 20)) ] || fail "its next life has another limit"
echo "ok: killed for memory, told as such, started again"
answer

echo "-- a worker that is killed"
kill -9 "$worker"
wait "$worker" 2>/dev/null || true
mkdir -p "$groups/executor-9"
sleep 3600 &
left=$!
pids+=("$left")
echo "$left" >"$groups/executor-9/cgroup.procs"
start_worker
until_ "its executors are ready" ready 5
[ ! -e "$groups/executor-9" ] || fail "a group that was left is still there"
wait "$left" 2>/dev/null && fail "a process that was left still runs" || true
echo "ok: what it left was ended and removed"
answer

echo "-- the end"
kill -INT "$worker"
wait "$worker" || fail "the worker ended with $?"
[ ! -e "$groups" ] || fail "$groups is left: $(find "$groups" -type d)"
echo "ok: no group is left"
echo "ALL RIGHT"
