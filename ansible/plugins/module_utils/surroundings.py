# SPDX-License-Identifier: Apache-2.0
"""What a host has and sees: folders, block devices, ports, names. Reads only."""

from __future__ import annotations

import glob
import os
import socket
import stat
import subprocess

LISTENING = "0A"
# Of the parts of a device that blkid tells, those that mean something lies on it.
SIGNATURES = ("TYPE", "PTTYPE")


def mounts(path="/proc/self/mounts"):
    """Mount point to (device, file system); the latest of several on one point counts."""
    table = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            device, point, kind = line.split(" ")[:3]
            table[point.encode().decode("unicode_escape")] = (device, kind)
    return table


def folder(path):
    """Where a folder lies, or would lie, and how much room is there."""
    existing = path
    while not os.path.exists(existing):
        existing = os.path.dirname(existing) or "/"
    room = os.statvfs(existing)
    point = existing
    table = mounts()
    while point not in table and point != "/":
        point = os.path.dirname(point)
    device, kind = table.get(point, ("", ""))
    return {
        "path": path,
        "existing": existing,
        "is_folder": os.path.isdir(existing),
        "free_bytes": room.f_bavail * room.f_frsize,
        "mount": point,
        "device": device,
        "filesystem": kind,
        "read_only": bool(room.f_flag & os.ST_RDONLY),
    }


def device(path):
    """A block device: its size, what lies on it, and what holds it. `content` is empty where nothing was found."""
    found = {"path": path, "there": os.path.exists(path), "size_bytes": 0, "content": "", "uuid": "", "mounted": [], "holders": []}
    if not found["there"]:
        return found
    real = os.path.realpath(path)
    if not stat.S_ISBLK(os.stat(real).st_mode):
        found["content"] = "no block device"
        return found
    name = kernel_name(os.stat(real).st_rdev)
    found.update(size_bytes=size_bytes(name), holders=holders(name), mounted=mounted(real))
    found.update(signature(real))
    return found


def kernel_name(number):
    """What the kernel calls a device, whatever its node is called."""
    return os.path.basename(os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"))


def size_bytes(name):
    try:
        with open(f"/sys/class/block/{name}/size", encoding="ascii") as file:
            return int(file.read()) * 512
    except (OSError, ValueError):
        return 0


def holders(name):
    """Partitions of a device, and devices that are made of it."""
    base = f"/sys/class/block/{name}"
    parts = [os.path.basename(os.path.dirname(part)) for part in glob.glob(f"{base}/{name}*/partition")]
    return sorted(parts + os.listdir(f"{base}/holders")) if os.path.isdir(f"{base}/holders") else sorted(parts)


def mounted(real):
    return sorted(point for point, (source, _kind) in mounts().items() if os.path.realpath(source) == real)


def signature(real):
    """What blkid sees on the device itself. A device that cannot be looked at is not taken for an empty one."""
    try:
        shown = subprocess.run(["blkid", "-p", "-o", "export", real], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        return {"content": "unknown: there is no blkid (package util-linux)"}
    except subprocess.TimeoutExpired:
        return {"content": "unknown: blkid did not end within 60 s"}
    if shown.returncode == 2 and not shown.stdout:
        return {"content": "" if readable(real) else "unknown: it cannot be read"}
    if shown.returncode != 0:
        return {"content": "several signatures" if shown.returncode == 8 else f"unknown: {shown.stderr.strip()}"}
    values = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
    content = next((values[key] for key in SIGNATURES if key in values), "something that blkid does not name")
    return {"content": content, "uuid": values.get("UUID", "")}


def readable(real):
    try:
        with open(real, "rb") as file:
            return len(file.read(4096)) == 4096
    except OSError:
        return False


def listeners(ports):
    """Who listens on TCP ports: port (as text) to the name of a process, `?` where that cannot be seen."""
    wanted = {port: set() for port in ports}
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        for port, inode in sockets(path):
            if port in wanted:
                wanted[port].add(inode)
    owners = owners_of(set().union(*wanted.values())) if wanted else {}
    return {str(port): owners.get(min(inodes), "?") for port, inodes in wanted.items() if inodes}


def sockets(path):
    try:
        with open(path, encoding="ascii") as file:
            lines = file.readlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if fields[3] == LISTENING:
            yield int(fields[1].rsplit(":", 1)[1], 16), fields[9]


def owners_of(inodes):
    owners = {}
    for link in glob.glob("/proc/[0-9]*/fd/*") if inodes else []:
        try:
            target = os.readlink(link)
            inode = target[len("socket:["):-1] if target.startswith("socket:[") else None
            if inode in inodes:
                with open(f"/proc/{link.split('/')[2]}/comm", encoding="utf-8", errors="replace") as file:
                    owners[inode] = file.read().strip()
        except OSError:
            continue  # the process has ended meanwhile
    return owners


def resolve(names):
    """Each name's addresses; none where it does not resolve."""
    found = {}
    for name in names:
        try:
            found[name] = sorted({entry[4][0] for entry in socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)})
        except (OSError, UnicodeError):
            found[name] = []
    return found


def is_own(address):
    """Whether the address is one of this host's: only then a socket can be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.bind((address, 0))
        return True
    except OSError:
        return False


def default_address():
    """The address from which the host reaches others by its default route. Nothing is sent."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
            trial.connect(("192.0.2.1", 9))
            return trial.getsockname()[0]
    except OSError:
        return ""
