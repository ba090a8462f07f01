#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# usage: mklayout.sh DIR TAG LAYER.tar...   An OCI layout by hand, so that tests can put anything into a layer. $NESTED=1 puts the
# manifest below an index by platform.
set -euo pipefail
dir=$1 tag=$2
shift 2
mkdir -p "$dir/blobs/sha256"
echo '{"imageLayoutVersion":"1.0.0"}' >"$dir/oci-layout"

# Stores a file as a blob; prints its descriptor.
blob() {
	local file=$1 type=$2 hex
	hex=$(sha256sum "$file" | cut -d' ' -f1)
	cp "$file" "$dir/blobs/sha256/$hex"
	echo "\"mediaType\":\"$type\",\"digest\":\"sha256:$hex\",\"size\":$(stat -c %s "$file")"
}

layers=
for tar in "$@"; do
	layers+="${layers:+,}{$(blob "$tar" application/vnd.oci.image.layer.v1.tar)}"
done
tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT
echo '{"os":"linux","architecture":"amd64","config":{"Cmd":["sh"]}}' >"$tmp"
config="{$(blob "$tmp" application/vnd.oci.image.config.v1+json)}"
echo "{\"schemaVersion\":2,\"config\":$config,\"layers\":[$layers]}" >"$tmp"
top=$(blob "$tmp" application/vnd.oci.image.manifest.v1+json)
if [ "${NESTED:-}" ]; then
	other='{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:00","size":1,"platform":{"os":"linux","architecture":"arm64"}}'
	echo "{\"schemaVersion\":2,\"manifests\":[$other,{$top,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}" >"$tmp"
	top=$(blob "$tmp" application/vnd.oci.image.index.v1+json)
fi
echo "{\"schemaVersion\":2,\"manifests\":[{$top,\"annotations\":{\"org.opencontainers.image.ref.name\":\"$tag\"}}]}" >"$dir/index.json"
