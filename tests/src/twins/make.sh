#!/usr/bin/env bash
# Makes a twin of a vendor's image out of the bootstrapped Debian: the vendor's partitions
# and file systems around Debian's userland. Root, in a mount namespace of its own: what it
# mounts goes with it. All that differs between twins comes in variables.
# shellcheck disable=SC2086,SC2153
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
base=$1 out=$2 work=$3

# Where the bootstrapped base has its file systems, in sectors.
readonly base_esp=10240 base_root=227328

bytes() { echo $((($2 - $1 + 1) * 512)); }
place() { # FILE FIRST_SECTOR
  dd if="$1" of="$work/disk.raw" bs=1M oflag=seek_bytes seek=$(($2 * 512)) conv=sparse,notrunc status=none
}
uuid() { blkid -p -o value -s UUID "$1"; }

qemu-img convert -O raw "$base" "$work/base.raw"
mkdir "$work/base" "$work/root"
mount -o ro,loop,offset=$((base_root * 512)) "$work/base.raw" "$work/base"

truncate -s "$(bytes "$ROOT_FIRST" "$ROOT_LAST")" "$work/root.img"
# Unquoted on purpose: a command with its arguments.
$ROOT_MKFS "$work/root.img" >/dev/null
mount -o loop "$work/root.img" "$work/root"
if [ -n "$BOOT_MKFS" ]; then
  truncate -s "$(bytes "$BOOT_FIRST" "$BOOT_LAST")" "$work/boot.img"
  $BOOT_MKFS "$work/boot.img" >/dev/null
  mkdir "$work/root/boot"
  mount -o loop "$work/boot.img" "$work/root/boot"
fi
cp -a "$work/base/." "$work/root/"
cp -a "$work/overlay/." "$work/root/"

root_uuid=$(uuid "$work/root.img")
kernel=$(basename "$(echo "$work"/root/lib/modules/*)")
arguments="root=UUID=$root_uuid ro console=tty1 console=ttyS0 $ARGUMENTS"
boot_uuid=$root_uuid in_boot=/boot
if [ -n "$BOOT_MKFS" ]; then
  boot_uuid=$(uuid "$work/boot.img") in_boot=
fi
rm -rf "$work/root/boot/grub" "$work/root/etc/fstab"
mkdir -p "$work/root/boot/$GRUB"
cat >"$work/root/boot/$GRUB/grub.cfg" <<END
set timeout=0
serial --speed=115200
terminal_input console serial
terminal_output console serial
menuentry '$PRETTY_NAME' {
	insmod gzio
	search --no-floppy --fs-uuid --set=root $boot_uuid
	linux	$in_boot/vmlinuz-$kernel $arguments
	initrd	$in_boot/initrd.img-$kernel
}
END
if [ "$GRUB" = grub2 ]; then
  # Debian's GRUB does not read them; the vendor's does.
  mkdir -p "$work/root/boot/loader/entries" "$work/root/etc/kernel"
  cat >"$work/root/boot/loader/entries/0123456789abcdef0123456789abcdef-$kernel.conf" <<END
title $PRETTY_NAME
version $kernel
linux $in_boot/vmlinuz-$kernel
initrd $in_boot/initrd.img-$kernel
options $arguments
END
  echo "$arguments" >"$work/root/etc/kernel/cmdline"
fi
{
  echo "UUID=$root_uuid / $(blkid -p -o value -s TYPE "$work/root.img") defaults 0 1"
  [ -z "$BOOT_MKFS" ] || echo "UUID=$boot_uuid /boot $(blkid -p -o value -s TYPE "$work/boot.img") defaults 0 2"
  echo "UUID=4E4B-494C /boot/efi vfat umask=0077,nofail 0 0"
} >"$work/root/etc/fstab"

if [ -n "$RPM" ]; then
  rm -rf "$work/root/var/lib/dpkg"
  top="$work/rpm"
  mkdir -p "$top/db" "$work/root/var/lib/rpm"
  {
    printf 'Name: filesystem\nVersion: 3\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n%%description\n%%files\n'
    while read -r name version release; do
      printf '%%package -n %s\nVersion: %s\nRelease: %s\nSummary: x\n%%description -n %s\n%%files -n %s\n' \
        "$name" "$version" "$release" "$name" "$name"
    done <<<"$PACKAGES"
  } >"$top/twin.spec"
  rpmbuild -bb --quiet --define "_topdir $top" "$top/twin.spec" >/dev/null 2>&1
  rpm --dbpath="$top/db" -i --justdb --nodeps --ignorearch "$top"/RPMS/noarch/*.rpm 2>/dev/null
  case $RPM in
    sqlite) cp "$top/db/rpmdb.sqlite" "$work/root/var/lib/rpm/" ;;
    berkeley)
      {
        printf 'VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize=4096\nHEADER=END\n'
        sqlite3 -separator $'\n ' "$top/db/rpmdb.sqlite" \
          "SELECT printf(' %02x000000', hnum), lower(hex(blob)) FROM Packages ORDER BY hnum"
        echo DATA=END
      } | db5.3_load "$work/root/var/lib/rpm/Packages"
      ;;
  esac
fi
umount -R "$work/root"

truncate -s "$(bytes "$ESP_FIRST" "$ESP_LAST")" "$work/esp.img"
mkfs.vfat -i 4e4b494c -n "$ESP_LABEL" "$work/esp.img" >/dev/null
mcopy -i "$work/base.raw@@$((base_esp * 512))" -s ::EFI "$work/"
for stub in "$work"/EFI/*/grub.cfg; do
  # shellcheck disable=SC2016 # GRUB's variables
  printf 'search.fs_uuid %s root\nset prefix=($root)%s\nconfigfile $prefix/grub.cfg\n' \
    "$boot_uuid" "'$in_boot/$GRUB'" >"$stub"
done
mcopy -i "$work/esp.img" -s "$work/EFI" ::

truncate -s "$DISK_SIZE" "$work/disk.raw"
# Unquoted on purpose: arguments.
sgdisk --disk-guid="$DISK_GUID" $TABLE "$work/disk.raw" >/dev/null
place "$work/root.img" "$ROOT_FIRST"
place "$work/esp.img" "$ESP_FIRST"
[ -z "$BOOT_MKFS" ] || place "$work/boot.img" "$BOOT_FIRST"

# GRUB for BIOS: its first sector in that of the disk, the rest in the BIOS boot partition.
grub-mkimage -O i386-pc -o "$work/core.img" -p "(hd0,gpt$GRUB_PARTITION)$in_boot/$GRUB" \
  biosdisk part_gpt ext2 xfs gzio normal configfile linux search search_fs_uuid echo test serial terminal
python3 - "$work" "$BIOS_FIRST" "$BIOS_LAST" <<'END'
import struct, sys
work, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
boot = bytearray(open("/usr/lib/grub/i386-pc/boot.img", "rb").read())
core = bytearray(open(work + "/core.img", "rb").read())
core += bytes(-len(core) % 512)
assert len(core) // 512 <= last - first + 1, "no room for GRUB"
# Where the first sector of the core is (grub-core/boot/i386/pc/boot.S), and in that the
# list of the others (diskboot.S).
struct.pack_into("<Q", boot, 0x5C, first)
struct.pack_into("<QHH", core, 0x1F4, first + 1, len(core) // 512 - 1, 0x820)
with open(work + "/disk.raw", "r+b") as disk:
    disk.write(boot[:440])
    disk.seek(first * 512)
    disk.write(core)
END
qemu-img convert -c -W -O qcow2 -o compression_type=zstd "$work/disk.raw" "$out"
