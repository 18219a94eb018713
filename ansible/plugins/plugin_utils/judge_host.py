# SPDX-License-Identifier: Apache-2.0
"""What is wrong with one host, from what a survey of it says and what is asked of it."""

from __future__ import annotations

import re

from .findings import Finding
from .sizes import parse, show

FILESYSTEMS_IN_MEMORY = ("tmpfs", "ramfs")


def judge_host(host, survey, asked):
    """All findings of a host. `asked` is the label that the survey was given."""
    checks = (judge_platform, judge_io_uring, judge_memory, judge_huge_pages, judge_folders, judge_devices, judge_ports, judge_clock, judge_address)
    return [finding for check in checks for finding in check(host, survey, asked)]


def version(text):
    """The first two numbers of a kernel's release, so that 6.10 is newer than 6.9."""
    found = re.match(r"(\d+)\.(\d+)", str(text))
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def judge_platform(host, survey, asked):
    architecture = survey["architecture"]
    if architecture not in asked["architectures"]:
        yield Finding(host, "architecture", f"{architecture}, but the artefacts are for {', '.join(asked['architectures'])}", "take the host out of the inventory")
    if version(survey["kernel"]) < version(asked["kernel_min"]):
        yield Finding(host, "kernel", f"{survey['kernel']} is older than {asked['kernel_min']}", "install a newer kernel and boot it")
    lacking = [name for name in asked["cpu_features"] if name not in survey["cpu_features"]]
    if lacking:
        yield Finding(host, "cpu", f"the processor has no {', '.join(lacking)}", "use another host; in a virtual machine, pass the processor's model through")
    if survey["systemd"] is None:
        yield Finding(host, "systemd", "the host was not started by systemd", "the services are units of systemd: use a host that has it")
    elif survey["systemd"] < asked["systemd_min"]:
        yield Finding(host, "systemd", f"version {survey['systemd']} is older than {asked['systemd_min']}", "use a newer release of the distribution")
    if survey["control_groups"] != 2 and "worker" in asked["roles"]:
        do = "boot with systemd.unified_cgroup_hierarchy=1; without it executors are not limited one by one"
        yield Finding(host, "control-groups", "version 1", do, error=False)


def judge_io_uring(host, survey, asked):
    fault = survey["io_uring_fault"]
    disabled = survey["io_uring_disabled"]
    if "worker" not in asked["roles"] or (not fault and not disabled):
        return
    if disabled:
        found = f"kernel.io_uring_disabled is {disabled}"
        if asked["io_uring_tuned"] and not survey["container"]:
            yield Finding(host, "io_uring", found, "the role tuning sets it to 0", error=False)
        else:
            yield Finding(host, "io_uring", found, "set it to 0, or let the role tuning do so (firesteel_tuning_io_uring)")
    elif fault == "ENOSYS":
        yield Finding(host, "io_uring", "this kernel has none (ENOSYS)", "use a kernel with CONFIG_IO_URING")
    else:
        yield Finding(host, "io_uring", f"a ring is refused ({fault})", "allow io_uring_setup, io_uring_enter and io_uring_register in what confines the host (seccomp)")


def judge_memory(host, survey, asked):
    total, least = survey["memory_bytes"], max((parse(size) for size in asked["memory_min"]), default=0)
    if total is None:
        yield Finding(host, "memory", "the kernel does not tell how much there is", "see that /proc is mounted")
    elif total < least:
        yield Finding(host, "memory", f"{show(total)}, less than {show(least)}", "add memory, or lower firesteel_preflight_memory_min")
    elif "worker" in asked["roles"] and asked["worker_memory"] != "auto":
        yield from judge_executors(host, survey, asked)


def judge_executors(host, survey, asked):
    executors = len(survey["nodes"]) if asked["executors"] == "auto" else int(asked["executors"])
    wanted = parse(asked["worker_memory"]) * executors
    if wanted > survey["memory_bytes"]:
        found = f"{executors} executors of {asked['worker_memory']} take more than the {show(survey['memory_bytes'])} of the host"
        yield Finding(host, "memory", found, "lower firesteel_worker_memory")


def judge_huge_pages(host, survey, asked):
    wanted, known = {}, {node["node"]: node for node in survey["nodes"]}
    for request in asked["huge_pages"]:
        size = parse(request["size"])
        for node in [request["node"]] if "node" in request else known:
            if node not in known:
                yield Finding(host, "huge-pages", f"asked for on NUMA node {node}, and the host has {sorted(known)}", "correct firesteel_tuning_huge_pages")
            elif str(size) not in known[node]["huge_pages"]:
                yield Finding(host, "huge-pages", f"the kernel has no pages of {request['size']}", "correct firesteel_tuning_huge_pages")
            else:
                wanted[node] = wanted.get(node, 0) + size * int(request["count"])
    for node, size in sorted(wanted.items()):
        most = int(known[node]["memory_bytes"] * float(asked["huge_pages_most"]))
        if size > most:
            found = f"{show(size)} are asked for on NUMA node {node}, which has {show(known[node]['memory_bytes'])}, and may take {show(most)} of it"
            yield Finding(host, "huge-pages", found, "lower firesteel_tuning_huge_pages, or raise firesteel_preflight_huge_pages_most")


