#!/bin/sh
# collect.sh SINCE CONFIG LOGS OUT: what this host can tell of its daemons, as one tarball. What cannot be had is noted in it.
set -u
umask 077
since=$1 config=$2 logs=$3 out=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FIRESTEEL_CONFIG="$config"

keep() { # file, command...
  file=$1
  shift
  timeout 60 "$@" >"$work/$file" 2>&1 || echo "ended with $?: $*" >>"$work/$file"
}

for unit in firesteel-manager firesteel-worker; do
  keep "$unit.journal" journalctl --no-pager --output=short-precise --since="$since" --unit="$unit"
  keep "$unit.status" systemctl status --no-pager --full "$unit"
  keep "$unit.unit" systemctl cat "$unit"
done
keep kernel.journal journalctl --no-pager --dmesg --since="$since"
keep version.txt /usr/bin/firesteel --version
keep doctor.json /usr/bin/firesteel doctor --json
keep topology.txt /usr/bin/firesteel topology
keep managers.json /usr/bin/firesteel managers --json
keep nodes.json /usr/bin/firesteel nodes --json
keep jobs.json /usr/bin/firesteel jobs list --all --json
keep disks.txt df -h
keep memory.txt cat /proc/meminfo
keep processes.txt ps -eo pid,ppid,user,stat,rss,etime,args
keep sockets.txt ss -tanp
keep clock.txt timedatectl show

# No secret belongs into the configuration; what looks like one is struck out all the same. Certificates tell who, keys stay.
sed -E 's/^([[:space:]]*[A-Za-z0-9_-]*(secret|password|passwd|access_key|token)[A-Za-z0-9_-]*[[:space:]]*=[[:space:]]*).*/\1"(struck out)"/I' "$config" >"$work/firesteel.toml" 2>&1
for folder in "$(dirname "$config")"/certs/*/; do
  keep "certificates-$(basename "$folder").json" /usr/bin/firesteel certs show --json "$folder"
done
[ -d "$logs" ] && cp -r "$logs" "$work/logs"
tar -C "$work" -czf "$out" . || exit 1
