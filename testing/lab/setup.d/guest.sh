# shellcheck shell=bash
# The guest: a disk image of the root with the kernel's modules, and a first file system in memory that finds it.

# To reach the disk and what the host shares; all else is loaded from the disk when it is needed.
first_modules=(virtio_pci virtio_blk ext4 9pnet_virtio 9p virtio_net virtio_console overlay)
# Devices that this guest can never have: half of the modules' size.
no_modules=(drivers/gpu drivers/media drivers/net/wireless sound drivers/iio drivers/usb drivers/staging drivers/scsi drivers/hwmon drivers/input
    drivers/net/ethernet drivers/isdn net/bluetooth drivers/platform drivers/mtd drivers/net/can drivers/power)
image_mib=1500

# make_guest FOLDER: from the root and the kernel that are in use.
make_guest() {
    local into=$1 kernel=$lab_cache/kernel version
    version=$(cd "$kernel/lib/modules" && echo *)
    mkdir -p "$into/root"
    cp -a "$lab_cache/root/." "$into/root"
    copy_modules "$kernel" "$version" "$into/root"
    install -m 755 "$here/files/guestinit" "$into/root/sbin/guestinit"
    make_first_memory "$version" "$into"
    cp "$kernel/boot/vmlinuz-$version" "$into/vmlinuz"
    truncate -s "${image_mib}M" "$into/root.img"
    mkfs.ext4 -q -O ^has_journal -E lazy_itable_init=1 -d "$into/root" "$into/root.img"
    rm -rf "$into/root" "$into/first"
}

copy_modules() {
    local kernel=$1 version=$2 root=$3 folder skip=()
    for folder in "${no_modules[@]}"; do
        skip+=(--exclude="$folder")
    done
    mkdir -p "$root/lib/modules"
    rsync -a "${skip[@]}" "$kernel/lib/modules/$version" "$root/lib/modules/"
    # The list of built-in modules names some that were left out: that is no fault.
    depmod -b "$root" "$version" 2>/dev/null
}

make_first_memory() {
    local version=$1 into=$2 first=$2/first name
    mkdir -p "$first"/{bin,modules,proc,sys,dev,root}
    cp /bin/busybox "$first/bin/"
    for name in sh mount insmod switch_root; do
        ln -s busybox "$first/bin/$name"
    done
    install -m 755 "$here/files/firstinit" "$first/init"
    unpack_modules "$version" "$into/root" "$first/modules"
    (cd "$first" && find . | cpio --create --format=newc --quiet | gzip -1) >"$into/initrd.gz"
}

# The file `order` holds them so that each comes after those that it needs.
unpack_modules() {
    local version=$1 root=$2 into=$3 module path name
    for module in "${first_modules[@]}"; do
        modprobe -d "$root" -S "$version" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
    done | awk '!seen[$0]++' >"$into/paths"
    while read -r path; do
        name=$(basename "$path" .xz)
        case $path in
        *.xz) xz --decompress --stdout "$path" >"$into/$name" ;;
        *) cp "$path" "$into/$name" ;;
        esac
        echo "$name" >>"$into/order"
    done <"$into/paths"
    rm "$into/paths"
}
