# shellcheck shell=bash
# The lab's network: one switch, a bridge in a namespace of its own where the controller is too, and a cable from it to each host.

at_switch() { nsenter --net="/run/netns/$switch" "$@"; }

make_switch() {
    ip netns add "$switch"
    at_switch ip link set lo up
    at_switch ip link add br0 type bridge
    at_switch ip address add "$network.254/24" dev br0
    at_switch ip link set br0 up
}

# plug_in HOST: a fresh namespace and cable. A host keeps its hardware address as a real one does, so that others need not learn it anew.
plug_in() {
    local space port
    space=$(namespace_of "$1") port=$(port_of "$1")
    ip netns add "$space"
    at_switch ip link add "$port" type veth peer name eth0 address "$(printf '02:f5:00:00:00:%02x' "${1#h}")" netns "$space"
    at_switch ip link set "$port" master br0 up
    ip -n "$space" link set lo up
    ip -n "$space" address add "$(address_of "$1")/24" dev eth0
    ip -n "$space" link set eth0 up
    ip -n "$space" route add default via "$network.254"
}

# What its kernel still holds of connections goes with it, unheard: after a power loss a host sends nothing of its past.
unplug() {
    at_switch ip link delete "$(port_of "$1")" 2>/dev/null || true
    ip netns delete "$(namespace_of "$1")" 2>/dev/null || true
}

lab_namespaces() { ip netns list | awk -v prefix="fsl-$lab_name-" 'index($1, prefix) == 1 { print $1 }'; }

# Whoever is in one of the lab's namespaces now is a host's process or was started by way of the lab.
lab_processes() {
    local space
    for space in $(lab_namespaces); do
        ip netns pids "$space"
    done | sort -u
}

end_lab_processes() {
    local processes
    mapfile -t processes < <(lab_processes)
    ((${#processes[@]} == 0)) || kill -KILL "${processes[@]}" 2>/dev/null || true
    within 10 no_lab_processes || say "these processes in the lab's namespaces do not end: $(lab_processes | paste -sd' ')"
}

no_lab_processes() { [[ -z $(lab_processes) ]]; }

remove_network() {
    local space
    for space in $(lab_namespaces); do
        ip netns delete "$space" || say "the network namespace $space cannot be removed"
    done
}
