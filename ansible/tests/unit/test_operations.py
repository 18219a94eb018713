# SPDX-License-Identifier: Apache-2.0
"""The pages of docs/operations show messages that the code has, and link to pages that are there: python3 ansible/tests/unit/test_operations.py

Of every line that a page shows as a message some three words in a row must be in a string of the sources, and more than three that are everywhere (`of the
key`); what stands between is names and numbers.
"""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGES = sorted((ROOT / "docs" / "operations").glob("*.md"))
CRATES = ("base", "bench", "certs", "cli", "driver", "engine", "executor", "hw", "manager", "protocol", "shuffle")
WORDS = 3
TELLING = 12  # letters
# What begins a line that is a message of Firesteel, in a fenced block.
MESSAGE = re.compile(r"^\s*(?:(?:error|detail|hint): )?(?P<text>\S.*)$")

OTHERS = re.compile(r"(firesteel|ansible-playbook|systemctl|journalctl|ls) |(cluster|h\d): ")
# The texts of the system's errors, and names, numbers, paths and fields of a log.
SYSTEMS = re.compile(r"[A-Z][a-z ]+ \(os error \d+\)")
VALUE = re.compile(r"[0-9/=]")


def words(text):
    return re.findall(r"[A-Za-z_']+", text)


def sources():
    """All string literals of the crates, as words, each between two marks so that none runs into the next."""
    found = []
    for crate in CRATES:
        for path in (ROOT / crate / "src").rglob("*.rs"):
            text = re.sub(r"\\\n\s*", "", path.read_text())
            # The name of a format's argument stands for a value.
            for literal in re.findall(r'"((?:[^"\\]|\\.)*)"', text):
                found += [" ".join(words(part)) for part in re.split(r"\{[^}]*\}", literal)]
    return "\n".join(f" {part} " for part in found)


def told(block):
    """The messages of a fenced block, without what stands for something: neither tables nor commands, nor what preflight says."""
    for line in block.splitlines():
        found = MESSAGE.match(line)
        if found and "   " not in line.strip() and not OTHERS.match(line.strip()):
            fixed = " ".join(part for part in SYSTEMS.sub("", found["text"]).split() if not VALUE.search(part))
            if len(words(fixed)) >= WORDS:
                yield fixed


class Operations(unittest.TestCase):
    maxDiff = None

    def test_messages_are_those_of_the_code(self):
        known, missing, seen = sources(), [], 0
        for page in PAGES:
            if page.name == "preflight.md":
                continue  # shows what the role says, which its own tests hold
            # Those in a language are commands and files.
            for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
                for text in told(block) if not language else []:
                    seen += 1
                    all_words = words(text)
                    runs = [" ".join(all_words[at : at + WORDS]) for at in range(len(all_words) - WORDS + 1)]
                    if not any(f" {run} " in known for run in runs if len(run) >= TELLING):
                        missing.append(f"{page.name}: {text}")
        self.assertGreater(seen, 30, "the pages show hardly any message: has their form changed?")
        self.assertEqual(missing, [])

    def test_links_lead_somewhere(self):
        for page in PAGES:
            for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
                self.assertTrue((page.parent / link).exists(), f"{page.name} links to {link}")

    def test_every_page_is_in_the_index(self):
        index = (ROOT / "docs" / "operations" / "README.md").read_text()
        for page in PAGES:
            self.assertTrue(page.name == "README.md" or f"({page.name})" in index, f"{page.name} is not in the index")


if __name__ == "__main__":
    unittest.main()
