# shellcheck shell=bash
# shellcheck disable=SC2016  # what is in single quotes expands on the hosts
# Inventories that are wrong.

step_preflight() {
  [ -x tests/preflight.sh ] || die "tests/preflight.sh is not there"
  local hosts
  mapfile -t hosts < <($LAB ctl ansible-inventory -i "$INVENTORY" --list | python3 -c 'import json,sys; print("\n".join(v["ansible_host"] for v in json.load(sys.stdin)["_meta"]["hostvars"].values()))')
  LAB_CTL="$LAB ctl" tests/preflight.sh "${hosts[@]:0:4}"
}
