#!/bin/sh
# loop.sh DATA: jobs one after the other until /run/firesteel-test-end is there. Each says right or wrong, and how many milliseconds it took.
now_ms() { echo $(($(date +%s%N) / 1000000)); }
export FIRESTEEL_CONFIG=/etc/firesteel/firesteel.toml
manager=$(sed -n 's/^manager = "\(.*\)"/\1/p' "$FIRESTEEL_CONFIG" | head -1)
while [ ! -e /run/firesteel-test-end ]; do
  begun=$(now_ms)
  if timeout 300 /usr/bin/firesteel bench verify tpch --data "$1" --queries 1,3,5,9,18 --manager "$manager" >/run/firesteel-test-last 2>&1; then
    end=right
  else
    end=wrong
    cat /run/firesteel-test-last >>/run/firesteel-test-wrong
  fi
  echo "$end $(($(now_ms) - begun))" >>/run/firesteel-test-loop
done
