#!/usr/bin/python
"""Puts certificate, key and authority of a Firesteel process into its folder."""

from __future__ import annotations

DOCUMENTATION = r"""
module: identity
short_description: Put a certificate with its key into its folder
version_added: 0.1.0
author: The Firesteel founders (@firesteel)
description:
  - Writes ca.pem, node.pem and node.key, each in one step, into a folder that its owner alone can enter. The key has mode 0600.
options:
  folder: {description: The folder., type: path, required: true}
  owner: {description: The user that the process runs as., type: str, required: true}
  authority: {description: What ca.pem is to hold., type: str, required: true}
  certificate: {description: What node.pem is to hold., type: str, required: true}
  key: {description: What node.key is to hold., type: str, required: true}
"""

EXAMPLES = r"""
- name: Put the worker's certificate where it looks
  firesteel.cluster.identity:
    folder: /etc/firesteel/certs/worker
    owner: root
    authority: "{{ lookup('ansible.builtin.file', 'certs/hosts/node7/worker/ca.pem') }}"
    certificate: "{{ lookup('ansible.builtin.file', 'certs/hosts/node7/worker/node.pem') }}"
    key: "{{ lookup('ansible.builtin.file', 'certs/hosts/node7/worker/node.key') }}"
  no_log: true
"""

RETURN = r"""
authority_changed:
  description: Whether another authority was there before. What runs learns of it when it is started again.
  returned: always
  type: bool
"""

import os
import pwd
import tempfile

from ansible.module_utils.basic import AnsibleModule


def owner_of(module):
    try:
        return pwd.getpwnam(module.params["owner"])
    except KeyError:
        module.fail_json(msg=f"there is no user {module.params['owner']} on this host")


def differs(path, content, mode, owner):
    """What of a file or, without content, of a folder is not as it should be."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return True
    if (there.st_mode & 0o7777, there.st_uid, there.st_gid) != (mode, owner.pw_uid, owner.pw_gid):
        return True
    if content is None:
        return False
    with open(path, "rb") as file:
        return file.read() != content


def write(path, content, mode, owner):
    """A file beside, with owner and mode before it has a byte, which then takes the name."""
    handle, beside = tempfile.mkstemp(dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            os.fchown(file.fileno(), owner.pw_uid, owner.pw_gid)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def make_folder(folder, owner):
    os.makedirs(os.path.dirname(folder), mode=0o755, exist_ok=True)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.chmod(folder, 0o700)
    os.chown(folder, owner.pw_uid, owner.pw_gid)


def main():
    texts = {"ca.pem": ("authority", 0o644), "node.pem": ("certificate", 0o644), "node.key": ("key", 0o600)}
    arguments = {name: {"type": "str", "required": True, "no_log": name == "key"} for name in ("owner", "authority", "certificate", "key")}
    module = AnsibleModule(argument_spec={"folder": {"type": "path", "required": True}, **arguments}, supports_check_mode=True)
    folder, owner = module.params["folder"].rstrip("/"), owner_of(module)
    wrong = []
    for name, (text, mode) in texts.items():
        content = (module.params[text].strip() + "\n").encode()
        if differs(os.path.join(folder, name), content, mode, owner):
            wrong.append((name, content, mode))
    folder_wrong = differs(folder, None, 0o700, owner)
    replaced = any(name == "ca.pem" for name, _, _ in wrong) and os.path.exists(os.path.join(folder, "ca.pem"))
    if not module.check_mode:
        if folder_wrong:
            make_folder(folder, owner)
        for name, content, mode in wrong:
            write(os.path.join(folder, name), content, mode, owner)
    module.exit_json(changed=bool(wrong) or folder_wrong, authority_changed=replaced)


if __name__ == "__main__":
    main()
