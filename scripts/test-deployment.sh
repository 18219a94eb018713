#!/usr/bin/env bash
# Deploys this checkout with its own playbooks on hosts of a lab of its own, upgrades it there under jobs, breaks it and rolls it back, and
# breaks the hosts; then checks it on emulated machines of two and four NUMA nodes. Needs root, and a network for the set-up.
#
#   scripts/test-deployment.sh [STEP..]      all, in this order, or some of them:
#       setup       packages, root file system, kernel, guest, Ansible (testing/lab/setup)
#       lab         the lab's own tests
#       lint        ansible-lint in its production profile, and whether the reference of variables is current
#       packages    two builds of this checkout and a broken third, packed by cargo xtask dist
#       deploy second renewal acceptance bench upgrade rollback faults operations preflight three molecule
#                   ansible/tests/run.sh, on four hosts
#       numa        testing/lab/numa_checks.sh on two and on four nodes, and the guest's test of cgroups
#
# What it makes is in FIRESTEEL_DEPLOYMENT (a folder in /tmp that is removed at the end, unless told otherwise). A lab FIRESTEEL_LAB_NAME that is up
# already is used, and stays up.
set -euo pipefail
cd "$(dirname "$0")/.."

all_steps=(setup lab lint packages deploy second renewal acceptance bench upgrade rollback faults operations preflight three molecule numa)
# The binary of the tests, so that nothing is built anew beside what tells the builds apart.
target=${CARGO_TARGET_DIR:-$PWD/target}
work=${FIRESTEEL_DEPLOYMENT:-$(mktemp -d /tmp/firesteel-deployment-XXXXXX)}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
host_mib=1536
scratch_mib=600
is_own_lab=no
export FIRESTEEL_LAB_NAME=${FIRESTEEL_LAB_NAME:-fsd}
lab=$PWD/testing/lab/lab
cache=${FIRESTEEL_LAB:-$HOME/.cache/firesteel-lab}

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; }

fail() {
    echo "test-deployment: $*" >&2
    exit 1
}

clean() {
    [[ $is_own_lab == no ]] || "$lab" down || true
    [[ -n ${FIRESTEEL_DEPLOYMENT:-} ]] || rm -rf "$work"
}

# build NAME: the program, which says that it is of that version.
build() {
    FIRESTEEL_BUILD=$version+$1 cargo test --locked --workspace --quiet --test cli --no-run
    mkdir -p "$work/$1"
    cp "$target/debug/firesteel" "$work/$1/firesteel"
    # That of the tests stands for the one for newer processors, too: which is started is what matters here.
    cargo xtask dist --binary "$work/$1/firesteel" --faster "$work/$1/firesteel" --out "$work/$1/dist"
}

