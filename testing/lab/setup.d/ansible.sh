# shellcheck shell=bash
# The Ansible environment: a Python environment of what requirements.txt pins.

# make_ansible FOLDER LAST: an environment of Python knows its folder's name, so it is made for the one where it comes to lie.
make_ansible() {
    local into=$1 last=$2
    /usr/bin/python3 -m venv "$into"
    try_times 4 "$into/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    grep -rlI --null "$into" "$into/bin" "$into/pyvenv.cfg" | xargs -0 --no-run-if-empty sed -i "s|$into|$last|g"
}
