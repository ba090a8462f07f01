#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every program and script answers --help on stdout with exit status 0, and an unknown option with a sentence and exit status 2.
set -uo pipefail

failures=0

check() { # check PROGRAM ARGS...
	local out status
	out=$("$@" --help 2>/dev/null)
	status=$?
	if ((status != 0)) || [[ -z $out ]]; then
		echo "FAIL: '$* --help': status $status, $(wc -c <<<"$out") bytes"
		failures=$((failures + 1))
	fi
	out=$("$@" --no-such-option 2>&1 >/dev/null)
	status=$?
	if ((status != 2)) || [[ $out != *no-such-option* ]]; then
		echo "FAIL: '$* --no-such-option': status $status, says '$out'"
		failures=$((failures + 1))
	fi
}

for program in "$FSB_BIN_DIR"/fsb-*; do
	[[ -x $program && -f $program ]] && check "$program"
done
commands=$("$FSB_BIN_DIR/fsb-ctl" --help | sed -n '/^Commands/,/^$/s/^  \([a-z]*\).*/\1/p')
for command in $commands; do
	check "$FSB_BIN_DIR/fsb-ctl" "$command"
done
[[ $(wc -w <<<"$commands") -ge 14 ]] || {
	echo "FAIL: fsb-ctl --help lists only: $commands"
	failures=$((failures + 1))
}
for script in deps fsb quickstart test; do
	[[ -x $FSB_SOURCE_DIR/tools/$script ]] && check "$FSB_SOURCE_DIR/tools/$script"
done
((failures == 0)) && echo "ok: $(wc -w <<<"$commands") commands"
exit $((failures != 0))
