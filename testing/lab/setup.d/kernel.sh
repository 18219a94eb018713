# shellcheck shell=bash
# The guest's kernel: Debian's, unpacked and not installed.

# make_kernel FOLDER
make_kernel() {
    local into=$1 package
    write_sources bookworm bookworm-backports
    try_times 4 lab_apt update
    package=$(newest_kernel)
    [[ -n $package ]] || die "bookworm-backports has no package linux-image-6.*-amd64: look at the lists in $lab_cache/apt"
    mkdir -p "$into/download"
    # The signed package and its unsigned twin hold the same kernel; a mirror may have only one of them at a time.
    (cd "$into/download" && { try_times 3 lab_apt download "$package" || try_times 3 lab_apt download "$package-unsigned"; })
    dpkg-deb --extract "$into"/download/*.deb "$into"
    rm -rf "$into/download"
}

newest_kernel() {
    apt-cache -o Dir::Etc::sourcelist="$lab_cache/apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::Lists="$lab_cache/apt/lists" \
        depends -t bookworm-backports linux-image-amd64 2>/dev/null | grep -o 'linux-image-6[^ ]*' | head -1 || true
}
