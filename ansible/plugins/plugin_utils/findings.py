# SPDX-License-Identifier: Apache-2.0
"""What preflight finds, in a form that sorts and reads well."""

from __future__ import annotations

from dataclasses import dataclass

CLUSTER = "cluster"


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is not as it must be. `check` is the word by which it can be accepted."""

    host: str
    check: str
    found: str
    do: str
    error: bool = True

    def line(self):
        return f"{self.host}: {self.check}: {self.found}; {self.do}"
