# SPDX-License-Identifier: Apache-2.0
"""Filters of the role tuning."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.firesteel.cluster.plugins.plugin_utils import tuning


def checked(make):
    """A fault in what was asked for, told as one of Ansible."""

    def call(*arguments):
        try:
            return make(*arguments)
        except (KeyError, TypeError, ValueError) as fault:
            raise AnsibleFilterError(f"these settings of tuning cannot be read: {fault}") from fault

    return call


class FilterModule:
    def filters(self):
        return {
            "sysctl_values": checked(tuning.sysctl_values),
            "huge_page_values": checked(tuning.huge_page_values),
            "file_values": checked(tuning.file_values),
        }