def judge_folders(host, survey, asked):
    """Those that will lie on a device which is mounted later are judged with the device."""
    points = [device["mount"] for device in asked["devices"]]
    for wanted, found in zip(asked["folders"], survey["folders"]):
        if any((wanted["path"] + "/").startswith(point.rstrip("/") + "/") for point in points):
            continue
        where = f"{wanted['path']} ({wanted['for']})"
        if not found["is_folder"]:
            yield Finding(host, "disk", f"{where}: {found['existing']} is no folder", "move it away, or name another folder")
        if found["read_only"]:
            yield Finding(host, "disk", f"{where}: {found['mount']} is mounted read-only", "see why, and mount it for writing")
        if found["free_bytes"] < parse(wanted["free_min"]):
            text = f"{where}: {show(found['free_bytes'])} free on {found['mount']}, less than {wanted['free_min']}"
            yield Finding(host, "disk", text, "make room, name another folder, or lower the limit in firesteel_preflight_free_min")
        if found["filesystem"] in FILESYSTEMS_IN_MEMORY and wanted["for"] == "scratch":
            yield Finding(host, "disk", f"{where} lies in memory ({found['filesystem']})", "name a folder on a disk", error=False)


def judge_devices(host, survey, asked):
    for wanted, found in zip(asked["devices"], survey["devices"]):
        name = wanted["device"]
        if not found["there"]:
            yield Finding(host, "device", f"{name} is not there", "correct firesteel_storage_devices; `lsblk` on the host shows what there is")
        elif found["content"] == "no block device":
            yield Finding(host, "device", f"{name} is no block device", "correct firesteel_storage_devices")
        elif found["mounted"] and wanted["mount"] not in found["mounted"]:
            yield Finding(host, "device", f"{name} is mounted at {', '.join(found['mounted'])}", "name another device, or unmount it")
        elif found["holders"]:
            yield Finding(host, "device", f"{name} is in use by {', '.join(found['holders'])}", "name one of its partitions, or another device")
        elif found["size_bytes"] < parse(asked["device_min"]):
            yield Finding(host, "device", f"{name} has {show(found['size_bytes'])}, less than {asked['device_min']}", "name a larger device, or lower firesteel_preflight_free_min")
        elif found["content"] != wanted["filesystem"]:
            yield from judge_content(host, wanted, found)


def judge_content(host, wanted, found):
    name, content = wanted["device"], found["content"]
    if content:
        do = "nothing that holds something is formatted: empty it yourself (`wipefs --all`) if it is the right one"
        yield Finding(host, "device", f"{name} holds {content}, not {wanted['filesystem']}", do)
    elif not wanted["format"]:
        yield Finding(host, "device", f"{name} is empty", "have it formatted with `format: true` in firesteel_storage_devices, or format it yourself")


def judge_ports(host, survey, asked):
    for wanted in asked["ports"]:
        owner = survey["listeners"].get(str(wanted["port"]))
        if owner not in (None, "firesteel"):
            whose = "another process" if owner == "?" else f"`{owner}`"
            yield Finding(host, "port", f"{wanted['port']} ({wanted['for']}) is taken by {whose}", f"stop that, or set {wanted['variable']}")


def judge_clock(host, survey, asked):
    if survey["clock_synchronised"] is False:
        found = "nothing keeps the clock in step"
        if survey["container"]:
            yield Finding(host, "clock", found, "the clock is that of the machine around this container: run chrony or systemd-timesyncd there", error=False)
        else:
            yield Finding(host, "clock", found, "run chrony or systemd-timesyncd")
    elif survey["clock_synchronised"] is None:
        yield Finding(host, "clock", "the kernel does not say whether the clock is kept in step", "see to it on the machine around the host", error=False)


def judge_address(host, survey, asked):
    address = survey["address"]
    if survey["names"].get(address) and not survey["address_is_own"]:
        yield Finding(host, "address", f"{address} is no address of this host", "correct firesteel_address or ansible_host")
    for name, addresses in sorted(survey["names"].items()):
        if not addresses:
            yield Finding(host, "name", f"{name} does not resolve", "add it to the name service or to /etc/hosts")
