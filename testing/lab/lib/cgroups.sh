# shellcheck shell=bash
# Each host lives in a cgroup of its own in every hierarchy: firesteel-lab-NAME/hK. Version 2 freezes it and kills all in it; limits are
# set where the machine has the controller, in version 1 or 2.

# The hierarchies that are mounted, a line each: "v2" or what it controls in version 1, then the folder below which the lab's group goes.
# In version 1 that is this process's own group, so that what accounts for it goes on to. With all controllers in version 2 it is the root:
# a group that holds processes, such as a login's, cannot hand out controllers.
find_hierarchies() {
    local controllers path mounted
    while IFS=: read -r _ controllers path; do
        mounted=$(mount_of "$controllers")
        [[ -n $mounted ]] || continue
        if [[ -n $controllers ]]; then
            echo "$controllers $mounted${path%/}"
        elif grep -qw memory "$mounted/cgroup.controllers"; then
            echo "v2 $mounted"
        else
            echo "v2 $mounted${path%/}"
        fi
    done </proc/self/cgroup
}

# mount_of CONTROLLERS: none means version 2. A hierarchy of version 1 is mounted with its controllers' names as options.
mount_of() {
    if [[ -z $1 ]]; then
        awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts
    else
        awk -v wanted=",${1%%,*}," '$3 == "cgroup" && index("," $4 ",", wanted) { print $2; exit }' /proc/mounts
    fi
}

# Kept with the lab's state: a later call may come from another cgroup, and must find these.
record_hierarchies() {
    find_hierarchies >"$state/hierarchies"
    grep -q '^v2 ' "$state/hierarchies" ||
        die "no cgroup v2 hierarchy is mounted on this machine: the lab freezes and kills hosts by it (mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified)"
    [[ -f $(v2_folder)/cgroup.procs ]] || die "$(v2_folder) is no cgroup: the lab cannot make its own there"
}

v2_folder() { awk '$1 == "v2" { print $2 }' "$state/hierarchies"; }

# v1_group CONTROLLER HOST: the folder, or nothing where version 1 does not have this controller.
v1_group() {
    awk -v wanted=",$1," -v below="/$group/$2" 'index("," $1 ",", wanted) { print $2 below; exit }' "$state/hierarchies"
}

v2_group() { echo "$(v2_folder)/$group/$1"; }

# make_cgroup HOST
make_cgroup() {
    local kind at
    while read -r kind at; do
        mkdir -p "$at/$group/$1"
        case $kind in
        v2) hand_out_controllers "$at" ;;
        *cpuset*) inherit_cpuset "$at/$group" && inherit_cpuset "$at/$group/$1" ;;
        esac
    done <"$state/hierarchies"
}

hand_out_controllers() {
    local at=$1 names name
    read -ra names <"$at/cgroup.controllers"
    for name in "${names[@]}"; do
        if ! echo "+$name" 2>/dev/null >"$at/cgroup.subtree_control" || ! echo "+$name" 2>/dev/null >"$at/$group/cgroup.subtree_control"; then
            say "the cgroup controller '$name' cannot be handed out below $at: hosts go without it"
        fi
    done
}

# A new group of this controller has no cores and no memory, and takes no process until it does.
inherit_cpuset() {
    local file
    for file in cpuset.cpus cpuset.mems; do
        cat "$(dirname "$1")/$file" >"$1/$file"
    done
}

# limit_memory HOST MIB
limit_memory() {
    local folder bytes=$(($2 << 20))
    folder=$(v1_group memory "$1")
    if [[ -n $folder ]]; then
        echo "$bytes" >"$folder/memory.limit_in_bytes"
    else
        echo "$bytes" >"$(v2_group "$1")/memory.max" || die "this machine's cgroups have no controller of memory: leave --memory out"
    fi
}

# limit_cpu HOST PERCENT, of one core
limit_cpu() {
    local folder
    folder=$(v1_group cpu "$1")
    if [[ -n $folder ]]; then
        echo 100000 >"$folder/cpu.cfs_period_us"
        echo "$(($2 * 1000))" >"$folder/cpu.cfs_quota_us"
    else
        echo "$(($2 * 1000)) 100000" >"$(v2_group "$1")/cpu.max" || die "this machine's cgroups have no controller of processors: leave --cpu out"
    fi
}

# enter_cgroup GROUP: moves the calling (sub)shell there, in every hierarchy.
enter_cgroup() {
    local at
    while read -r _ at; do
        echo "$BASHPID" >"$at/$group/$1/cgroup.procs"
    done <"$state/hierarchies"
}

# For a command that is run in a host from outside: beside the host's own, as version 2 wants processes in leaves only.
make_visitors_cgroup() {
    local kind at
    while read -r kind at; do
        mkdir -p "$at/$group/$1/visitors"
        case $kind in
        *cpuset*) inherit_cpuset "$at/$group/$1/visitors" ;;
        esac
    done <"$state/hierarchies"
}

is_frozen() { grep -q '^frozen 1$' "$(v2_group "$1")/cgroup.events" 2>/dev/null; }
is_thawed() { grep -q '^frozen 0$' "$(v2_group "$1")/cgroup.events"; }
is_empty() { ! grep -q '^populated 1$' "$1/cgroup.events" 2>/dev/null; }

# kill_cgroup FOLDER: everything in it and below, frozen or not, at once.
kill_cgroup() {
    [[ -d $1 ]] || return 0
    echo 1 >"$1/cgroup.kill"
    within 20 is_empty "$1" || {
        say "processes of $1 do not end: look at 'cat $1/cgroup.procs' and /proc/PID/stack"
        return 1
    }
}

# remove_cgroups [HOST]: of one host, or of the whole lab. What was in them is dead, and its groups may need a moment.
remove_cgroups() {
    local at
    [[ -f $state/hierarchies ]] || return 0
    while read -r _ at; do
        within 10 remove_tree "$at/$group${1:+/$1}" || say "the cgroup $at/$group${1:+/$1} cannot be removed"
    done <"$state/hierarchies"
}

remove_tree() {
    [[ -d $1 ]] || return 0
    find "$1" -depth -type d -exec rmdir {} + 2>/dev/null
    [[ ! -d $1 ]]
}
