# SPDX-License-Identifier: Apache-2.0
"""Runs the module of the same name, and bounds how far the host's clock is from the controller's."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """The host read its clock twice between two readings of the controller's, so its lead lies between the two differences."""

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        before = time.time()
        result.update(self._execute_module(module_name="firesteel.cluster.host_survey", task_vars=task_vars))
        after = time.time()
        clock = result.get("survey", {}).pop("clock_seconds", None)
        if clock:
            result["survey"]["clock_lead_seconds"] = {
                "least": round(clock["ended"] - after, 3),
                "most": round(clock["started"] - before, 3),
            }
        return result
