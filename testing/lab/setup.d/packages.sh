# shellcheck shell=bash
# The Debian packages that the lab needs on the machine itself.

packages=(mmdebstrap debian-archive-keyring systemd-container openssh-client nftables iproute2 procps util-linux iputils-ping busybox-static
    cpio kmod e2fsprogs rsync xz-utils gzip python3 python3-venv shellcheck qemu-system-x86)

is_installed() {
    [[ "$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$1" 2>/dev/null)" == ii* ]]
}

missing_packages() {
    local package
    for package in "${packages[@]}"; do
        is_installed "$package" || echo "$package"
    done
}

# The mirror that this machine uses itself, whichever form its sources have.
mirror() {
    local found
    found=$(cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null |
        sed -nE 's/^URIs: *([^ ]*\/debian\/?)$/\1/p; s/^deb (\[[^]]*\] )?(http[^ ]*\/debian\/?) .*/\2/p' | head -1 || true)
    [[ -n $found ]] || die "no Debian mirror is named in /etc/apt/sources.list or /etc/apt/sources.list.d/debian.sources: add one"
    echo "$found"
}

# apt with lists of our own, so that what the lab needs beside this machine's own release changes nothing there. On Debian 12
# QEMU and the kernel come from backports: the release's QEMU is older than what other packages there may have brought.
write_sources() {
    local from suite
    mkdir -p "$lab_cache/apt/lists/partial"
    from="deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror)"
    for suite in "$@"; do
        echo "$from $suite main"
    done >"$lab_cache/apt/sources.list"
}

lab_apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dir::Etc::sourcelist="$lab_cache/apt/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::Lists="$lab_cache/apt/lists" -o DPkg::Lock::Timeout=600 -o Acquire::Languages=none -o APT::Sandbox::User=root "$@"
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages)
    ((${#missing[@]})) || return 0
    say "installing ${missing[*]}"
    write_sources "$release" "$release-backports"
    try_times 4 lab_apt update
    local from=()
    [[ $release != bookworm ]] || from=(-t bookworm-backports)
    local package plain=()
    for package in "${missing[@]}"; do
        [[ $package == qemu-system-x86 ]] || plain+=("$package")
    done
    ((${#plain[@]} == 0)) || try_times 4 lab_apt install -y --no-install-recommends "${plain[@]}" >/dev/null
    is_installed qemu-system-x86 || try_times 4 lab_apt install -y --no-install-recommends "${from[@]}" qemu-system-x86 >/dev/null
}
