# shellcheck shell=bash
# What every script of the lab needs: where things lie, how faults are told, how long something may take.

# Everything that is made once and kept: root file systems, kernel, guest image, Ansible environment.
# Without HOME (a service of the system, say) root's own cache is meant.
# shellcheck disable=SC2034 # Not every script that reads this has a use for it.
lab_cache=${FIRESTEEL_LAB:-${HOME:-/root}/.cache/firesteel-lab}

program=${program:-$(basename "$0")}

say() { echo "$program: $*" >&2; }

# The last argument of a call that went wrong is told as it is: what, where, and what to do.
die() {
    say "$*"
    exit 1
}

# Wrong use, as against something that failed: told apart by the exit code.
misuse() {
    say "$* ($program --help tells more)"
    exit 2
}

need_root() {
    ((EUID == 0)) || die "only root can make network namespaces, mounts and cgroups: run this as root"
}

is_whole_number() { [[ $1 =~ ^(0|[1-9][0-9]{0,8})$ ]]; }

# number NAME VALUE LEAST MOST
number() {
    if ! is_whole_number "$2" || (($2 < $3 || $2 > $4)); then
        misuse "$1 is '$2': give a whole number from $3 to $4"
    fi
}

# within SECONDS COMMAND...: calls the command until it succeeds; fails when the time is over.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

# try_times N COMMAND...: for what comes over a network. The waits between grow.
try_times() {
    local most=$1 try
    shift
    for ((try = 1; try <= most; try++)); do
        "$@" && return 0
        ((try < most)) || break
        say "try $try of $most failed: $*"
        sleep $((try * 3))
    done
    return 1
}

# lock FILE SECONDS WHAT: holds the file's lock as descriptor 9 until this process ends. Whatever is started and outlives
# this process must be started with 9>&-.
lock() {
    exec 9>"$1"
    flock --wait "$2" 9 || die "$3 is being changed by another process for more than $2 s: wait for it, or end it"
}
