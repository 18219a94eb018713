#!/usr/bin/python
"""Issues a certificate of a Firesteel cluster where it is missing, nearly over or for other names."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate
short_description: Issue a certificate with C(firesteel certs)
version_added: 0.1.0
author: The Firesteel founders (@firesteel)
description:
  - Makes a folder with ca.pem, node.pem and node.key, as C(firesteel certs issue) does, on the host that has the authority's key.
  - What is there stays when it has the same role and names, is of the same authority and holds for long enough.
options:
  binary: {description: The firesteel command., type: path, required: true}
  authority: {description: The folder of the authority., type: path, required: true}
  folder: {description: The folder of the certificate., type: path, required: true}
  role: {description: Whom it is for., type: str, required: true, choices: [manager, worker, client]}
  names: {description: Names and addresses of the host or of a client the one name of the user., type: list, elements: str, required: true}
  days: {description: How long a new one holds., type: int, default: 365}
  renew_days: {description: One that holds for fewer days than this is issued anew., type: int, default: 60}
"""

EXAMPLES = r"""
- name: Issue a worker's certificate
  firesteel.cluster.certificate:
    binary: ./firesteel
    authority: ./certs/ca
    folder: ./certs/hosts/node7/worker
    role: worker
    names: [node7, 10.0.0.7]
"""

RETURN = r"""
reason:
  description: Why it was issued anew; empty when it was not.
  returned: always
  type: str
"""

import json
import os
import shutil
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule

DAY = 24 * 60 * 60


def shown(module, folder):
    """Authority and certificate in that folder, as `certs show` tells them; None where it cannot."""
    code, out, _ = module.run_command([module.params["binary"], "certs", "show", "--json", folder])
    if code != 0:
        return None
    certificates = json.loads(out)
    own = [one for one in certificates if not one["is_authority"]]
    return own[0] if len(own) == 1 else None


def read(path):
    with open(path, "rb") as file:
        return file.read()


def reason_to_issue(module):
    """Why a new certificate is needed, or nothing."""
    wanted, folder = module.params, module.params["folder"]
    files = [os.path.join(folder, name) for name in ("ca.pem", "node.pem", "node.key")]
    if not all(os.path.isfile(file) for file in files):
        return "there was none"
    if read(files[0]) != read(os.path.join(wanted["authority"], "ca.pem")):
        return "the authority is another one"
    there = shown(module, folder)
    if there is None:
        return "the one that was there cannot be read"
    if there["role"] != wanted["role"]:
        return f"it was for the role {there['role']}"
    names = [there["user"]] if wanted["role"] == "client" else there["hosts"]
    if sorted(names) != sorted(wanted["names"]):
        return "it was for other names"
    if there["ends_unix"] - time.time() < wanted["renew_days"] * DAY:
        return f"it would have ended within {wanted['renew_days']} days"
    return ""


def issue(module):
    """Issues into a folder beside, which then takes the place of the old one."""
    wanted, folder = module.params, module.params["folder"].rstrip("/")
    os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
    beside = tempfile.mkdtemp(prefix=".issued-", dir=os.path.dirname(folder))
    new = os.path.join(beside, "new")
    try:
        command = [wanted["binary"], "certs", "issue", wanted["role"], *wanted["names"]]
        command += ["--ca", wanted["authority"], "--out", new, "--days", str(wanted["days"])]
        code, _, told = module.run_command(command)
        if code != 0:
            module.fail_json(msg=f"{' '.join(command)}: {told.strip()}")
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(new, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def main():
    module = AnsibleModule(
        argument_spec={
            "binary": {"type": "path", "required": True},
            "authority": {"type": "path", "required": True},
            "folder": {"type": "path", "required": True},
            "role": {"type": "str", "required": True, "choices": ["manager", "worker", "client"]},
            "names": {"type": "list", "elements": "str", "required": True},
            "days": {"type": "int", "default": 365},
            "renew_days": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    if module.params["renew_days"] >= module.params["days"]:
        module.fail_json(msg="firesteel_certs_renew_days must be less than firesteel_certs_days, or each run issues anew")
    reason = reason_to_issue(module)
    if reason and not module.check_mode:
        issue(module)
    module.exit_json(changed=bool(reason), reason=reason)


if __name__ == "__main__":
    main()
