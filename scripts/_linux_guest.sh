# A Linux guest for the tests: Debian's kernel for clouds, and busybox as all of its userland. Sourced by test.sh.
#
# The kernel's package is unpacked, not installed. The guest is made once for each environment, in its folder "linux".
# shellcheck shell=bash

# What a PCI virtio network card takes, in the order in which they depend on each other; some kernels have them built in.
readonly GUEST_MODULES=(
  virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net
)

# The package that the one named after no version depends on.
kernel_package() {
  apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image-/ && !seen++ { print $2 }'
}

# build_linux_guest FOLDER: puts "vmlinuz" and "initrd" there.
build_linux_guest() (
  guest=$1
  [ ! -e "$guest/initrd" ] || exit 0
  say "making a Linux guest of Debian's kernel and busybox"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  package=$(kernel_package)
  if [ -z "$package" ] && is_root; then
    apt-get -qq update
    package=$(kernel_package)
  fi
  [ -n "$package" ] || die "apt knows no linux-image-cloud-amd64, which the tests boot: apt-get update may be needed"
  # Apt's own user, whom it would fetch as, cannot write there.
  (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$package")
  dpkg-deb --fsys-tarfile "$work"/linux-image-*.deb | tar -x -C "$work" --wildcards './boot/vmlinuz-*' \
    '*/kernel/net/core/*' '*/kernel/drivers/net/*' '*/kernel/drivers/virtio/*'
  guest_userland "$work/root" "$work"
  mkdir -p "$guest"
  install -m 644 "$work"/boot/vmlinuz-* "$guest/vmlinuz"
  (cd "$work/root" && find . | /bin/busybox cpio -o -H newc | gzip -1) >"$work/initrd"
  install -m 644 "$work/initrd" "$guest/initrd"
)

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
