# A Linux guest for the tests: Debian's kernel for clouds, and busybox as all of its userland. Sourced by test.sh.
#
# The kernel's package is unpacked, not installed. The guest is made once for each environment, in its folder "linux".
# shellcheck shell=bash

# What a PCI virtio network card takes, in the order in which they depend on each other; some kernels have them built in.
readonly GUEST_MODULES=(
  virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net
)

# Drivers of cards and disks that are modules in Debian's ordinary kernel.
readonly DRIVER_MODULES=(
  e1000 e1000e igb 8139cp 8139too ne2k-pci pcnet32 vmxnet3 e100 virtio_net virtio_pci
  ata_piix ata_generic ahci sd_mod nvme sdhci-pci mmc_block virtio_blk virtio_scsi usb-storage uas xhci-pci
  9p 9pnet_virtio virtiofs isofs sr_mod
)

# The package that the one named after no version depends on.
kernel_package() {
  apt-cache depends "$1" 2>/dev/null | awk '/Depends: linux-image-/ && !seen++ { print $2 }'
}

# unpack_kernel NAME FOLDER PATTERN...: of the kernel's package, what matches.
unpack_kernel() {
  local name=$1 work=$2 package
  shift 2
  package=$(kernel_package "$name")
  if [ -z "$package" ] && is_root; then
    apt-get -qq update
    package=$(kernel_package "$name")
  fi
  [ -n "$package" ] || die "apt knows no $name, which the tests boot: apt-get update may be needed"
  # Apt's own user, whom it would fetch as, cannot write there.
  (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$package")
  dpkg-deb --fsys-tarfile "$work"/linux-image-*.deb | tar -x -C "$work" --wildcards './boot/vmlinuz-*' "$@"
}

# build_linux_guest FOLDER: puts "vmlinuz" and "initrd" there, and the same of a kernel with modules in "modules".
build_linux_guest() {
  build_cloud_guest "$1"
  build_module_guest "$1/modules"
}

build_cloud_guest() (
  guest=$1
  [ ! -e "$guest/initrd" ] || exit 0
  say "making a Linux guest of Debian's kernel and busybox"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  unpack_kernel linux-image-cloud-amd64 "$work" '*/kernel/net/core/*' '*/kernel/drivers/net/*' '*/kernel/drivers/virtio/*'
  guest_userland "$work/root" "$work"
  pack_guest "$work" "$guest"
)

# Its modules are loaded for what the machine turns out to have. It is made anew for another list of them.
build_module_guest() (
  guest=$1
  [ "$(cat "$guest/drivers" 2>/dev/null)" != "${DRIVER_MODULES[*]}" ] || exit 0
  say "making a Linux guest of Debian's kernel with modules"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  unpack_kernel linux-image-amd64 "$work" './lib/modules/*'
  mkdir "$work/none" # no module by name
  guest_userland "$work/root" "$work/none"
  guest_drivers "$work/root" "$work"
  pack_guest "$work" "$guest"
  printf '%s' "${DRIVER_MODULES[*]}" >"$guest/drivers"
)

# pack_guest WORK FOLDER
pack_guest() {
  mkdir -p "$2"
  install -m 644 "$1"/boot/vmlinuz-* "$2/vmlinuz"
  (cd "$1/root" && find . | /bin/busybox cpio -o -H newc | gzip -1) >"$1/initrd"
  install -m 644 "$1/initrd" "$2/initrd"
}

# Those drivers with all that they need, and the tables by which busybox finds them.
guest_drivers() {
  local root=$1 from=$2 version module file
  version=$(basename "$from"/lib/modules/*)
  find "$from/lib/modules" -name '*.ko.xz' -exec /bin/busybox unxz {} +
  /bin/busybox depmod -b "$from" "$version"
  (
    cd "$from/lib/modules/$version"
    for module in "${DRIVER_MODULES[@]}"; do
      file=$(find . -name "$module.ko" | head -n 1)
      [ -z "$file" ] || grep -E "^(\./)?${file#./}:" modules.dep | tr -d ':'
    done
  ) | tr ' ' '\n' | sort -u | (cd "$from" && sed "s,^,lib/modules/$version/," | grep '\.ko$' | tar -c -T - | tar -x -C "$root")
  /bin/busybox depmod -b "$root" "$version"
  # Each driver may bring devices of its own to light: a controller's disks, a disk behind a hub.
  cat >"$root/etc/coldplug.sh" <<'END'
#!/bin/busybox sh
find /sys/devices -name uevent -exec grep -h ^MODALIAS= {} + | cut -d= -f2- | sort -u | xargs modprobe -a -q
END
  chmod 755 "$root/etc/coldplug.sh"
  sed -i 's,^ip link set lo up$,for round in 1 2 3; do /etc/coldplug.sh; done\n&,' "$root/init"
}

guest_userland() {
  local root=$1 from=$2 module file
  mkdir -p "$root"/{bin,dev,etc,modules,proc,sys,tmp}
  cp /bin/busybox "$root/bin/"
  for module in "${GUEST_MODULES[@]}"; do
    file=$(find "$from" -name "$module.ko*" -print -quit)
    case $file in
      *.xz) /usr/bin/python3 -c 'import lzma, sys; sys.stdout.buffer.write(lzma.open(sys.argv[1]).read())' "$file" ;;
      ?*) cat "$file" ;;
      *) continue ;;
    esac >"$root/modules/$module.ko"
  done
  {
    printf '#!/bin/busybox sh\n/bin/busybox --install -s /bin\n'
    printf 'mount -t proc proc /proc\nmount -t sysfs sysfs /sys\nmount -t devtmpfs dev /dev\n'
    for module in "${GUEST_MODULES[@]}"; do
      [ ! -s "$root/modules/$module.ko" ] || printf 'insmod /modules/%s.ko\n' "$module"
    done
    printf "ip link set lo up\nexport PS1='guest# '\nexec setsid cttyhack sh\n"
  } >"$root/init"
  cat >"$root/etc/udhcpc.sh" <<'END'
#!/bin/busybox sh
case $1 in
  bound | renew)
    ip addr replace "$ip/$mask" dev "$interface"
    ip route replace default via "$router"
    printf 'nameserver %s\n' $dns >/etc/resolv.conf
    ;;
esac
END
  chmod 755 "$root/init" "$root/etc/udhcpc.sh"
}
