# shellcheck shell=bash
# The scripts as such, and how they take what they are told.

tests_of_scripts() {
    printf '%s\n' scripts_are_clean setup_does_nothing_twice wrong_use_is_told helps_teach
}

scripts_are_clean() {
    (cd "$here" && shellcheck --external-sources --check-sourced setup lab numa numa_checks.sh tests.sh files/*init)
}

setup_does_nothing_twice() {
    local said start=$SECONDS
    said=$("$here/setup" 2>&1)
    contains "is ready" "$said" "what setup says"
    [[ $said != *making* && $said != *installing* ]] || fail "a second setup made something: $said"
    between 0 10 $((SECONDS - start)) "seconds that a second setup takes"
}

wrong_use_is_told() {
    refused 2 "there is no command 'dance'" lab dance
    refused 2 "such as 'up 3'" lab up
    refused 2 "from 1 to 50" lab up 0
    refused 2 "from 1 to 50" lab up three
    refused 2 "no option '--disk'" lab up 3 --disk 5
    refused 2 "sizes in MiB" lab up 3 --scratch big
    refused 2 "from 8 to" lab up 3 --scratch 64,1
    refused 1 "is no folder" lab up 3 --share "$folder/none"
    refused 1 "is not up" lab status
    refused 1 "is not up" lab ctl true
    refused 1 "is not up" lab cut h1
    refused 2 "loss HOST PERCENT|off" lab loss h1
    refused 2 "FIRESTEEL_LAB_NAME" env FIRESTEEL_LAB_NAME=My-Lab "$here/lab" status
    refused 1 "run testing/lab/setup" env FIRESTEEL_LAB="$folder/nothing" "$here/lab" up 1
    refused 2 "no option '--node'" "$here/numa" --node 2 true
    refused 2 "multiple" "$here/numa" --nodes 3 --cpus 8 true
    refused 2 "tell the command" "$here/numa" --nodes 2
    refused 1 "is no folder" "$here/numa" --share "$folder/none" true
    refused 2 "there is no 'guests'" "$here/setup" guests
}

helps_teach() {
    contains "power loss" "$("$here/lab" --help)" "lab --help"
    contains "--scratch" "$("$here/lab" up --help)" "lab up --help"
    contains "--deadline" "$("$here/numa" --help)" "numa --help"
    contains "FIRESTEEL_LAB" "$("$here/setup" --help)" "setup --help"
}
