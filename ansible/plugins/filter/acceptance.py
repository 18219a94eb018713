"""Filters of the playbook acceptance: who measures with whom, and which host is the odd one."""

from __future__ import annotations

from statistics import median


def rounds(hosts):
    """All pairs of hosts in rounds of which each host is in one pair at most: a round-robin tournament.

    Each pair is [who serves, who measures]."""
    circle = list(hosts)
    if len(circle) % 2:
        circle.append(None)
    half = len(circle) // 2
    result = []
    for _ in range(len(circle) - 1):
        pairs = zip(circle[:half], reversed(circle[half:]))
        result.append([list(pair) for pair in pairs if None not in pair])
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return [pairs for pairs in result if pairs]


def partner(pairs, host):
    """Whom this host measures in a round, or nothing where it serves or has no partner."""
    return next((serves for serves, measures in pairs if measures == host), "")


def serves(pairs, host):
    """Whether this host is measured by another one in a round."""
    return any(server == host for server, _ in pairs)


def column(figures, name, unit, more_is_better, host, value):
    """Adds a host's figure, measured any number of times, to those of its kind."""
    figures.setdefault((name, unit, more_is_better), {}).setdefault(host, []).append(float(value))


def collect(hosts):
    """Figures by name from what each host measured: {host: {net, disk, memory}}."""
    figures = {}
    for host, measured in hosts.items():
        for one in measured.get("net", []):
            sent, received = one["send_bytes_per_second"], one["receive_bytes_per_second"]
            for end, out, into in ((host, sent, received), (one["peer_host"], received, sent)):
                column(figures, "net out", "GB/s", True, end, out / 1e9)
                column(figures, "net in", "GB/s", True, end, into / 1e9)
                column(figures, "round trip", "us", False, end, one["round_trip"]["median_us"])
        for index, one in enumerate(measured.get("disk", [])):
            column(figures, f"disk {index} write", "GB/s", True, host, one["write_bytes_per_second"] / 1e9)
            column(figures, f"disk {index} read", "GB/s", True, host, one["read_bytes_per_second"] / 1e9)
        for one in (measured.get("memory") or {}).get("paths", []):
            if one["from_node"] == one["memory_node"]:
                column(figures, f"node {one['from_node']} read", "GB/s", True, host, one["read_bytes_per_second"] / 1e9)
                column(figures, f"node {one['from_node']} copy", "GB/s", True, host, one["copy_bytes_per_second"] / 1e9)
    return figures


def judge(hosts, tolerance):
    """Per kind of figure and host: the median of its figures, how far it is from that of all hosts, and whether that is odd.

    Odd is what is worse than the median by more than the tolerance; faster is no fault."""
    rows = []
    for (name, unit, more_is_better), by_host in collect(hosts).items():
        own = {host: median(values) for host, values in by_host.items()}
        middle = median(own.values())
        for host in sorted(own):
            deviation = (own[host] - middle) / middle if middle else 0.0
            worse = -deviation if more_is_better else deviation
            rows.append({"what": name, "unit": unit, "host": host, "figure": own[host], "median": middle, "deviation": deviation, "odd": worse > tolerance})
    return rows


def odd_pairs(hosts, tolerance):
    """Pairs whose bandwidth is below the median of all pairs: a cable or a switch rather than a host."""
    pairs = [(host, one["peer_host"], min(one["send_bytes_per_second"], one["receive_bytes_per_second"])) for host, measured in hosts.items() for one in measured.get("net", [])]
    if not pairs:
        return []
    middle = median(bandwidth for _, _, bandwidth in pairs)
    return [f"{a} - {b}: {bandwidth / 1e9:.2f} GB/s, median {middle / 1e9:.2f}" for a, b, bandwidth in sorted(pairs) if bandwidth < middle * (1 - tolerance)]


def table(rows, pairs):
    """The judged figures as lines of text."""
    head = f"{'what':<16}{'host':<20}{'figure':>10}{'median':>10}  {'unit':<6}{'off by':>8}"
    lines = [head, "-" * len(head)]
    for row in rows:
        mark = "  <-- odd" if row["odd"] else ""
        lines.append(f"{row['what']:<16}{row['host']:<20}{row['figure']:>10.2f}{row['median']:>10.2f}  {row['unit']:<6}{row['deviation']:>+8.0%}{mark}")
    odd = sorted({row["host"] for row in rows if row["odd"]})
    lines += ["", "odd hosts: " + (", ".join(odd) or "none"), "slow pairs: " + ("; ".join(pairs) or "none")]
    return lines


class FilterModule:
    """The filters by name."""

    def filters(self):
        return {
            "rounds": rounds,
            "partner": partner,
            "serves": serves,
            "acceptance_judge": judge,
            "acceptance_odd_pairs": odd_pairs,
            "acceptance_table": table,
        }
