# shellcheck shell=bash
# What tests say about outcomes.

fail() {
    echo "failed: $*"
    exit 1
}

# same WANTED GOT WHAT
same() { [[ $1 == "$2" ]] || fail "$3: wanted '$1', got '$2'"; }

# contains PART TEXT WHAT
contains() { [[ $2 == *"$1"* ]] || fail "$3: wanted '$1' in '$2'"; }

# between LEAST MOST GOT WHAT
between() { (($3 >= $1 && $3 <= $2)) || fail "$4: wanted $1 to $2, got $3"; }

# refused CODE PART COMMAND...: ends with this exit code and says this.
refused() {
    local wanted=$1 part=$2 said code=0
    shift 2
    said=$("$@" 2>&1) || code=$?
    same "$wanted" "$code" "exit code of '$*', which said '$said'"
    contains "$part" "$said" "what '$*' says"
}

# What there is of a lab on this machine, one thing a line, whatever made it.
traces() {
    local name=$1 state=$lab_cache/labs/$1 process
    ip netns list | awk -v prefix="fsl-$name-" 'index($1, prefix) == 1 { print "namespace", $1 }'
    grep -F -e "$state/" -e "fsl-$name-" /proc/mounts | sed 's/^/mount /'
    find /sys/fs/cgroup -type d -name "firesteel-lab-$name" -printf 'cgroup %p\n' 2>/dev/null
    losetup --list --noheadings --output NAME,BACK-FILE | grep -F "$state/" | sed 's/^/loop device /'
    {
        grep -lsF "firesteel-lab-$name" /proc/[0-9]*/cgroup
        # Not this search itself, which names what it looks for.
        grep -lsaF -e "fsl-$name-" -e "$state/" /proc/[0-9]*/cmdline | grep -vF "/$BASHPID/"
    } | cut -d/ -f3 | sort -u | while read -r process; do
        [[ ! -d /proc/$process || $(tr '\0' ' ' <"/proc/$process/cmdline") == grep* ]] || echo "process $process"
    done
    [[ ! -e $state ]] || echo "folder $state"
    [[ ! -e $lab_cache/locks/$name ]] || echo "lock $lab_cache/locks/$name"
} 2>/dev/null

no_traces() {
    local left
    # A loop device that was mounted in a host goes with the host's namespaces, which the kernel clears in its own time.
    within 5 no_traces_now "$1" || { left=$(traces "$1") && fail "this is left of the lab '$1': $left"; }
}

no_traces_now() { [[ -z $(traces "$1") ]]; }
