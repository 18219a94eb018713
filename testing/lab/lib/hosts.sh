# shellcheck shell=bash
# A host: systemd in a container, on a writable layer of its own over the common root, with disks, limits and an address of its own.

boot_seconds_max=90

# Calls of the kernel that a cluster makes on bare metal and that a container is refused unless it is told otherwise.
kernel_calls=(@memlock @resources perf_event_open io_uring_setup io_uring_enter io_uring_register mbind set_mempolicy get_mempolicy
    move_pages migrate_pages)

# make_disks HOST: what a host writes survives its power loss, as it is then started on the same disks.
make_disks() {
    local folder=$state/$1 size i=0
    mkdir -p "$folder"/{upper,work,root}
    while read -r size; do
        truncate -s "${size}M" "$folder/scratch$i.img"
        mkfs.ext4 -q -m 0 -E lazy_itable_init=1,lazy_journal_init=1 "$folder/scratch$i.img"
        i=$((i + 1))
    done <"$state/scratch"
}

mount_disks() {
    local folder=$state/$1 root=$state/$1/root image disk
    mountpoint -q "$root" ||
        mount -t overlay "$(namespace_of "$1")" -o "lowerdir=$(cat "$state/base"),upperdir=$folder/upper,workdir=$folder/work" "$root" ||
        die "no overlay can be mounted on $root: FIRESTEEL_LAB must be on a disk's file system (ext4, xfs), not on an overlay or a network"
    for image in "$folder"/scratch*.img; do
        [[ -f $image ]] || continue
        disk=${image%.img}
        mkdir -p "$disk" "$root/$(basename "$disk")"
        # A loop device that is made by mount goes with it.
        mountpoint -q "$disk" || mount -o loop "$image" "$disk"
    done
    echo "$1" >"$root/etc/hostname"
    cp "$state/etc_hosts" "$root/etc/hosts"
}

unmount_all() {
    local mounted
    # The last mounted first. A space in a path is written as \040 there.
    awk -v prefix="$state/" 'index($5, prefix) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r mounted; do
        within 10 unmount "$(printf '%b' "$mounted")" || say "$mounted cannot be unmounted"
    done
}

unmount() { umount "$1" 2>/dev/null; }

container_options() {
    local host=$1 disk
    printf '%s\n' --quiet --directory="$state/$host/root" --machine="$(namespace_of "$host")" --hostname="$host" --kill-signal=SIGRTMIN+3 \
        --register=no --keep-unit --network-namespace-path="/run/netns/$(namespace_of "$host")" --resolv-conf=off --timezone=off \
        --link-journal=no --console=pipe --capability=CAP_IPC_LOCK,CAP_SYS_NICE --system-call-filter="${kernel_calls[*]}"
    for disk in "$state/$host"/scratch*.img; do
        [[ ! -f $disk ]] || printf '%s\n' "--bind=${disk%.img}:/$(basename "${disk%.img}")"
    done
    [[ ! -s $state/share ]] || printf '%s\n' "--bind-ro=$(cat "$state/share"):/share"
}

# start_host HOST: what it was given must exist: namespace, cable, disks.
start_host() {
    local host=$1 options
    mount_disks "$host"
    make_cgroup "$host"
    [[ ! -s $state/memory_mib ]] || limit_memory "$host" "$(cat "$state/memory_mib")"
    [[ ! -s $state/cpu_percent ]] || limit_cpu "$host" "$(cat "$state/cpu_percent")"
    mapfile -t options < <(container_options "$host")
    (
        enter_cgroup "$host"
        exec setsid systemd-nspawn "${options[@]}" /sbin/hostinit
    ) </dev/null >>"$state/$host/console.log" 2>&1 9>&- &
    echo $! >"$state/$host/container"
}

# The host's first process, as this machine numbers it: the child of the container's that is number 1 in there.
first_process() {
    local container child children
    container=$(cat "$state/$1/container" 2>/dev/null) || return 1
    # This file of the kernel's ends without a line's end, so `read` says that it failed.
    read -ra children 2>/dev/null <"/proc/$container/task/$container/children" || true
    for child in "${children[@]}"; do
        [[ $(awk '$1 == "NSpid:" { print $NF }' "/proc/$child/status" 2>/dev/null) != 1 ]] || {
            echo "$child"
            return
        }
    done
    return 1
}

is_running() { first_process "$1" >/dev/null; }

need_running() {
    need_host "$1"
    is_running "$1" || die "$1 is not running: '$program start $1' starts it on the disks that it had"
}

# What is run in a frozen host would be frozen with it.
need_thawed() { ! is_frozen "$1" || die "$1 is frozen: '$program thaw $1' has it go on"; }

answers_ssh() { at_switch timeout 2 bash -c "exec 3<>/dev/tcp/$(address_of "$1")/22" 2>/dev/null; }

answers_or_ended() { answers_ssh "$1" || [[ ! -d /proc/$(cat "$state/$1/container") ]]; }

# wait_for_host HOST: until it takes logins and its units are started.
wait_for_host() {
    local host=$1 units
    within "$boot_seconds_max" answers_or_ended "$host" || true
    if ! answers_ssh "$host"; then
        tail -20 "$state/$host/console.log" >&2
        die "$host took no login within $boot_seconds_max s, or ended before: above is the end of its console"
    fi
    units=$(in_host "$host" timeout "$boot_seconds_max" systemctl is-system-running --wait 2>/dev/null) || true
    [[ $units == running ]] ||
        say "$host is '$units', these units of it failed: $(in_host "$host" systemctl list-units --failed --plain --no-legend | awk '{ print $1 }' | paste -sd' ')"
}

# in_host HOST COMMAND...: in all its namespaces and its cgroups, with nothing of the caller's environment.
in_host() {
    local host=$1 first
    shift
    first=$(first_process "$host") || die "$host is not running"
    (
        make_visitors_cgroup "$host"
        enter_cgroup "$host/visitors"
        exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM="${TERM:-dumb}" \
            nsenter --target "$first" --mount --uts --ipc --net --pid --cgroup --root --wd -- "$@"
    ) 9>&-
}

# end_host HOST: all its processes at once, and what its disks are mounted by for others.
end_host() {
    kill_cgroup "$(v2_group "$1")"
    rm -f "$state/$1/container"
}
