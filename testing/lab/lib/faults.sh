# shellcheck shell=bash
# What can be done to a host and its cable while it runs.

cut_link() { at_switch ip link set "$(port_of "$1")" down; }
heal_link() { at_switch ip link set "$(port_of "$1")" up; }

# A table for each pair, so that one pair can be joined again while others stay apart.
pair_table() { printf 'part_%s\n' "$1" "$2" | sort -V | cut -d_ -f2 | paste -sd_ | sed 's/^/part_/'; }

# part HOST OTHER...: the host from each of the others.
part() {
    local one=$1 other
    shift
    for other in "$@"; do
        part_pair "$one" "$other"
    done
}

part_pair() {
    local table a b
    table=$(pair_table "$1" "$2") a=$(port_of "$1") b=$(port_of "$2")
    at_switch nft -f - <<-RULES
	add table bridge $table
	flush table bridge $table
	add chain bridge $table between { type filter hook forward priority 0; }
	add rule bridge $table between iifname $a oifname $b drop
	add rule bridge $table between iifname $b oifname $a drop
	RULES
}

unpart_pair() { at_switch nft delete table bridge "$(pair_table "$1" "$2")" 2>/dev/null || say "$1 and $2 are not parted"; }

parted_tables() { at_switch nft list tables bridge 2>/dev/null | awk '{ print $3 }' | grep '^part_' || true; }

unpart_all() {
    local table
    for table in $(parted_tables); do
        at_switch nft delete table bridge "$table"
    done
}

# lose HOST PERCENT: of the frames from it and to it.
lose() {
    local table=loss_$1 port some="numgen random mod 100 < $2"
    # The last of a hundred is no number below a hundred: all is all.
    (($2 < 100)) || some=''
    port=$(port_of "$1")
    at_switch nft -f - <<-RULES
	add table netdev $table
	delete table netdev $table
	add table netdev $table
	add chain netdev $table from { type filter hook ingress device $port priority 0; }
	add chain netdev $table to { type filter hook egress device $port priority 0; }
	add rule netdev $table from $some drop
	add rule netdev $table to $some drop
	RULES
    echo "$2" >"$state/$1/loss"
}

lose_nothing() {
    at_switch nft delete table netdev "loss_$1" 2>/dev/null || true
    rm -f "$state/$1/loss"
}

# limit_rate HOST RATE: both ways. A bucket must hold what a fast link carries between two ticks of the kernel's clock, and be small
# enough for a slow one to be slow from the start.
limit_rate() {
    local burst=64kb
    [[ $2 != *gbit ]] || burst=1mb
    at_switch tc qdisc replace dev "$(port_of "$1")" root tbf rate "$2" burst "$burst" latency 20ms
    nsenter --net="/run/netns/$(namespace_of "$1")" tc qdisc replace dev eth0 root tbf rate "$2" burst "$burst" latency 20ms
    echo "$2" >"$state/$1/rate"
}

unlimit_rate() {
    [[ -f $state/$1/rate ]] || return 0
    at_switch tc qdisc delete dev "$(port_of "$1")" root
    nsenter --net="/run/netns/$(namespace_of "$1")" tc qdisc delete dev eth0 root
    rm -f "$state/$1/rate"
}

# Silence first, then the end: nobody hears of it.
lose_power() {
    cut_link "$1"
    end_host "$1"
}

freeze() {
    echo 1 >"$(v2_group "$1")/cgroup.freeze"
    within 10 is_frozen "$1" || die "$1 does not freeze: a process of it hangs in the kernel (cat $(v2_group "$1")/cgroup.events)"
}

thaw() {
    echo 0 >"$(v2_group "$1")/cgroup.freeze"
    within 10 is_thawed "$1" || die "$1 does not thaw (cat $(v2_group "$1")/cgroup.events)"
}
