# SPDX-License-Identifier: Apache-2.0
"""What a host is: kernel, processor, memory, services, clock. Reads only."""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import platform
import re
import socket
import subprocess

IO_URING_SETUP = 425
TIMEX_BYTES = 208
TIMEX_STATUS_AT = 40
STA_UNSYNC = 0x40


def read(path):
    """A small file without the white space around it; None where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def number(text):
    return int(text) if text is not None and text.isdigit() else None


def machine():
    return {
        "hostname": socket.gethostname(),
        "machine_id": read("/etc/machine-id"),
        "boot_id": read("/proc/sys/kernel/random/boot_id"),
        "container": container(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu_features": cpu_features(),
        "systemd": systemd_version(),
        "control_groups": 2 if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1,
        "memory_bytes": memory_bytes(),
        "nodes": numa_nodes(),
        "io_uring_disabled": number(read("/proc/sys/kernel/io_uring_disabled")),
        "io_uring_fault": io_uring_fault(),
        "clock_synchronised": clock_synchronised(),
    }


def container():
    """The kind of container that this is; empty on a machine of its own."""
    return read("/run/systemd/container") or ("docker" if os.path.exists("/.dockerenv") else "")


def cpu_features():
    for line in (read("/proc/cpuinfo") or "").splitlines():
        if line.startswith(("flags", "Features")):
            return sorted(line.partition(":")[2].split())
    return []


def systemd_version():
    """None where systemd is not what started the host."""
    if not os.path.isdir("/run/systemd/system"):
        return None
    try:
        shown = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"systemd (\d+)", shown.stdout)
    return int(found.group(1)) if found else None


def memory_bytes(path="/proc/meminfo"):
    found = re.search(r"MemTotal:\s+(\d+) kB", read(path) or "")
    return int(found.group(1)) * 1024 if found else None


def numa_nodes(root="/sys/devices/system/node"):
    """The nodes that have memory, by number. One that stands for all where the kernel knows none."""
    nodes = []
    for folder in glob.glob(os.path.join(root, "node[0-9]*")):
        size = memory_bytes(os.path.join(folder, "meminfo"))
        if size:
            index = int(os.path.basename(folder)[len("node"):])
            nodes.append({"node": index, "memory_bytes": size, "huge_pages": huge_pages(folder)})
    return sorted(nodes, key=lambda node: node["node"]) or [
        {"node": 0, "memory_bytes": memory_bytes() or 0, "huge_pages": huge_pages("/sys/kernel/mm")}
    ]


def huge_pages(folder):
    """How many pages are reserved, by their size in bytes (as text: the keys of JSON are)."""
    pages = {}
    for path in glob.glob(os.path.join(folder, "hugepages", "hugepages-*kB")):
        size = int(path.rsplit("-", 1)[1][: -len("kB")]) * 1024
        pages[str(size)] = number(read(os.path.join(path, "nr_hugepages"))) or 0
    return pages


def io_uring_fault():
    """Why the kernel gives this process no ring; empty where it does. The ring is closed at once."""
    libc = ctypes.CDLL(None, use_errno=True)
    ring = libc.syscall(IO_URING_SETUP, 1, ctypes.create_string_buffer(120))
    if ring >= 0:
        os.close(ring)
        return ""
    return errno.errorcode.get(ctypes.get_errno(), str(ctypes.get_errno()))


def clock_synchronised():
    """What the kernel was told of its clock by whatever steers it; None where it does not say."""
    state = ctypes.create_string_buffer(TIMEX_BYTES)
    try:
        if ctypes.CDLL(None, use_errno=True).adjtimex(state) < 0:
            return None
    except AttributeError:
        return None
    status = int.from_bytes(state.raw[TIMEX_STATUS_AT : TIMEX_STATUS_AT + 4], "little")
    return not status & STA_UNSYNC
