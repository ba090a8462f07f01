#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fsb-ctl without a server: usage errors, exit statuses, and that nothing but data reaches stdout.
set -uo pipefail

ctl=$FSB_BIN_DIR/fsb-ctl
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
export HOME=$dir
unset ENDPOINT NAMESPACE
failures=0

# expect STATUS TEXT ARGS...: the text is looked for on stderr; stdout must stay empty.
expect() {
	local want=$1 text=$2 out status
	shift 2
	out=$("$ctl" "$@" 2>stderr)
	status=$?
	if ((status != want)) || [[ $(<stderr) != *"$text"* || -n $out ]]; then
		echo "FAIL: fsb-ctl $*: status $status (want $want), stdout '$out', stderr '$(<stderr)' (want '$text')"
		failures=$((failures + 1))
	fi
}

dead=(--endpoint "unix:$dir/no.sock" --timeout 3)
expect 2 "a command is missing"
expect 2 "unknown command 'frobnicate'" frobnicate
expect 2 "usage: fsb-ctl run" run
expect 2 "no image" run web
expect 2 "no image" run web sh -c "true"
expect 2 "invalid port 0" run web --image busybox --ports 0
expect 2 "invalid port 65536" run web --image busybox --ports 65536
expect 2 "must be fast or strong" run web --image busybox --mode quick
expect 2 "one namespace" run web --image busybox -n ""
expect 2 "nothing to update" update web
expect 2 "--expire-time 'soon'" update web --expire-time soon
expect 2 "must be manual or autorecreate" update web --failure-policy maybe
expect 2 "must be KEY=VALUE" update web --labels oops
expect 2 "unknown output format 'xml'" list -o xml
expect 2 "one word too many" get a b
expect 2 "either names or --all" delete
expect 2 "either names or --all" delete a --all
expect 2 "must be all or partial" batch --image busybox --mode most
expect 2 "image load DIR" image load
expect 2 "usage: fsb-ctl arena" arena look
expect 2 "usage: fsb-ctl arena" arena check header
expect 2 "usage: fsb-ctl arena" arena
expect 3 "no arena file" arena check --arena "$dir/none"
expect 3 "no arena file" arena dump --instance no-such-instance
expect 3 "not an arena" arena check --arena "$dir"
expect 1 "nowhere.json" --config nowhere.json list
expect 1 "cannot find the OCI layout" image load ./nothing
printf 'image: busybox\nbogus: 1\n' >spec.yaml
expect 2 "spec.yaml:2: unknown key 'bogus'" run web -f spec.yaml
expect 2 "cannot read 'none.yaml'" run web -f none.yaml
printf '{"index":7}\n' >members.jsonl
expect 2 "--members has index 7, but --count is 3" batch --image busybox --count 3 --members members.jsonl

# A file that is no arena: a finding for check, unreadable for dump.
truncate -s 1M zeros
"$ctl" arena check --arena zeros >out && echo "FAIL: zeros are clean"
[[ $? == 0 || $(<out) != *"broken  HEADER_MAGIC  header"* ]] && {
	echo "FAIL: arena check of zeros says '$(<out)'"
	failures=$((failures + 1))
}
"$ctl" arena dump --arena zeros >out 2>stderr
[[ $? == 3 && $(<out) == *BAD_MAGIC* && $(<stderr) == *"not an arena"* ]] || {
	echo "FAIL: arena dump of zeros says '$(<out)' '$(<stderr)'"
	failures=$((failures + 1))
}

# No server: a status, a sentence, exit 1, and in time. The common options work on both sides of the command.
expect 1 "UNAVAILABLE" "${dead[@]}" list
expect 1 "UNAVAILABLE" list -o json "${dead[@]}"
expect 1 "UNAVAILABLE" run web "${dead[@]}" --image busybox sh -c "echo --image"
expect 1 "UNAVAILABLE" batch "${dead[@]}" --image busybox --count 2 sh -c true
expect 1 "UNAVAILABLE" logs web "${dead[@]}"
expect 1 "Endpoint: unix:$dir/no.sock" -v "${dead[@]}" get web
mkdir .fsb
echo '{"endpoint":"unix:/nonexistent/a.sock","namespace":"team"}' >.fsb/config.json
expect 1 "Endpoint: unix:/nonexistent/a.sock, namespace: team" --timeout 3 -v get web
NAMESPACE=other expect 1 "namespace: other" --timeout 3 -v get web

((failures == 0)) && echo ok
exit $((failures != 0))
