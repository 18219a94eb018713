"""Filters that the roles share: which artefact, which addresses, TOML."""

from __future__ import annotations

import json
import re

from ansible.errors import AnsibleFilterError

ARTEFACT = re.compile(r"^([0-9a-f]{64}) [ *](firesteel-(\d[^/]*)-x86_64-linux\.tar\.gz)$")
# Of a manager that takes part; one that forms or joins a group does not yet, and a leader that nobody hears does no more.
MANAGER_ROLES = ("alone", "leader", "follower")
BARE_KEY = re.compile(r"^[A-Za-z0-9_-]+$")


def artefacts(sums):
    """The tarballs that a SHA256SUMS lists, each with file, version and sha256."""
    matches = (ARTEFACT.match(line.strip()) for line in sums.splitlines())
    return [{"sha256": m[1], "file": m[2], "version": m[3]} for m in matches if m]


def release(version):
    """What sorts a version: the numbers before `+`. A commit has no order."""
    return [int(part) for part in re.findall(r"\d+", version.split("+")[0])]


def artefact(sums, version=""):
    """The tarball of that version, or the newest one."""
    known = artefacts(str(sums))
    if not known:
        raise AnsibleFilterError(
            "SHA256SUMS lists no firesteel-VERSION-x86_64-linux.tar.gz: firesteel_artefacts must name the folder that the packaging made"
        )
    versions = ", ".join(sorted(one["version"] for one in known))
    if version:
        found = [one for one in known if one["version"] == version]
        if not found:
            raise AnsibleFilterError(f"SHA256SUMS lists no version {version}, only {versions}: set firesteel_version to one of those")
        return found[0]
    newest = max(release(one["version"]) for one in known)
    found = [one for one in known if release(one["version"]) == newest]
    if len(found) > 1:
        raise AnsibleFilterError(f"SHA256SUMS lists several builds of one release, and none of them is the newest: {versions}; set firesteel_version")
    return found[0]


def address(host):
    """The address under which others reach a host, from its variables and facts."""
    default = host.get("ansible_default_ipv4") or {}
    for known in (host.get("firesteel_address"), host.get("ansible_host"), default.get("address")):
        if known:
            return str(known)
    return str(host["inventory_hostname"])


def with_port(host_address, port):
    """host:port, an IPv6 address in brackets."""
    return f"[{host_address}]:{port}" if ":" in str(host_address) else f"{host_address}:{port}"


def manager_addresses(managers, hostvars, port):
    """host:port of each of these managers, in their order; a port of their own comes before the given one."""
    return [with_port(address(hostvars[name]), hostvars[name].get("firesteel_manager_port", port)) for name in managers]


def toml(config):
    """Sections of keys as TOML. A setting that is None is left out."""
    lines = []
    for section in sorted(config):
        keys = {key: value for key, value in (config[section] or {}).items() if value is not None}
        if keys:
            lines += [f"[{toml_key(section)}]", *(f"{toml_key(key)} = {toml_value(key, keys[key])}" for key in sorted(keys)), ""]
    return "\n".join(lines)


def toml_key(key):
    if not BARE_KEY.match(str(key)):
        raise AnsibleFilterError(f"firesteel_config: {key!r} is no name of a section or a key")
    return str(key)


def toml_value(key, value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(key, one) for one in value) + "]"
    if isinstance(value, str):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    raise AnsibleFilterError(f"firesteel_config: {key} is neither text, number, true or false, nor a list of those")


def worker_ids(workers, hostvars):
    """The names by which the manager knows these hosts' workers."""
    return [str(hostvars[name].get("firesteel_worker_id") or name) for name in workers]


def cluster_faults(nodes, workers):
    """What is wrong with the nodes of `firesteel nodes --json`, given the names of the workers that must be there."""
    alive = {node["worker"]: node for node in nodes.get("nodes", []) if node["state"] == "alive"}
    faults = [f"{name} is not registered, or not alive" for name in workers if name not in alive]
    for name, node in alive.items():
        if name in workers and not node["executors"]:
            faults.append(f"{name} has no executor")
        faults += [f"executor {one['index']} of {name} is down" for one in node["executors"] if name in workers and not one["up"]]
    return faults


def manager_faults(told, count):
    """What is wrong with the managers of `firesteel managers --json`, of which there must be so many. It names all, as each was told where the others are."""
    managers = told.get("managers", [])
    faults = [] if told.get("leader") else ["none of the managers leads"]
    if len(managers) < count:
        faults.append(f"{len(managers)} of {count} managers are known")
    for one in managers:
        if not one["reachable"]:
            faults.append(f"{one['manager']} cannot be reached")
        elif one["role"] not in MANAGER_ROLES:
            faults.append(f"{one['manager']} is {one['role']}")
    return faults


class FilterModule:
    """The filters by name."""

    def filters(self):
        return {
            "artefact": artefact,
            "address": address,
            "with_port": with_port,
            "manager_addresses": manager_addresses,
            "toml": toml,
            "worker_ids": worker_ids,
            "cluster_faults": cluster_faults,
            "manager_faults": manager_faults,
        }
