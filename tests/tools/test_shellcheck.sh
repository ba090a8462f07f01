#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs shellcheck over every shell script.
set -uo pipefail

command -v shellcheck >/dev/null || {
	echo "skip: shellcheck is not installed"
	exit 77
}
cd "$FSB_SOURCE_DIR" || exit 1
mapfile -t scripts < <(grep -rlE '^#!/(usr/)?bin/(env )?(ba)?sh' tools tests bench .ci 2>/dev/null | sort)
shellcheck -x "${scripts[@]}" || exit 1
echo "ok: ${#scripts[@]} scripts"
