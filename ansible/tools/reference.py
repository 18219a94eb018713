#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes docs/ansible-reference.md of what the roles' argument_specs say; --check tells whether it is current, and changes nothing.

Also refuses what would make the page untrue: a default that is not in the specification, or another one than the specification says; a common variable that
has other defaults in another role.
"""

import pathlib
import sys

import yaml

ANSIBLE = pathlib.Path(__file__).resolve().parent.parent
PAGE = ANSIBLE.parent / "docs" / "ansible-reference.md"
COMMON = "Variables of several roles"
HEAD = """# Variables of the Ansible collection

<!-- Made from the roles' argument_specs; ansible/tools/reference.py writes it. -->

Set them in the inventory, for all hosts, a group or one host. Keys of Firesteel's own configuration are in [configuration.md](configuration.md); any of them
can be given in `firesteel_config`. How a cluster is deployed is told in [deploy.md](deploy.md).
"""


def load(path):
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def roles():
    """Each role's name, specification and defaults."""
    for folder in sorted((ANSIBLE / "roles").iterdir()):
        if folder.is_dir():
            specs = load(folder / "meta" / "argument_specs.yml").get("argument_specs", {})
            yield folder.name, joined(specs), load(folder / "defaults" / "main.yml")


def joined(specs):
    """The options of all entry points of a role, under what is said of its main one."""
    if not specs:
        return None
    first = specs.get("main") or next(iter(specs.values()))
    return {**first, "options": {key: option for spec in specs.values() for key, option in spec.get("options", {}).items()}}


def faults_of_role(name, spec, defaults):
    if spec is None:
        yield f"roles/{name}: there is no meta/argument_specs.yml with an entry point"
        return
    options = spec.get("options", {})
    for key in sorted(set(defaults) - set(options)):
        yield f"roles/{name}: {key} has a default and is not in argument_specs"
    for key, option in sorted(options.items()):
        if "description" not in option or "type" not in option:
            yield f"roles/{name}: {key} lacks its description or its type"
        if key in defaults and option.get("default") != defaults[key]:
            yield f"roles/{name}: {key} is {defaults[key]!r} in defaults and {option.get('default')!r} in argument_specs"
        if "default" in option and key not in defaults:
            yield f"roles/{name}: {key} has a default in argument_specs and none in defaults"


def faults_between(found):
    """A variable of several roles is one to who sets it, so it has one type and one default. A role may leave the default to others."""
    first = {}
    for name, spec, _defaults in found:
        for key, option in (spec or {}).get("options", {}).items():
            for aspect in {"type", "default"} & set(option):
                where, before = first.setdefault((key, aspect), (name, option[aspect]))
                if option[aspect] != before:
                    yield f"the {aspect} of {key} is {before!r} in roles/{where} and {option[aspect]!r} in roles/{name}"


def text(value):
    """A description, of one or several paragraphs, as one line of a table."""
    paragraphs = [value] if isinstance(value, str) else value
    return " ".join(" ".join(part.split()) for part in paragraphs).replace("|", "\\|")


def marked(value):
    """Ansible's C(..), M(..) as Markdown's code."""
    for mark in ("C(", "M("):
        while mark in value:
            before, _, rest = value.partition(mark)
            inside, _, after = rest.partition(")")
            value = f"{before}`{inside}`{after}"
    return value


def default(option):
    if option.get("required"):
        return "must be set"
    if "default" not in option:
        return "(not set)"
    shown = yaml.safe_dump(option["default"], default_flow_style=True, width=10_000, sort_keys=False).strip()
    return f"`{shown.removesuffix('...').strip()}`".replace("|", "\\|")


def kind(option):
    shown = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
    return shown + (f": {', '.join(map(str, option['choices']))}" if "choices" in option else "")


def rows(options, prefix=""):
    for key, option in sorted(options.items()):
        yield f"| `{prefix}{key}` | {kind(option)} | {default(option)} | {marked(text(option['description']))} |"
        inner = option.get("options", {})
        yield from rows(inner, f"{prefix}{key}{'[]' if option['type'] == 'list' else ''}.")


def table(options):
    return "\n".join(["| variable | type | default | what it does |", "| --- | --- | --- | --- |", *rows(options)])


def is_own(name, key, counts, names):
    """Whether a variable is told with this role: the one whose name it carries, or the only one that has it."""
    named = [role for role in names if key.startswith(f"firesteel_{role}_")]
    return name in named if named else counts[key] == 1


def section(name, spec, own):
    paragraphs = spec.get("description", [])
    told = [marked(text(part)) for part in ([paragraphs] if isinstance(paragraphs, str) else paragraphs)]
    others = ", ".join(f"`{key}`" for key in sorted(set(spec["options"]) - set(own)))
    parts = [f"## {name}", f"{spec['short_description']}.", *told, f"It also uses {others}." if others else "", table(own) if own else ""]
    return "\n\n".join(part for part in parts if part)


def page(found):
    names = [name for name, _spec, _defaults in found]
    counts, told, shared, sections = {}, set(), {}, []
    for _name, spec, _defaults in found:
        for key in spec["options"]:
            counts[key] = counts.get(key, 0) + 1
    for name, spec, _defaults in found:
        own = {key: option for key, option in spec["options"].items() if is_own(name, key, counts, names)}
        told.update(own)
        sections.append(section(name, spec, own))
    for _name, spec, _defaults in found:
        shared.update({key: option for key, option in spec["options"].items() if key not in told and key not in shared})
    common = [f"## {COMMON}\n\n{table(shared)}"] if shared else []
    return "\n\n".join([HEAD.rstrip("\n"), *common, *sections]) + "\n"


def main(arguments):
    if arguments not in ([], ["--check"]):
        sys.exit(f"usage: {sys.argv[0]} [--check]")
    found = list(roles())
    faults = [fault for role in found for fault in faults_of_role(*role)] + list(faults_between(found))
    if faults:
        sys.exit("\n".join(faults))
    made = page(found)
    if not arguments:
        PAGE.write_text(made)
    elif not PAGE.exists() or PAGE.read_text() != made:
        sys.exit(f"{PAGE.name} is not current: run ansible/tools/reference.py")


main(sys.argv[1:])
