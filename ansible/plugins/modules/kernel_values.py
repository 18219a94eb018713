#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Sets values of the kernel that are files, and reads them back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_values
short_description: Set values of the running kernel and read them back
description:
  - Writes to files of /proc/sys, /sys and /proc/irq what differs from what is wanted, and reads it back.
  - What a host cannot (a file that is not there, one that may not be written in a container, a number of huge pages for which there is no memory) is
    told in C(refused), and the module does not fail for it.
  - Nothing is kept over a restart of the host; that is for files of sysctl.d and tmpfiles.d.
options:
  values:
    description: The files and what must be in them.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: The file, or a pattern for several.
        type: str
        required: true
      value:
        description: What must be in it. White space is compared as one space; of a file that shows a choice as C(always [madvise] never) the chosen word counts.
        type: str
        required: true
attributes:
  check_mode:
    support: full
    description: Nothing is written; told is what would be.
author: Firesteel (@firesteel)
"""

EXAMPLES = r"""
- name: Huge pages where they are asked for
  firesteel.cluster.kernel_values:
    values:
      - {path: /sys/kernel/mm/transparent_hugepage/enabled, value: madvise}
"""

RETURN = r"""
set:
  description: Lines of what was changed.
  type: list
  elements: str
  returned: always
refused:
  description: Lines of what could not be had, with the reason.
  type: list
  elements: str
  returned: always
"""

import glob
import os
import re

from ansible.module_utils.basic import AnsibleModule

ROOTS = ("/proc/sys/", "/proc/irq/", "/sys/")


def read(path):
    with open(path, encoding="utf-8") as file:
        text = " ".join(file.read().split())
    chosen = re.search(r"\[([^\]]+)\]", text)
    return chosen.group(1) if chosen else text


def write(path, value):
    with open(path, "w", encoding="utf-8") as file:
        file.write(value)


def settle(path, wanted, trial):
    """Gives what was in the file, what is there now, and why it is not what is wanted."""
    try:
        before = read(path)
        if before == wanted or trial:
            return before, wanted, ""
    except (OSError, UnicodeDecodeError) as fault:
        return None, None, f"cannot be read: {fault}"
    try:
        write(path, wanted)
        reason = ""
    except OSError as fault:
        reason = fault.strerror
    after = read(path)
    return before, after, reason or (f"the kernel made it {after}" if after != wanted else "")


def settle_all(values, trial):
    done, refused = [], []
    for value in values:
        wanted = " ".join(value["value"].split())
        paths = sorted(glob.glob(value["path"]))
        if not paths:
            refused.append(f"{value['path']}: {wanted} is wanted; it is not there")
        for path in paths:
            before, after, reason = settle(path, wanted, trial)
            if before != after:
                done.append(f"{path}: {before} -> {after}")
            if reason:
                refused.append(f"{path}: {wanted} is wanted; {reason}")
    return done, refused


def main():
    options = {"path": {"type": "str", "required": True}, "value": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={"values": {"type": "list", "elements": "dict", "required": True, "options": options}},
        supports_check_mode=True,
    )
    for value in module.params["values"]:
        if not os.path.normpath(value["path"]).startswith(ROOTS):
            module.fail_json(msg=f"{value['path']} is no value of the kernel: it must lie in one of {', '.join(ROOTS)}")
    done, refused = settle_all(module.params["values"], module.check_mode)
    module.exit_json(changed=bool(done), set=done, refused=refused)


if __name__ == "__main__":
    main()
