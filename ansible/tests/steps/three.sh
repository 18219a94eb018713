# shellcheck shell=bash
# shellcheck disable=SC2016  # what is in single quotes expands on the hosts
# Three managers beside three workers, with what else an inventory may ask for: certificates of one's own authority, tokens, metrics, racks, users of the
# client, files for Prometheus and Grafana. INVENTORY_THREE names beside itself own/ (certificates), tokens.toml and token, which are made here.

TOKEN=/etc/firesteel/token # on every host, root's alone: what is looked for is never written into a command

# own_certificate FOLDER ROLE NAMES: of the authority in $own, by openssl alone. NAMES are as openssl writes them, after a comma.
own_certificate() {
  mkdir -p "$own/$1" && cp "$own/ca.pem" "$own/$1/" &&
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=${2##*/}" -keyout "$own/$1/node.key" -out "$own/request.pem" &&
    printf '%s\n' 'basicConstraints=critical,CA:FALSE' 'keyUsage=critical,digitalSignature' 'extendedKeyUsage=serverAuth,clientAuth' \
      "subjectAltName=URI:firesteel://lab/$2$3" >"$own/extensions" &&
    openssl x509 -req -in "$own/request.pem" -CA "$own/ca.pem" -CAkey "$own/ca.key" -CAcreateserial -days 90 -extfile "$own/extensions" \
      -out "$own/$1/node.pem"
}

own_certificates() {
  local host role user
  rm -rf "$own"
  mkdir -m 0700 "$own"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj "/CN=an authority of one's own" -keyout "$own/ca.key" \
    -out "$own/ca.pem" -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
  for host in $(hosts_of all); do
    own_certificate "$host/client" client/operator "" || return 1
  done
  for host in $(hosts_of firesteel_managers); do
    for role in manager worker; do
      own_certificate "$host/$role" "$role" ",DNS:$host,IP:$(address "$host")" || return 1
    done
  done
  for user in ana ben; do
    own_certificate "users/$user" "client/$user" "" || return 1
  done
}

# Tokens of an administrator, whom root's commands are, of ana, and one that the cluster does not know.
tokens() {
  local beside
  beside=$(dirname "$INVENTORY")
  tar -xzf "$ARTEFACTS"/firesteel-*-linux.tar.gz -C "$WORK" --strip-components=3 --wildcards 'firesteel-*/usr/bin/firesteel'
  (
    umask 077
    rm -f "$beside/tokens.toml" "$WORK/tokens-of-another.toml"
    "$WORK/firesteel" tokens add ops --admin --file "$beside/tokens.toml" >"$beside/token"
    "$WORK/firesteel" tokens add ana --file "$beside/tokens.toml" >"$WORK/token-of-ana"
    "$WORK/firesteel" tokens add ana --file "$WORK/tokens-of-another.toml" >"$WORK/token-of-another"
  )
}

prepare_three() {
  local own
  own=$(dirname "$INVENTORY")/own
  own_certificates >"$WORK/own.out" 2>&1 || { tail -20 "$WORK/own.out"; die "making certificates"; }
  tokens
  at firesteel_clients 'for user in ana ben; do id $user || useradd --create-home --shell /bin/bash $user; done
    mkdir -p /etc/prometheus/scrape.d /etc/prometheus/rules.d /var/lib/grafana/dashboards' >"$WORK/users.out" 2>&1 || die "users of the client"
}

# A configuration that changes has daemons restarted one at a time: of managers the next only when all take part again.
one_at_a_time() { # what is restarted
  awk -v what="$1" '
    /^TASK/ { restart = index($0, "Restart the " what "]"); ready = restart_seen && /Ask the manager/ }
    restart && /^changed: / { if (open != "") exit 1; open = $2; restart_seen = 1; count++ }
    ready && /^ok: / && $2 == open { open = "" }
    END { if (open != "" || count != 3) exit 1 }' "$WORK/changed.out"
}

reconfigured() {
  local others
  play changed site -e "firesteel_artefacts=$ARTEFACTS" -e '{"firesteel_config": {"worker": {"cores": 1, "pin": false}, "manager": {"node_timeout": "12s"}}}'
  well changed
  others=$(awk '/^TASK/ { task = $0 } /^changed: / && task !~ /Write the configuration|Restart the manager|Restart the worker/ { print task, $0 }' "$WORK/changed.out")
  [ -z "$others" ] || { echo "$others"; die "a second run changes more than the configuration"; }
  one_at_a_time manager || die "managers were not restarted one at a time"
  one_at_a_time worker || die "workers were not restarted one at a time"
  pass "a changed configuration restarts managers and workers one at a time, and nothing else changes"
}

refused() { # what it is, words that are told, environment of the command
  ! at 'firesteel_clients[0]' "$3 firesteel jobs" >"$WORK/refused.out" 2>&1 || { cat "$WORK/refused.out"; die "$1 is let in"; }
  grep -q "$2" "$WORK/refused.out" || { cat "$WORK/refused.out"; die "$1 is not told why"; }
  pass "$1 is refused: $2"
}

tokens_asked() {
  refused "a request without a token" 'asks for a token, and none was shown' FIRESTEEL_CLIENT_TOKEN_FILE=auto
  refused "a request with another's token" 'the token is not one of this cluster' "FIRESTEEL_TOKEN=$(cat "$WORK/token-of-another")"
  at 'firesteel_clients[0]' 'firesteel jobs' >"$WORK/let-in.out" 2>&1 || { cat "$WORK/let-in.out"; die "the right token is refused"; }
  bring "$WORK/token-of-ana" 'firesteel_clients[0]' /home/ana/token '0600 owner=ana'
  at 'firesteel_clients[0]' 'printf "select 40 + 2 as n" >/home/ana/job.sql
    su - ana -c "FIRESTEEL_CLIENT_TOKEN_FILE=\$HOME/token firesteel submit job.sql --format csv" && firesteel jobs list --all --json' >"$WORK/ana.out" 2>&1 ||
    { cat "$WORK/ana.out"; die "a job of ana"; }
  grep -q '^42$' "$WORK/ana.out" || { cat "$WORK/ana.out"; die "the answer to ana"; }
  grep -qE '"user": *"ana"' "$WORK/ana.out" || { cat "$WORK/ana.out"; die "the job is not ana's"; }
  at 'firesteel_clients[0]' '! su - ben -c "firesteel jobs" 2>&1' >"$WORK/ben.out" || { cat "$WORK/ben.out"; die "ben, who has no token, is let in"; }
  at 'firesteel_clients[0]' '! su - ben -c "cat /etc/firesteel/certs/users/ana/node.key" 2>&1' >>"$WORK/ben.out" || die "ben reads ana's key"
  pass "the right token is let in; ana has a certificate and a job of her own, and ben no part in it"
}

# In what all may read, in processes' command lines, in journals and logs, in what was gathered, and in what the plays have told.
token_hidden() {
  local found
  at all "for folder in /etc /home /opt/firesteel /root /run /scratch0 /tmp /usr/bin /var; do
      [ ! -d \$folder ] || find \$folder -xdev -type f -perm -o=r -size -64M -exec grep -lFf $TOKEN {} +
    done
    for process in /proc/[0-9]*; do tr '\\0' '\\n' <\$process/cmdline 2>/dev/null | grep -qFf $TOKEN && echo \$process; done
    journalctl --no-pager | grep -cFf $TOKEN | grep -vx 0
    grep -rlFf $TOKEN /var/log
    echo looked" >"$WORK/hidden.out" 2>&1
  [ "$(grep -cx looked "$WORK/hidden.out")" -eq 4 ] || { cat "$WORK/hidden.out"; die "looking for the token"; }
  found=$(said <"$WORK/hidden.out" | grep -vx looked || true)
  [ -z "$found" ] || { cat "$WORK/hidden.out"; die "the token is where others can read it"; }
  rm -rf "$WORK/gathered"
  play gathered gather_logs -e "firesteel_operations_folder=$WORK/gathered"
  well gathered
  tar -xzf "$WORK"/gathered/logs-*.tar.gz -C "$WORK/gathered"
  for found in "$WORK"/gathered/hosts/*.tar.gz; do
    mkdir -p "${found%.tar.gz}" && tar -xzf "$found" -C "${found%.tar.gz}"
  done
  found=$(grep -rlFf "$(dirname "$INVENTORY")/token" "$WORK/gathered" "$WORK"/*.out || true)
  [ -z "$found" ] || die "the token is in $found"
  pass "the token is in no file that all can read, no command line and no log"
}

metrics() { # host, port: into $WORK/metrics.out
  at 'firesteel_clients[0]' "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://$1:$2/metrics\", timeout=10).read().decode())'" >"$WORK/metrics.out" 2>&1 ||
    { cat "$WORK/metrics.out"; die "metrics of $1:$2"; }
}

told() { # metric, of the daemon whose metrics are in $WORK/metrics.out
  grep -qE "^$1[ {]" "$WORK/metrics.out" || { head -20 "$WORK/metrics.out"; die "$1 is not among the metrics"; }
}

metrics_told() {
  local host leaders=0
  for host in $(hosts_of firesteel_managers); do
    metrics "$host" 7401
    told firesteel_build_info && told firesteel_manager_leads && told firesteel_certificate_expiry_seconds && told process_start_time_seconds
    ! grep -qE '^firesteel_manager_leads 1' "$WORK/metrics.out" || {
      leaders=$((leaders + 1))
      grep -qE '^firesteel_manager_nodes\{state="alive"\} 3' "$WORK/metrics.out" || die "the leading manager does not tell of three nodes"
      grep -qE '^firesteel_calls_refused_total\{reason="token"\} [1-9]' "$WORK/metrics.out" || die "refused tokens are not counted"
    }
  done
  [ "$leaders" -eq 1 ] || die "$leaders managers say that they lead"
  for host in $(hosts_of firesteel_workers); do
    metrics "$host" 7411
    told firesteel_build_info && told firesteel_worker_registered && told firesteel_worker_executors
  done
  pass "managers and workers tell their metrics to the client's host"
}

racks_told() {
  at 'firesteel_clients[0]' 'firesteel nodes --json' 2>/dev/null | sed 1d | python3 -c '
import json, sys
racks = {node["worker"]: node["rack"] for node in json.load(sys.stdin)["nodes"] if node["state"] == "alive"}
assert racks == {"h1": "r1", "h2": "r2", "h3": "r2"}, racks' || die "racks"
  pass "nodes stand in the racks that the inventory names"
}

# The files are what Prometheus and Grafana can read, and each target that is named there answers.
observed() {
  local client targets target file
  client=$(hosts_of 'firesteel_clients[0]')
  for file in /etc/prometheus/scrape.d/firesteel.yml /etc/prometheus/rules.d/firesteel.yml /var/lib/grafana/dashboards/firesteel.json; do
    $LAB in "$client" cat "$file" >"$WORK/observed-$(basename "$(dirname "$file")")" || die "$file is not there"
  done
  targets=$($LAB ctl python3 - "$WORK" <<'PYTHON'
import json, sys, yaml
folder = sys.argv[1]
rules = yaml.safe_load(open(f"{folder}/observed-rules.d"))
assert all("expr" in rule for group in rules["groups"] for rule in group["rules"])
assert json.load(open(f"{folder}/observed-dashboards"))["panels"]
for job in yaml.safe_load(open(f"{folder}/observed-scrape.d"))["scrape_configs"]:
    for static in job["static_configs"]:
        assert static["labels"]["cluster"] == "lab" and static["labels"]["rack"], static
        print(*static["targets"])
PYTHON
  ) || die "what observes the cluster"
  [ "$(wc -l <<<"$targets")" -eq 6 ] || die "targets: $targets"
  for target in $targets; do
    metrics "${target%:*}" "${target##*:}"
    told firesteel_build_info
  done
  if command -v promtool >/dev/null; then
    promtool check rules "$WORK/observed-rules.d" || die "promtool refuses the rules"
  fi
  pass "what is scraped, rules and dashboard are there, and every target answers"
}

leading() { # the host of the manager that leads
  local leader host
  leader=$(at 'firesteel_clients[0]' 'firesteel managers --json' 2>/dev/null | sed 1d | python3 -c 'import json, sys; print(json.load(sys.stdin)["leader"].rpartition(":")[0])')
  for host in $(hosts_of firesteel_managers); do
    [ "$(address "$host")" != "$leader" ] || echo "$host"
  done
}

# Managers were replaced in the order that was told, the leading one last; each after the one before was healthy.
in_order() {
  local wanted order
  wanted=$(sed -n 's/.*"msg": "\(.*\), which leads".*/\1/p' "$WORK/upgrade-three.out" | sed 's/, then / /g')
  order=$(awk '/^PLAY \[Replace the managers/ { on = 1 } /^PLAY \[Replace the command/ { on = 0 } /^TASK/ { start = /Start the daemon from it/ }
    on && start && /^changed: / { gsub(/[][]/, "", $2); printf "%s%s", sep, $2; sep = " " }' "$WORK/upgrade-three.out")
  [ "$wanted" = "$order" ] || die "managers were to be replaced in the order '$wanted', and were so in '$order'"
  [ "${order##* }" = "$1" ] || die "the leading manager was $1, and the last was ${order##* }"
  pass "managers were replaced in the order $order, of which the last led"
}

step_three() {
  local INVENTORY=${INVENTORY_THREE:?the inventory with three managers} leader
  prepare_three
  play three site -e "firesteel_artefacts=$ARTEFACTS"
  well three
  rows
  job
  loop_begin
  reconfigured
  tokens_asked
  token_hidden
  metrics_told
  racks_told
  observed
  loop_end "a changed configuration"
  leader=$(leading)
  loop_begin
  play upgrade-three upgrade -e "firesteel_artefacts=${ARTEFACTS_NEXT:?}"
  well upgrade-three
  loop_end upgrade-three
  in_order "$leader"
  versions | sort | uniq -c
  leader=$(leading)
  [ -n "$leader" ] || die "nobody leads"
  fault "power-loss-of-the-leader-$leader" 20 "$LAB kill $leader" "$LAB start $leader"
  job
  reset_all
}
