# SPDX-License-Identifier: Apache-2.0
"""What is wrong with hosts as a cluster: how many, and what no two of them may have in common."""

from __future__ import annotations

from .findings import CLUSTER, Finding

MANAGERS = "firesteel_managers"
WORKERS = "firesteel_workers"


def judge_cluster(surveys, groups, settings):
    """`surveys` are those of the hosts that could be looked at, by name; `groups` the inventory's."""
    yield from judge_groups(groups, settings["manager_counts"])
    yield from judge_alike(surveys, "address", lambda survey: addresses(survey), "the address", "give each host its own firesteel_address (or ansible_host)")
    yield from judge_alike(surveys, "host-name", lambda survey: {survey["hostname"]}, "the host name", "a worker is known by it: `hostnamectl set-hostname`")
    yield from judge_alike(surveys, "same-host", lambda survey: {survey["boot_id"]}, "the boot id", "they are one machine: list it once, in several groups if need be")
    yield from judge_skew(surveys, settings["clock_skew_most_seconds"])
    if len(surveys) > 1:
        yield from judge_loopback(surveys)


def addresses(survey):
    """The host's address and what it resolves to there."""
    address = survey["address"]
    return set(survey["names"].get(address) or [address]) - {""}


def judge_groups(groups, counts):
    managers, workers = groups.get(MANAGERS, []), groups.get(WORKERS, [])
    if len(managers) not in counts:
        *others, last = (str(count) for count in counts)
        allowed = f"{', '.join(others)} or {last}" if others else last
        found = f"{len(managers)} in the group {MANAGERS}" + (f" ({', '.join(managers)})" if managers else "")
        yield Finding(CLUSTER, "managers", found, f"there must be {allowed}: a majority of them keeps the cluster going")
    if not workers:
        yield Finding(CLUSTER, "workers", f"none in the group {WORKERS}", "list at least one host there")


def judge_alike(surveys, check, values, what, do):
    seen = {}
    for host, survey in sorted(surveys.items()):
        for value in values(survey):
            seen.setdefault(value, []).append(host)
    for value, hosts in sorted(seen.items(), key=lambda item: str(item[0])):
        if value and len(hosts) > 1:
            yield Finding(CLUSTER, check, f"{', '.join(hosts)} have {what} {value} in common", do)


def judge_skew(surveys, most):
    """Two clocks are told to differ only by as much as is certain: the gap between what each may be ahead of the controller's."""
    leads = sorted((survey["clock_lead_seconds"]["least"], survey["clock_lead_seconds"]["most"], host) for host, survey in surveys.items())
    if len(leads) < 2:
        return
    latest = leads[-1]
    earliest = min(leads, key=lambda lead: lead[1])
    gap = latest[0] - earliest[1]
    if gap > float(most):
        found = f"that of {latest[2]} is at least {gap:.1f} s ahead of that of {earliest[2]}"
        yield Finding(CLUSTER, "clock-skew", found, "run chrony or systemd-timesyncd on all hosts, with the same servers")


def judge_loopback(surveys):
    for host, survey in sorted(surveys.items()):
        local = sorted(value for value in addresses(survey) if value.startswith("127.") or value == "::1")
        if local:
            yield Finding(host, "address", f"{survey['address']} is {', '.join(local)}, which other hosts do not reach", "set firesteel_address")
