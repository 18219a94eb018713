# shellcheck shell=bash
# Each role by itself, on one host that has nothing of a cluster: extensions/molecule.

step_molecule() {
  local address scenario begun out
  address=$(address "$(hosts_of 'firesteel_clients[0]')")
  for scenario in extensions/molecule/*/molecule.yml; do
    scenario=$(basename "$(dirname "$scenario")")
    begun=$SECONDS
    out=$WORK/molecule-$scenario.out
    rm -rf "$WORK/molecule/$scenario"
    MOLECULE_ADDRESS=$address MOLECULE_ARTEFACTS=$ARTEFACTS MOLECULE_EPHEMERAL_DIRECTORY=$WORK/molecule/$scenario \
      $LAB ctl molecule test --scenario-name "$scenario" >"$out" 2>&1 || { tail -60 "$out"; die "the scenario $scenario"; }
    pass "$scenario, $((SECONDS - begun)) s"
  done
}
