#!/bin/bash
# build.sh TAR: the root file system of the stand-in base, as a tar that is the same for the same recipe and packages.
# Needs root, mmdebstrap, and the kernel's arm64 emulation (or an arm64 machine).
set -euo pipefail
tar=$1
here=$(cd "$(dirname "$0")" && pwd)
# No time in the layer is later than this day, the recipe's.
export SOURCE_DATE_EPOCH=1795478400
list() { grep -v '^#' "$here/$1"; }

exclude=()
while read -r path; do exclude+=("--dpkgopt=path-exclude=$path"); done < <(list exclude.txt)
mmdebstrap --quiet --mode=root --variant=essential --architecture=arm64 --components=main --format=tar \
  --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' \
  --dpkgopt=force-unsafe-io "${exclude[@]}" --include="$(list debian.txt | paste -sd,)" --skip=output/dev,output/mknod \
  --customize-hook="$here/customize \"\$1\"" bookworm "$tar"
