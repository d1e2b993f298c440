#!/usr/bin/env bash
# Makes what the Dockerfile is built from, where no registry of images can be reached: localhost/throughline-node (Debian 12
# with the Node and npm of the npm registry, as node:24-slim has them) and localhost/throughline-runtime (the packages of
# Debian 13 that gcr.io/distroless/cc-debian13 has, unpacked only, so that there is no shell). Root, on Debian.
set -euo pipefail

for program in buildah podman runc mmdebstrap; do
  if [ "$(id -u)" -ne 0 ] || ! command -v "$program" >/dev/null; then
    echo 'Needs root, and: apt-get install --no-install-recommends buildah podman conmon runc mmdebstrap' >&2
    exit 1
  fi
done
node_version=24.21.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
has() { buildah inspect --type image "localhost/$1" >/dev/null 2>&1; }
# debian SUITE VARIANT PACKAGES: a root folder of these, as a tar file.
debian() { mmdebstrap --quiet --variant="$2" --include="$3" "$1" "$work/$1.tar"; }

if ! has throughline-node:"$node_version"; then
  debian bookworm minbase ca-certificates
  (cd "$work" && npm pack --silent "node-linux-$(dpkg --print-architecture | sed s/amd64/x64/)@$node_version" >/dev/null)
  container=$(buildah from scratch)
  root=$(buildah mount "$container")
  tar -xf "$work/bookworm.tar" -C "$root"
  tar -xzf "$work"/node-linux-*.tgz -C "$root/usr/local" --strip-components=1 package/bin package/LICENSE
  mkdir -p "$root/usr/local/lib/node_modules"
  cp -a "$(npm root --global)/npm" "$root/usr/local/lib/node_modules/"
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
  buildah commit --quiet --rm "$container" "localhost/throughline-node:$node_version" >/dev/null
fi

if ! has throughline-runtime:debian13; then
  debian trixie extract base-files,libc6,libstdc++6,libgcc-s1,netbase,tzdata
  container=$(buildah from scratch)
  root=$(buildah mount "$container")
  # Without the programs of debconf and mawk, on which these depend, and what this machine told the folder.
  tar -xf "$work/trixie.tar" -C "$root" --exclude='./dev/*' --exclude='./var/*/*' --exclude='./usr/bin/*' \
    --exclude='./usr/sbin/*' --exclude='./usr/share/doc/*' --exclude=./etc/hostname --exclude=./etc/resolv.conf
  printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' >"$root/etc/passwd"
  printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
  buildah commit --quiet --rm "$container" localhost/throughline-runtime:debian13 >/dev/null
fi
