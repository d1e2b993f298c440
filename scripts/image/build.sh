#!/usr/bin/env bash
# Builds the Dockerfile with buildah, no engine needed, on the bases of bases.sh: build.sh TAG [more arguments of buildah].
# The same files give the same layers, since no time is kept. For another VERSION or REVISION say --no-cache: buildah takes
# a label from its cache whatever the argument in it. Root, on Debian.
set -euo pipefail
cd "$(dirname "$0")/../.."

tag=$1
shift
scripts/image/bases.sh
# npm's way to its registry and what it fetched before (the lock file says what each must be), lent to the build and in no layer of it.
lent=$(mktemp -d)
trap 'rm -rf "$lent"' EXIT
npm config get registry | sed 's/^/registry=/' >"$lent/npmrc"
volumes=(--volume "$lent/npmrc:/root/.npmrc:ro" --volume "$(npm config get cache):/root/.npm")
cafile=$(npm config get cafile)
if [ -f "$cafile" ]; then
  echo "cafile=$cafile" >>"$lent/npmrc"
  volumes+=(--volume "$cafile:$cafile:ro")
fi
runtime=$(command -v runc || command -v crun)
buildah build --layers --pull-never --format docker --timestamp 0 --isolation oci --runtime "$runtime" --network host \
  "${volumes[@]}" --build-arg NODE_IMAGE=localhost/throughline-node:24.21.0 \
  --build-arg RUNTIME_IMAGE=localhost/throughline-runtime:debian13 --tag "$tag" "$@" .
