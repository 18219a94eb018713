#!/bin/sh
# Wrong inventories end in the role preflight, with the list of what is wrong, and change nothing.
#   tests/preflight.sh ADDRESS ADDRESS ADDRESS ADDRESS
# The four hosts are reached from where this runs; LAB_CTL is a command before each that makes it so (`testing/lab/lab ctl`), and
# ANSIBLE_SSH_ARGS or ANSIBLE_PRIVATE_KEY_FILE say how to log in. Nothing is left on the hosts.
set -eu
[ $# -eq 4 ] || { echo "usage: $0 ADDRESS ADDRESS ADDRESS ADDRESS" >&2; exit 2; }
cd "$(dirname "$0")/.."
export LAB_HOST1="$1" LAB_HOST2="$2" LAB_HOST3="$3" LAB_HOST4="$4"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/ansible_collections/firesteel"
ln -s "$PWD" "$work/ansible_collections/firesteel/cluster"
export ANSIBLE_COLLECTIONS_PATH="$work" ANSIBLE_HOST_KEY_CHECKING=false ANSIBLE_PYTHON_INTERPRETER=auto_silent

play() { # inventory, playbook
  ${LAB_CTL:-} ansible-playbook -i tests/inventories/hosts.yml -i "tests/inventories/$1.yml" "tests/$2.yml"
}

# What each wrong inventory must be told, a line for each part of the list.
expected() {
  sed -n 's/^# expect: //p' "tests/inventories/$1.yml"
}

check() {
  begun=$(date +%s)
  if play "$1" preflight >"$work/out" 2>&1; then
    cat "$work/out"; echo "FAILED: $1: preflight found nothing"; exit 1
  fi
  expected "$1" >"$work/expected"
  [ -s "$work/expected" ] || { echo "FAILED: $1 names nothing that it expects"; exit 1; }
  while read -r line; do
    grep -qF -- "$line" "$work/out" || { cat "$work/out"; echo "FAILED: $1: not told: $line"; exit 1; }
  done <"$work/expected"
  # A failed task that is no finding would look like one to a test that looks at the exit code alone.
  listed=$(sed -n '/"msg": \[/,/\]/p' "$work/out" | grep -c '^        "' || true)
  [ "$listed" -ge "$(wc -l <"$work/expected")" ] || { cat "$work/out"; echo "FAILED: $1: it is no list"; exit 1; }
  grep -q 'changed=[1-9]' "$work/out" && { cat "$work/out"; echo "FAILED: $1: something was changed"; exit 1; }
  echo "ok: $1, $(($(date +%s) - begun)) s"
  sed -n '/"evaluated_to": false/,/^}/{/^        "/p;}' "$work/out"
}

play right snapshot >"$work/before.out" 2>&1 || { cat "$work/before.out"; exit 1; }
play right preflight >"$work/out" 2>&1 || { cat "$work/out"; echo "FAILED: the right inventory is refused"; exit 1; }
echo "ok: right"
for case in tests/inventories/wrong-*.yml; do
  check "$(basename "$case" .yml)"
done
play right snapshot >"$work/after.out" 2>&1 || { cat "$work/after.out"; exit 1; }
# Hosts answer in any order.
snapshots() { sed -n 's/.*"msg": "\(node[0-9] [0-9a-f]*\)".*/\1/p' "$1" | sort; }
[ "$(snapshots "$work/before.out" | wc -l)" -eq 4 ] || { cat "$work/before.out"; echo "FAILED: no snapshot of all hosts"; exit 1; }
[ "$(snapshots "$work/before.out")" = "$(snapshots "$work/after.out")" ] || { sed -n '/other than before/,/^PLAY/p' "$work/after.out"; echo "FAILED: something on the hosts has changed"; exit 1; }
echo "ok: nothing on the hosts has changed"
