# SPDX-License-Identifier: Apache-2.0
"""Judges what preflight has seen of all hosts."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.firesteel.cluster.plugins.plugin_utils.findings import Finding
from ansible_collections.firesteel.cluster.plugins.plugin_utils.judge_cluster import judge_cluster
from ansible_collections.firesteel.cluster.plugins.plugin_utils.judge_host import judge_host

DOCUMENTATION = r"""
name: preflight_findings
short_description: What of hosts is not as Firesteel needs it
description: Takes the results of M(firesteel.cluster.host_survey) by host, and tells what is wrong with each and with all of them together.
options:
  _input:
    description: Result of the survey by host; of a host that could not be looked at, what Ansible said.
    type: dict
    required: true
  groups:
    description: The groups of the inventory.
    type: dict
    required: true
  settings:
    description: Limits for all hosts together, with the keys C(manager_counts), C(clock_skew_most_seconds) and C(accept).
    type: dict
    required: true
author: Firesteel (@firesteel)
"""

EXAMPLES = r"""
findings: "{{ surveys | firesteel.cluster.preflight_findings(groups, settings) }}"
"""

RETURN = r"""
_value:
  description: The lines of errors and of warnings, as C(errors) and C(warnings).
  type: dict
"""


def preflight_findings(results, groups, settings):
    try:
        findings = list(all_findings(results, groups, settings))
    except (KeyError, TypeError, ValueError) as fault:
        raise AnsibleFilterError(f"preflight cannot judge these settings: {fault!r}") from fault
    accepted = set(settings["accept"])
    told = {True: [], False: []}
    for finding in sorted(set(findings)):
        told[finding.error and finding.check not in accepted].append(finding.line())
    return {"errors": told[True], "warnings": told[False]}


def all_findings(results, groups, settings):
    seen = {host: result["survey"] for host, result in results.items() if "survey" in result}
    for host, result in results.items():
        if host in seen:
            yield from judge_host(host, seen[host], result["label"])
        else:
            yield Finding(host, "reach", f"it could not be looked at: {first_line(result)}", "see that ssh, python3 and sudo work there")
    yield from judge_cluster(seen, groups, settings)


def first_line(result):
    text = str(result.get("msg") or "no answer").strip()
    return text.splitlines()[0]


class FilterModule:
    def filters(self):
        return {"preflight_findings": preflight_findings}
