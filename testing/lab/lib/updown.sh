# shellcheck shell=bash
# Bringing a lab up and taking it down. Everything is recorded before it is made, so that what a killed `up` left is found.

# Sets what `up` was told: count, memory_mib, cpu_percent, scratch, share.
read_up_options() {
    count='' memory_mib='' cpu_percent='' scratch='' share=''
    while (($#)); do
        case $1 in
        --memory | --cpu | --scratch | --share)
            (($# >= 2)) || misuse "$1 needs a value"
            up_option "$1" "$2"
            shift 2
            ;;
        -*) misuse "up has no option '$1': it has --memory, --cpu, --scratch and --share" ;;
        *)
            [[ -z $count ]] || misuse "up is told '$1' after '$count': give one number of hosts"
            number "the number of hosts" "$1" 1 "$hosts_max"
            count=$1
            shift
            ;;
        esac
    done
    [[ -n $count ]] || misuse "up needs a number of hosts, such as 'up 3'"
}

up_option() {
    local size
    case $1 in
    --memory) number "$1 (MiB)" "$2" 128 1048576 && memory_mib=$2 ;;
    --cpu) number "$1 (percent of one core)" "$2" 1 100000 && cpu_percent=$2 ;;
    --scratch)
        [[ $2 =~ ^[0-9]+(,[0-9]+)*$ ]] || misuse "--scratch is '$2': give sizes in MiB with commas between them, such as 256,256"
        for size in ${2//,/ }; do
            number "--scratch (MiB)" "$size" 8 1048576
        done
        scratch=$2
        ;;
    --share)
        [[ -d $2 ]] || die "--share names '$2', which is no folder"
        share=$(realpath "$2")
        [[ $share != *:* ]] || die "--share names '$share': a folder with a colon in its path cannot be shared"
        ;;
    esac
}

check_base() {
    local tool
    [[ -x $lab_cache/root/sbin/hostinit && -f $lab_key ]] ||
        die "$lab_cache holds no root file system for hosts: run testing/lab/setup (FIRESTEEL_LAB names another folder)"
    for tool in systemd-nspawn nft tc ip nsenter; do
        command -v "$tool" >/dev/null || die "'$tool' is missing: run testing/lab/setup"
    done
}

up() {
    read_up_options "$@"
    check_base
    if is_up; then
        die "the lab '$lab_name' is up already, with $(host_count) hosts: take it down, or set FIRESTEEL_LAB_NAME to another name"
    fi
    # What one left that was killed half-way, or that the machine's restart ended.
    down
    trap up_failed EXIT
    trap 'exit 130' INT TERM HUP
    record
    make_switch
    local host
    for host in $(all_hosts); do
        plug_in "$host"
        make_disks "$host"
        start_host "$host"
    done
    for host in $(all_hosts); do
        wait_for_host "$host"
    done
    touch "$state/ready"
    trap - EXIT INT TERM HUP
}

up_failed() {
    trap '' INT TERM HUP
    say "the lab '$lab_name' did not come up: what there is of it is taken down"
    down
    rm -f "$lab_lock"
}

record() {
    mkdir -p "$state"
    record_hierarchies
    echo "$count" >"$state/count"
    tr ',' '\n' <<<"$scratch" | grep . >"$state/scratch" || true
    [[ -z $memory_mib ]] || echo "$memory_mib" >"$state/memory_mib"
    [[ -z $cpu_percent ]] || echo "$cpu_percent" >"$state/cpu_percent"
    [[ -z $share ]] || echo "$share" >"$state/share"
    # Not the link: a setup that makes the base anew leaves this one to those who stand on it.
    realpath "$lab_cache/root" >"$state/base"
    write_names
    write_ssh_config
}

write_names() {
    local host
    echo "127.0.0.1 localhost"
    echo "$network.254 ctl"
    for host in $(all_hosts); do
        echo "$(address_of "$host") $host"
    done
} >"$state/etc_hosts"

write_ssh_config() {
    local host
    cat <<-CONFIG
	Host h* $network.*
	  User root
	  IdentityFile "$lab_key"
	  IdentitiesOnly yes
	  StrictHostKeyChecking no
	  UserKnownHostsFile /dev/null
	  LogLevel ERROR
	  ConnectTimeout 10
	  ServerAliveInterval 10
	  ServerAliveCountMax 6
	CONFIG
    for host in $(all_hosts); do
        printf 'Host %s\n  HostName %s\n' "$host" "$(address_of "$host")"
    done
} >"$state/ssh_config"

# Ends and removes all that belongs to the lab, whole or not. What is not there is no fault.
down() {
    if [[ -f $state/hierarchies ]]; then
        kill_cgroup "$(v2_folder)/$group" || true
    fi
    end_lab_processes
    unmount_all
    remove_network
    remove_cgroups
    rm -rf "$state"
    rmdir --ignore-fail-on-non-empty "$lab_cache/labs" 2>/dev/null || true
    [[ ! -e $state ]] || die "$state cannot be removed"
}

status() {
    local host
    need_up
    printf '%-5s %-15s %-8s %-5s %-6s %-10s %s\n' host address state link loss rate memory
    for host in $(all_hosts); do
        printf '%-5s %-15s %-8s %-5s %-6s %-10s %s\n' "$host" "$(address_of "$host")" "$(state_of "$host")" "$(link_of "$host")" \
            "$(cat "$state/$host/loss" 2>/dev/null || echo 0) %" "$(cat "$state/$host/rate" 2>/dev/null || echo -)" "$(memory_of "$host")"
    done
    parted_tables | sed 's/^part_/parted: /; s/_/ and /'
}

state_of() {
    if ! is_running "$1"; then
        echo off
    elif is_frozen "$1"; then
        echo frozen
    else
        echo running
    fi
}

link_of() { at_switch ip -oneline link show "$(port_of "$1")" | grep -q '[<,]UP[,>]' && echo up || echo cut; }

memory_of() {
    local folder bytes=0
    folder=$(v1_group memory "$1")
    if [[ -n $folder ]]; then
        bytes=$(cat "$folder/memory.usage_in_bytes" 2>/dev/null || echo 0)
    else
        bytes=$(cat "$(v2_group "$1")/memory.current" 2>/dev/null || echo 0)
    fi
    echo "$((bytes >> 20)) MiB"
}
