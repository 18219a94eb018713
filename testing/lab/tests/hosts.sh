# shellcheck shell=bash
# What a host is: a machine of its own with limits of its own.

tests_of_hosts() {
    printf '%s\n' hosts_come_up hosts_are_whole names_and_ansible_reach_all units_have_limits hosts_have_limits a_full_disk_is_one_hosts_own \
        hosts_go_down
}

hosts_come_up() {
    mkdir -p "$folder/share"
    echo shared >"$folder/share/file"
    lab up 3 --scratch 32,16 --memory 400 --cpu 50 --share "$folder/share"
}

hosts_are_whole() {
    local host
    for host in h1 h2 h3; do
        same running "$(lab in "$host" systemctl is-system-running)" "state of systemd in $host"
        same "$host" "$(lab ssh "$host" hostname)" "name of $host"
        same shared "$(lab ssh "$host" cat /share/file)" "the shared file in $host"
    done
    refused 1 "ead-only" lab in h1 touch /share/file
    refused 5 "" lab ssh h1 exit 5
    refused 5 "" lab in h1 sh -c 'exit 5'
    refused 2 "no host 'h4'" lab in h4 true
    lab in h1 touch /etc/of_h1
    refused 1 "" lab in h2 test -e /etc/of_h1
}

names_and_ansible_reach_all() {
    lab ctl ping -c 1 -W 2 h3
    lab ssh h1 ping -c 1 -W 2 h2
    contains "SUCCESS" "$(lab ctl ansible -i h2, all -m ping 2>&1)" "ansible's ping"
    lab ctl ansible-lint --version
    lab ctl molecule --version
}

# A unit that takes more memory than its limit is ended, and nothing else is.
units_have_limits() {
    local result
    lab in h1 systemd-run --quiet --wait -p MemoryMax=200M python3 -c 'x = bytearray(100 << 20)'
    result=$(lab in h1 sh -c "systemd-run --quiet --wait --unit=hog -p MemoryMax=32M python3 -c 'x = bytearray(100 << 20)'; systemctl show hog -p Result")
    # Only with cgroup version 2 does systemd hear who sent the signal.
    [[ $result =~ ^Result=(oom-kill|signal)$ ]] || fail "a unit above its limit ended with '$result'"
    lab in h1 systemctl reset-failed
    same running "$(lab in h1 systemctl is-system-running)" "state of systemd"
}

hosts_have_limits() {
    local seconds
    refused 137 "" lab in h2 python3 -c 'x = bytearray(600 << 20)'
    lab in h2 python3 -c 'x = bytearray(60 << 20)'
    # Half a core for four seconds.
    seconds=$(lab in h3 bash -c 'TIMEFORMAT=%U; time timeout 4 sh -c "while :; do :; done"; true' 2>&1 | tail -1)
    between 0 2 "${seconds%.*}" "whole seconds of processor time in four seconds"
}

a_full_disk_is_one_hosts_own() {
    refused 1 "No space left" lab in h1 dd if=/dev/zero of=/scratch0/big bs=1M count=100
    lab in h1 touch /root/elsewhere
    lab in h1 dd if=/dev/zero of=/scratch1/small bs=1M count=4 oflag=direct
    lab in h2 dd if=/dev/zero of=/scratch0/small bs=1M count=16
    lab in h1 rm /scratch0/big
    lab in h1 dd if=/dev/zero of=/scratch0/small bs=1M count=16
}

hosts_go_down() {
    lab down
    no_traces "$first"
}
