# SPDX-License-Identifier: Apache-2.0
"""Sizes as Firesteel's configuration writes them: 512MiB, 4GiB."""

from __future__ import annotations

import re

UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def parse(text):
    """The bytes of a size. A plain number is bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]iB)?", str(text).strip())
    if not found:
        raise ValueError(f"{text!r} is no size: write it as 512MiB or 4GiB")
    return int(float(found.group(1)) * UNITS[found.group(2) or ""])


def show(count):
    """A size for people: the largest unit in which it is at least 1."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if count >= UNITS[unit]:
            value = count / UNITS[unit]
            return f"{value:.0f}{unit}" if value == int(value) else f"{value:.1f}{unit}"
    return f"{count} bytes"
