# shellcheck shell=bash
# Up and down, in any order and however they end.

tests_of_life() {
    printf '%s\n' down_leaves_nothing down_of_nothing_is_fine two_labs_do_not_meet a_killed_up_is_cleaned_by_down a_killed_up_is_cleaned_by_up \
        an_ended_up_cleans_itself a_failed_up_cleans_itself
}

down_leaves_nothing() {
    local up kind
    lab up 3 --scratch 16 --memory 512
    lab ctl sleep 1000 &
    lab ssh h1 'nohup sleep 1000 >/dev/null 2>&1 &'
    lab freeze h2
    lab kill h3
    up=$(traces "$first")
    # What looks for traces must find each kind, or finding none would mean nothing.
    for kind in namespace mount cgroup "loop device" process folder; do
        contains "$kind " "$up" "traces of a lab that is up"
    done
    lab down
    no_traces "$first"
}

down_of_nothing_is_fine() {
    lab down
    lab down
    no_traces "$first"
}

two_labs_do_not_meet() {
    local ours theirs
    lab up 1
    other_lab up 1
    refused 1 "is up already" lab up 1
    ours=$(lab status | awk '$1 == "h1" { print $2 }')
    theirs=$(other_lab status | awk '$1 == "h1" { print $2 }')
    [[ $ours != "$theirs" ]] || fail "both labs gave h1 the address $ours"
    lab ctl ping -c 1 -W 2 "$ours"
    if lab ctl ping -c 1 -W 1 "$theirs"; then fail "a host of the other lab answers"; fi
    other_lab down
    no_traces "$second"
    same h1 "$(lab ssh h1 hostname)" "a host's name after the other lab went down"
    lab down
    no_traces "$first"
}

# Brings up a lab and kills what does so, with this signal, as soon as its first host begins to boot.
end_up_half_way() {
    local signal=$1 up
    FIRESTEEL_LAB_NAME=$first setsid "$here/lab" up 3 --scratch 16 &
    up=$!
    within 20 test -f "$lab_cache/labs/$first/h1/container" || fail "h1 was not started"
    kill "-$signal" "$up"
    wait "$up" || true
    [[ ! -f $lab_cache/labs/$first/ready ]] || fail "the lab was up before it was ended"
}

a_killed_up_is_cleaned_by_down() {
    end_up_half_way KILL
    contains "namespace" "$(traces "$first")" "traces of a killed up"
    refused 1 "is not up" lab status
    lab down
    no_traces "$first"
}

a_killed_up_is_cleaned_by_up() {
    end_up_half_way KILL
    lab up 1
    same "fsl-$first-h1 fsl-$first-sw" "$(traces "$first" | awk '$1 == "namespace" { print $2 }' | sort | paste -sd' ')" "namespaces"
    lab down
    no_traces "$first"
}

an_ended_up_cleans_itself() {
    end_up_half_way TERM
    no_traces "$first"
}

# A host that ends while it boots.
a_failed_up_cleans_itself() {
    local start=$SECONDS
    mkdir -p "$folder/bin"
    printf '#!/bin/sh\necho "no container today"\nexit 1\n' >"$folder/bin/systemd-nspawn"
    chmod +x "$folder/bin/systemd-nspawn"
    refused 1 "no container today" env PATH="$folder/bin:$PATH" FIRESTEEL_LAB_NAME="$first" "$here/lab" up 2
    between 0 30 $((SECONDS - start)) "seconds until a failed up says so"
    no_traces "$first"
}
