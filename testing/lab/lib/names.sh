# shellcheck shell=bash
# What a lab is called decides all else: its namespaces, cgroups, addresses and the folder of its state. So several can be up at once.

lab_name=${FIRESTEEL_LAB_NAME:-lab}
hosts_max=50

# Without a dash in a name, what belongs to one lab never looks like another's.
[[ $lab_name =~ ^[a-z][a-z0-9]{0,11}$ ]] ||
    misuse "FIRESTEEL_LAB_NAME is '$lab_name': give up to 12 small letters and digits that begin with a letter"

state=$lab_cache/labs/$lab_name
lab_lock=$lab_cache/locks/$lab_name
lab_key=$lab_cache/key/id
switch=fsl-$lab_name-sw
group=firesteel-lab-$lab_name

# 10.128.0.0 to 10.191.255.0, by the name. No packet leaves the namespaces, so two labs with one network would only confuse people.
network_of_name() {
    local sum
    sum=$(printf '%s' "$lab_name" | cksum | cut -d' ' -f1)
    echo "10.$((128 + sum % 64)).$((sum / 64 % 256))"
}
network=$(network_of_name)

namespace_of() { echo "fsl-$lab_name-$1"; }
address_of() { echo "$network.${1#h}"; }
port_of() { echo "p${1#h}"; }

host_count() { cat "$state/count" 2>/dev/null || echo 0; }

all_hosts() {
    local count
    count=$(host_count)
    ((count == 0)) || seq -f 'h%g' "$count"
}

is_up() { [[ -f $state/ready && -e /run/netns/$switch ]]; }

need_up() {
    is_up || die "the lab '$lab_name' is not up: '$program up 3' brings up three hosts (FIRESTEEL_LAB_NAME names another lab)"
}

# need_host HOST
need_host() {
    local count
    need_up
    count=$(host_count)
    if ! [[ $1 =~ ^h([1-9][0-9]?)$ ]] || ((BASH_REMATCH[1] > count)); then
        misuse "there is no host '$1': this lab has $(all_hosts | paste -sd' ')"
    fi
}
