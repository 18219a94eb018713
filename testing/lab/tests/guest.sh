# shellcheck shell=bash
# The emulated machine. A boot takes a quarter of a minute, so one has many checks.

tests_of_guest() {
    printf '%s\n' a_guest_has_two_nodes a_guest_has_four_nodes a_guest_has_a_deadline an_ended_guest_leaves_nothing
}

no_runs_left() { [[ -z $(ls "$lab_cache/numa" 2>/dev/null) ]]; }

# shellcheck disable=SC2016
in_guest='
set -e
numactl -H | grep "^available:"
numactl -H | grep "^  [01]:" | tr -s " "
cat /proc/self/cgroup
echo "read $(cat from_host)"
echo here >from_guest
# A group below our own with one node for processors and memory, and a limit.
own=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)
mkdir $own/leaf $own/node1
echo $$ >$own/leaf/cgroup.procs
echo "+cpuset +memory" >$own/cgroup.subtree_control
echo 4-7 >$own/node1/cpuset.cpus
echo 1 >$own/node1/cpuset.mems
echo 64M >$own/node1/memory.max
echo 0 >$own/node1/memory.swap.max 2>/dev/null || true
echo "main in $own" >&2
enter() { sh -c "echo \$\$ >$own/node1/cgroup.procs; exec \"\$@\"" enter "$@"; }
enter grep Cpus_allowed_list /proc/self/status
enter python3 -c "
x = bytearray(32 << 20)
import re
print(sorted(set(re.findall(r\"(N[0-9]+)=[0-9]{4}\", open(\"/proc/self/numa_maps\").read()))))"
enter python3 -c "x = bytearray(256 << 20)" || echo "too much: $?"
exit 7
'

a_guest_has_two_nodes() {
    local said code=0
    mkdir -p "$folder/guest"
    echo hello >"$folder/guest/from_host"
    said=$("$here/numa" --share "$folder/guest" --deadline 280 "$in_guest") || code=$?
    echo "$said"
    same 7 "$code" "exit code"
    contains "available: 2 nodes" "$said" "nodes"
    contains "0: 10 21" "$said" "distances"
    contains "1: 21 10" "$said" "distances"
    contains "0::/delegated" "$said" "cgroup of the command"
    contains "read hello" "$said" "a file of the host's"
    same here "$(cat "$folder/guest/from_guest")" "a file of the guest's"
    contains "Cpus_allowed_list:	4-7" "$said" "cores of a group of one node"
    contains "['N1']" "$said" "nodes where the memory of a group lies"
    contains "too much: 137" "$said" "what a limit of memory does"
    no_runs_left
}

a_guest_has_four_nodes() {
    local said
    said=$("$here/numa" --nodes 4 --cpus 8 --memory 2048 --share "$folder" --deadline 280 "numactl -H")
    contains "available: 4 nodes" "$said" "nodes"
    contains "node 3 cpus: 6 7" "$said" "cores"
    contains "0:  10  21  31  31" "$said" "distances"
    no_runs_left
}

a_guest_has_a_deadline() {
    refused 124 "over the deadline of 3 s" "$here/numa" --share "$folder" --deadline 3 "sleep 1000"
    no_runs_left
}

an_ended_guest_leaves_nothing() {
    local guest
    "$here/numa" --share "$folder" --deadline 100 "sleep 1000" &
    guest=$!
    within 20 pgrep --full "path=$lab_cache/numa/" || fail "no guest started"
    kill -TERM "$guest"
    wait "$guest" || true
    no_runs_left
    ! pgrep --full "path=$lab_cache/numa/" || fail "the guest runs on"
}