# A version that says what it is, and whose daemons do nothing: it never becomes healthy.
build_broken() {
    local from=firesteel-$version+second to=firesteel-$version+third
    mkdir -p "$work/third/dist"
    tar -xzf "$work/second/dist/$from-x86_64-linux.tar.gz" -C "$work/third"
    mv "$work/third/$from" "$work/third/$to"
    cat >"$work/third/$to/usr/bin/firesteel" <<SCRIPT
#!/bin/sh
case \$1 in
--version) echo "firesteel $version+third (broken)" ;;
manager | worker) exec sleep 3600 ;;
*) exit 1 ;;
esac
SCRIPT
    tar -czf "$work/third/dist/$to-x86_64-linux.tar.gz" --owner=0 --group=0 -C "$work/third" "$to"
    (cd "$work/third/dist" && sha256sum ./*.tar.gz | sed 's, \./, ,' >SHA256SUMS)
}

address() { "$lab" ctl getent ahostsv4 "$1" | awk 'NR == 1 { print $1 }'; }

# What all inventories have: the hosts share this machine, so that each gets little of it and none is pinned.
inventory_of_all() {
    cat <<YAML
all:
  vars:
    ansible_user: root
    ansible_python_interpreter: /usr/bin/python3
    firesteel_become: false
    firesteel_scratch: [/scratch0/firesteel]
    firesteel_worker_memory: 512MiB
    firesteel_config: {worker: {cores: 1, pin: false}}
    firesteel_preflight_accept: [clock]
    firesteel_preflight_free_min: {install: 1GiB, state: 100MiB, scratch: 100MiB}
YAML
}

# A manager, three workers and a client.
inventory() {
    inventory_of_all
    cat <<YAML
  children:
    firesteel_managers: {hosts: {h1: {ansible_host: $(address h1)}}}
    firesteel_workers: {hosts: {h1: , h2: {ansible_host: $(address h2)}, h3: {ansible_host: $(address h3)}}}
    firesteel_clients: {hosts: {h4: {ansible_host: $(address h4)}}}
YAML
}

# Three hosts that are managers and workers, and a client that observes; certificates and tokens are in its folder.
inventory_three() {
    inventory_of_all
    cat <<YAML
    firesteel_certs_own: "{{ inventory_dir }}/own"
    firesteel_manager_tokens: "{{ inventory_dir }}/tokens.toml"
    firesteel_client_token: "{{ lookup('ansible.builtin.file', inventory_dir ~ '/token') }}"
    firesteel_client_users: [ana, ben]
    firesteel_metrics_bind: 0.0.0.0
    firesteel_observability_cluster: lab
    firesteel_observability_scrape: /etc/prometheus/scrape.d/firesteel.yml
    firesteel_observability_rules: /etc/prometheus/rules.d/firesteel.yml
    firesteel_observability_dashboard: /var/lib/grafana/dashboards/firesteel.json
  children:
    firesteel_managers: {hosts: {h1: , h2: , h3: }}
    firesteel_workers:
      hosts:
        h1: {ansible_host: $(address h1), firesteel_rack: r1}
        h2: {ansible_host: $(address h2), firesteel_rack: r2}
        h3: {ansible_host: $(address h3), firesteel_rack: r2}
    firesteel_clients: {hosts: {h4: {ansible_host: $(address h4)}}}
    firesteel_observers: {hosts: {h4: }}
YAML
}

up() {
    if ! "$lab" status >/dev/null 2>&1; then
        is_own_lab=yes
        "$lab" up 4 --memory $host_mib --scratch $scratch_mib
    fi
    mkdir -p "$work/three"
    inventory >"$work/hosts.yml"
    inventory_three >"$work/three/hosts.yml"
}

playbooks() {
    up
    LAB=$lab INVENTORY=$work/hosts.yml INVENTORY_THREE=$work/three/hosts.yml WORK=$work/run ARTEFACTS=$work/first/dist \
        ARTEFACTS_NEXT=$work/second/dist ARTEFACTS_BROKEN=$work/third/dist ansible/tests/run.sh "$1"
}

lint() {
    local collections=$work/collections/ansible_collections/firesteel
    mkdir -p "$collections"
    ln -sfn "$PWD/ansible" "$collections/cluster"
    (cd "$collections/cluster" && PATH=$cache/ansible/bin:$PATH ANSIBLE_COLLECTIONS_PATH=$work/collections ansible-lint --offline -q)
    "$cache/ansible/bin/python3" ansible/tools/reference.py --check
    "$cache/ansible/bin/python3" -m unittest discover --quiet -s ansible/tests/unit
}

numa() {
    local program=$work/first/firesteel
    [[ -x $program ]] || program=$target/debug/firesteel
    testing/lab/numa_checks.sh "$program" --nodes 2
    testing/lab/numa_checks.sh "$program" --nodes 4
    mkdir -p "$work/guest"
    strip -o "$work/guest/firesteel" "$program"
    cp testing/lab/guest/cgroups.sh "$work/guest/"
    testing/lab/numa --nodes 2 --cpus 4 --memory 3072 --share "$work/guest" --deadline 600 -- bash cgroups.sh
}

step() {
    local begun=$SECONDS
    echo "=== $1"
    case $1 in
    setup) testing/lab/setup ;;
    lab) testing/lab/tests.sh ;;
    lint) lint ;;
    packages) build first && build second && build_broken ;;
    numa) numa ;;
    *) playbooks "$1" ;;
    esac
    echo "=== $1: $((SECONDS - begun)) s"
}

main() {
    local wanted name
    [[ ${1:-} != -h && ${1:-} != --help ]] || { usage && exit 0; }
    wanted=("$@")
    (($#)) || wanted=("${all_steps[@]}")
    for name in "${wanted[@]}"; do
        [[ " ${all_steps[*]} " == *" $name "* ]] || fail "there is no step '$name': there are ${all_steps[*]}"
    done
    [[ $EUID -eq 0 ]] || fail "run it as root: it makes hosts"
    trap clean EXIT
    for name in "${wanted[@]}"; do
        step "$name"
    done
}

main "$@"
