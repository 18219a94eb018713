# shellcheck shell=bash
# The root file system of the hosts and of the guest: Debian 12, small, with what the project's playbooks expect of a fresh host.

root_packages=(systemd systemd-sysv dbus openssh-server python3 python3-apt sudo acl kmod iproute2 iputils-ping procps netcat-openbsd
    nftables curl ca-certificates e2fsprogs ethtool pciutils hwloc-nox numactl strace fio iperf3 libgomp1
    rdma-core ibverbs-utils ibverbs-providers rdmacm-utils perftest)

# Work in the background that no test wants, and consoles that no host of a lab has.
quiet_units=(apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer dpkg-db-backup.timer fstrim.timer console-getty.service getty.target
    systemd-logind.service rdma-ndd.service iwpmd.service rdma-load-modules@.service rdma-hw.target iperf3.service)

# make_root FOLDER
make_root() {
    local root=$1 without
    without=(--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*')
    try_times 3 bootstrap "$root" "${without[@]}"
    settle_root "$root"
}

bootstrap() {
    local root=$1
    shift
    rm -rf "$root"
    # What it mounts in the root is gone when it ends, however it ends: nothing of this machine lies below what a later setup removes.
    unshare --mount mmdebstrap --quiet --mode=root --variant=minbase --include="$(IFS=,; echo "${root_packages[*]}")" --aptopt='Acquire::Languages "none"' "$@" \
        bookworm "$root" "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) bookworm main"
}

settle_root() {
    local root=$1 unit
    : >"$root/etc/machine-id"
    rm -rf "$root"/var/lib/dbus/machine-id "$root"/etc/hostname "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb \
        "$root"/var/lib/apt/lists/*
    for unit in "${quiet_units[@]}"; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    printf 'UseDNS no\nPermitRootLogin prohibit-password\n' >"$root/etc/ssh/sshd_config.d/lab.conf"
    # Without logind, pam_systemd costs each login seconds.
    sed -i '/pam_systemd/d' "$root/etc/pam.d/common-session"
    mkdir -p "$root/etc/systemd/journald.conf.d"
    printf '[Journal]\nStorage=persistent\nSystemMaxUse=64M\nRateLimitIntervalSec=0\n' >"$root/etc/systemd/journald.conf.d/lab.conf"
    install -m 755 "$here/files/hostinit" "$root/sbin/hostinit"
    install -d -m 700 "$root/root/.ssh"
    install -m 600 "$lab_key.pub" "$root/root/.ssh/authorized_keys"
    mkdir -p "$root/share"
}
