# SPDX-License-Identifier: Apache-2.0
"""From what is asked of a host to the files of its kernel that say so."""

from __future__ import annotations

from .sizes import parse

NODES = "/sys/devices/system/node"


def sysctl_path(key):
    """The file of a setting. A dot of a name (an interface eth0.7) is written as a slash, as sysctl has it."""
    return "/proc/sys/" + key.translate(str.maketrans("./", "/."))


def sysctl_values(sysctls):
    return [{"path": sysctl_path(key), "value": str(value)} for key, value in sorted(sysctls.items())]


def huge_page_values(requests, nodes):
    """`nodes` as the survey tells them. Requests for the same pages of a node add up."""
    counts = {}
    for request in requests:
        kib = parse(request["size"]) // 1024
        for node in [request["node"]] if "node" in request else [node["node"] for node in nodes]:
            path = f"{NODES}/node{node}/hugepages/hugepages-{kib}kB/nr_hugepages"
            counts[path] = counts.get(path, 0) + int(request["count"])
    return [{"path": path, "value": str(count)} for path, count in sorted(counts.items())]


def file_values(files):
    return [{"path": path, "value": str(value)} for path, value in sorted(files.items())]
