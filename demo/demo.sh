#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The main job on two image files: a first clone, a change, a synchronisation, a verification.
# Everything is made in a temporary folder and is gone at the end.
set -eu
cd "$(dirname "$0")/.."
bsync=$PWD/.venv/bin/bsync
folder=$(mktemp --directory)

clean_up() {
    if mountpoint --quiet "$folder/mnt"; then umount "$folder/mnt"; fi
    rm -f "$folder"/*.img
    rmdir "$folder/mnt" "$folder"
}
trap clean_up EXIT
mkdir "$folder/mnt"
cd "$folder"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { say "\$ bsync $*"; "$bsync" "$@"; }

say 'A disk with a DOS table: a system, swap, and a home on a logical partition'
truncate --size 400M source.img
sfdisk --quiet source.img << EOF
label: dos
start=2048, size=200M, type=83, bootable
type=5
size=32M, type=82
size=100M, type=83
EOF
offset() { sfdisk --json source.img |
    python3 -c "import json, sys
for part in json.load(sys.stdin)['partitiontable']['partitions']:
    if part['node'] == 'source.img$1':
        print(part['start'] * 512)"; }
mke2fs -q -F -t ext4 -L system -d /usr/share/doc -E offset="$(offset 1)" source.img 200M
mke2fs -q -F -t ext3 -L home -E offset="$(offset 6)" source.img 100M
truncate --size 32M swap.img
mkswap --quiet --label swap swap.img
dd if=swap.img of=source.img bs=1M seek="$(offset 5)" oflag=seek_bytes conv=notrunc status=none
run inspect source.img

say 'First clone: onto a larger image that does not exist yet'
run source.img clone.img --create 600M

say 'A change on the source: one file more, one less, one other'
mount -o loop,offset="$(offset 1)" source.img mnt
echo 'new' > mnt/new
rm -r mnt/bash*
echo 'changed' >> "$(find mnt -type f -name copyright | sort | head -n 1)"
umount mnt

say 'Synchronisation: only what changed'
run source.img clone.img

say 'And the proof: every file, every attribute'
run verify source.img clone.img
