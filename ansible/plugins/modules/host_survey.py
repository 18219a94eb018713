#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Looks at a host without changing anything."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_survey
short_description: Look at a host without changing anything
description:
  - Tells what a host is (kernel, processor, memory, io_uring, clock) and how it stands with the folders, block devices, ports and names that are
    asked for. Reads only.
options:
  folders:
    description: Folders, there or not yet, of which the room is told.
    type: list
    elements: path
    default: []
  devices:
    description: Block devices of which the size, the content and the users are told.
    type: list
    elements: path
    default: []
  ports:
    description: TCP ports of which the listening process is told.
    type: list
    elements: int
    default: []
  names:
    description: Host names or addresses that are resolved.
    type: list
    elements: str
    default: []
  address:
    description: The address under which others reach the host; told is whether it is one of the host's.
    type: str
    default: ""
  fallback_address:
    description: The address where none is given and the host has no default route.
    type: str
    default: ""
  label:
    description: Anything; handed back as it is, for whoever judges the survey.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Nothing is ever changed.
author: Firesteel (@firesteel)
"""

EXAMPLES = r"""
- name: Look at the host
  firesteel.cluster.host_survey:
    folders: [/var/lib/firesteel]
    ports: [7400]
  register: survey
"""

RETURN = r"""
survey:
  description: What was found.
  type: dict
  returned: always
label:
  description: What was given as label.
  type: dict
  returned: always
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.firesteel.cluster.plugins.module_utils import machine, surroundings


def survey(asked):
    started = time.time()
    found = machine.machine()
    address = asked["address"] or surroundings.default_address() or asked["fallback_address"]
    resolved = surroundings.resolve(sorted(set(asked["names"]) | ({address} if address else set())))
    found.update(
        address=address,
        address_is_own=any(surroundings.is_own(own) for own in resolved.get(address, [])),
        names=resolved,
        folders=[surroundings.folder(path) for path in asked["folders"]],
        devices=[surroundings.device(path) for path in asked["devices"]],
        listeners=surroundings.listeners(asked["ports"]),
    )
    found["clock_seconds"] = {"started": started, "ended": time.time()}
    return found


def main():
    module = AnsibleModule(
        argument_spec={
            "folders": {"type": "list", "elements": "path", "default": []},
            "devices": {"type": "list", "elements": "path", "default": []},
            "ports": {"type": "list", "elements": "int", "default": []},
            "names": {"type": "list", "elements": "str", "default": []},
            "address": {"type": "str", "default": ""},
            "fallback_address": {"type": "str", "default": ""},
            "label": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, survey=survey(module.params), label=module.params["label"])


if __name__ == "__main__":
    main()
