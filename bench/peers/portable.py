"""Records that may be kept and shown: without the paths of the machine that made them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from records import Json

# An absolute path that no name is known for; what follows a letter, a digit, a dot or a slash is part of something else,
# such as a relative path or the address of a page.
OTHER_PATH = re.compile(r"(?<![\w.~/-])/(?:[\w.@+%=-]+/)+(?=[\w.@+%=*-])")


class Portable:
    """Rewrites the texts of a record."""

    def __init__(self, names: Mapping[Path, str]) -> None:
        """`names` says what known folders are to be called."""
        # The longest first: a folder may be within another one.
        self._names = sorted(((str(path), name) for path, name in names.items()), key=lambda pair: -len(pair[0]))

    def record(self, record: Json) -> Json:
        """The record as it is kept. What it says of the machine names no files."""
        return {key: value if key == "machine" else self._value(value) for key, value in record.items()}

    def text(self, text: str) -> str:
        """A text with names for folders, and without what leads to other files."""
        # The address of a local file has up to three slashes before the path.
        text = re.sub(r"file:/+", "file:/", text)
        for path, name in self._names:
            # Not where the text is within a longer path, or the folder only the beginning of another one's name.
            folder = r"(?<![\w.~-])" + re.escape(path) + r"(?:/|(?![\w.-]))"
            text = re.sub(folder, partial(renamed, name), text)
        return OTHER_PATH.sub("", text)

    def _value(self, value: object) -> object:
        match value:
            case str():
                return self.text(value)
            case list():
                return [self._value(one) for one in value]
            case dict():
                return {key: self._value(one) for key, one in value.items()}
            case _:
                return value


def renamed(name: str, found: re.Match[str]) -> str:
    """The name in place of what was found, which may end with a slash; no name stands for the folder that one is in."""
    has_slash = found[0].endswith("/")
    if not name:
        return "" if has_slash else "."
    return name + "/" * has_slash
