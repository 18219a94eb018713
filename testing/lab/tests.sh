#!/usr/bin/env bash
# Tests of the lab itself, as root, on what testing/lab/setup made. They bring up labs of their own, so others may be up beside them.
#
#   testing/lab/tests.sh [GROUP..]      all, or some of: scripts life hosts faults guest
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=tests
# shellcheck source=lib/common.sh
. "$here/lib/common.sh"
# shellcheck source=tests/expect.sh
. "$here/tests/expect.sh"
# shellcheck source=tests/scripts.sh
. "$here/tests/scripts.sh"
# shellcheck source=tests/life.sh
. "$here/tests/life.sh"
# shellcheck source=tests/hosts.sh
. "$here/tests/hosts.sh"
# shellcheck source=tests/faults.sh
. "$here/tests/faults.sh"
# shellcheck source=tests/guest.sh
. "$here/tests/guest.sh"

groups=(scripts life hosts faults guest)
test_seconds_max=300
passed=0 failed=0

# Names of labs that no other run of these tests has at the same time. What runs a single test inherits them.
first=${first:-ta$$} second=${second:-tb$$}
folder=${folder:-$(mktemp -d)}

lab() { FIRESTEEL_LAB_NAME=$first "$here/lab" "$@"; }
other_lab() { FIRESTEEL_LAB_NAME=$second "$here/lab" "$@"; }

clean() {
    lab down
    other_lab down
    rm -rf "$folder"
}

# A test is a function; it runs in a process of its own, that ends at the first command that fails, and with all its children when it
# takes too long.
run() {
    local group=$1 name=$2 start=$SECONDS code=0
    first=$first second=$second folder=$folder timeout --kill-after=5 "$test_seconds_max" "$here/tests.sh" --test "$name" \
        >"$folder/output" 2>&1 </dev/null || code=$?
    if ((code == 0)); then
        passed=$((passed + 1))
        echo "ok     $name ($((SECONDS - start)) s)"
    else
        failed=$((failed + 1))
        ((code != 124)) || echo "this takes more than $test_seconds_max s" >>"$folder/output"
        echo "FAILED $name ($((SECONDS - start)) s, exit code $code)"
        sed 's/^/    /' "$folder/output"
        begin_anew "$group"
    fi
}

# After a failure in a group, so that the tests after it find what they expect.
begin_anew() {
    lab down
    other_lab down
    case $1 in
    hosts) hosts_come_up ;;
    faults) faults_begin ;;
    esac
}

main() {
    local group name
    need_root
    if [[ ${1:-} == --test ]]; then
        "$2"
        return
    fi
    (($#)) || set -- "${groups[@]}"
    for group in "$@"; do
        [[ " ${groups[*]} " == *" $group "* ]] || misuse "there is no group '$group': there are ${groups[*]}"
    done
    trap clean EXIT
    trap 'exit 130' INT TERM HUP
    for group in "$@"; do
        for name in $("tests_of_$group"); do
            run "$group" "$name"
        done
    done
    echo "$passed passed, $failed failed"
    ((failed == 0))
}

main "$@"
