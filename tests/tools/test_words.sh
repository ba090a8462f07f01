#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every word that fsb-ctl prints, and every request that it sends, against a server with fixed answers.
# shellcheck disable=SC2317 # cleanup is called by the trap
set -uo pipefail

/usr/bin/python3 -c "import grpc, google.protobuf" 2>/dev/null || {
	echo "skip: no Python gRPC (tools/deps test)"
	exit 77
}
ctl=$FSB_BIN_DIR/fsb-ctl
dir=$(mktemp -d)
failures=0
server=

cleanup() {
	[[ -n $server ]] && kill "$server" 2>/dev/null && wait "$server" 2>/dev/null
	rm -rf "$dir"
}
trap cleanup EXIT
cd "$dir" || exit 1
export HOME=$dir ENDPOINT=unix:$dir/s
unset NAMESPACE
mkdir gen layout
protoc -I "$FSB_SOURCE_DIR/fastpath/proto" -I "$FSB_SOURCE_DIR/base/proto" --python_out=gen \
	fastpath.proto fsb.proto health.proto spec.proto || exit 1
/usr/bin/python3 "$FSB_SOURCE_DIR/tests/tools/fake_server.py" "$dir/gen" "$dir/s" 2>server.log &
server=$!
for ((i = 0; i < 200; i++)); do
	[[ -S s ]] && break
	sleep 0.05
done

# is STATUS OUTPUT ARGS...: exit status and all of stdout; OUTPUT is a pattern of bash.
is() {
	local want=$1 pattern=$2 out status
	shift 2
	out=$("$ctl" "$@" 2>stderr)
	status=$?
	# shellcheck disable=SC2053 # a pattern on purpose
	if ((status != want)) || [[ $out != $pattern ]]; then
		printf "FAIL: fsb-ctl %s: status %d (want %d), stdout:\n%s\nwant:\n%s\nstderr: %s\n" "$*" "$status" "$want" "$out" "$pattern" "$(<stderr)"
		failures=$((failures + 1))
	fi
}

# sent TEXT: of the last request.
sent() {
	local last
	last=$(tail -n 1 s.requests)
	[[ $last == *"$1"* ]] && return
	echo "FAIL: last request was '$last', want '$1'"
	failures=$((failures + 1))
}

id=0123456789abcdef0123456789abcdef

is 0 "🎉 Sandbox created successfully in *
Name:      web
ID:        $id
Agent:     agent-0
Endpoints: \[10.0.0.1:80 10.0.0.1:443\]" run web --image busybox --ports 80,443 sh -c "echo --image"
sent '"command": ["sh", "-c", "echo --image"], "exposedPorts": [80, 443], "image": "busybox", "name": "web"'
sent '"poolRef": "default-pool"'
is 0 "*Endpoints: \[\]" run web --image busybox --mode strong -n team -e A=b,c -l x=y --resource cpu=500m --request-id r1
sent '"consistencyMode": "STRONG", "envs": {"A": "b,c"}'
sent '"labels": {"x": "y"}, "name": "web", "namespace": "team"'
sent '"requestId": "r1", "resources": {"cpu": "500m"}'
is 0 "*Name:      net*" run net --image busybox --network shared
sent 'fsb.v1.SandboxService/CreateSandbox {"name": "net"'
sent '"network": "shared"'
is 0 '{
  "sandbox_id": "'$id'",
  "agent_pod": "agent-0",
  "sandbox_name": "web",
  "endpoints": \[\],
  "took_us": *
}' run web --image busybox -o json
is 1 "" run taken --image busybox
[[ $(<stderr) == "Error: ALREADY_EXISTS: sandbox 'taken' exists" ]] || is 0 "the message of run taken" run taken

is 0 "NAME           ID                                PHASE    IMAGE    AGENT    AGE
web            $id  Running  busybox  agent-0  *h*m*s
a-longer-name  $id  Running  busybox  agent-0  *h*m*s" list
sent 'ListSandboxes {"namespace": "default"}'
is 0 "NAMESPACE  NAME *" ls -n ""
sent 'ListSandboxes {}'
is 0 '\[
  {
    "sandbox_id": "'$id'",
    "phase": "Running",*' list -o json
is 0 "NAME  ID *" list --pool p --phase Running --labels a=b
sent 'List {"labels": {"a": "b"}, "namespace": "default", "phase": "Running", "pool": "p"}'

is 0 "sandboxid: \"$id\"
phase: Running
agentpod: agent-0
endpoints:
- \"10.0.0.1:80\"
- \"10.0.0.1:443\"
createdat: 1700000000
image: busybox
poolref: default-pool
sandboxname: web
namespace: default
expiretimeseconds: 0
exitcode: 0
message: \"\"
generation: 1
Age: *h*m*s" get web
is 0 '{
  "sandbox_id": "'$id'",
  "phase": "Running",
  "agent_pod": "agent-0",
  "endpoints": \[
    "10.0.0.1:80",
    "10.0.0.1:443"
  \],
  "created_at": 1700000000,
  "image": "busybox",
  "pool_ref": "default-pool",
  "sandbox_name": "web",
  "namespace": "default",
  "generation": 1
}' get -o json web
is 1 "" get nobody

is 0 "Sandbox web deletion triggered" delete web
sent 'DeleteSandbox {"namespace": "default", "sandboxName": "web"}'
is 0 "Sandbox web deleted" rm web --wait --grace 3
sent 'Delete {"graceSeconds": 3, "name": "web", "namespace": "default", "wait": true}'
is 0 "Sandbox web deletion triggered" delete --all -n ""

is 0 "✓ Sandbox web updated successfully
  Phase: Running
  Agent: agent-0" update web --expire-time 0 --labels a=b,c=d
sent 'UpdateSandbox {"expireTimeSeconds": "0", "labels": {"a": "b", "c": "d"}, "namespace": "default", "sandboxName": "web"}'
before=$(wc -l <s.requests)
is 0 "✓ Sandbox web updated successfully*" update web --expire-time 2000000000 --failure-policy AutoRecreate --recovery-timeout 5
sent '"recoveryTimeoutSeconds": 5'
(($(wc -l <s.requests) == before + 3)) || is 0 "three requests" update web
is 0 "✓ Sandbox web reset triggered
  Revision: 20*Z" reset web
is 1 "" restart old
[[ $(<stderr) == "Error: failed to update sandbox: no" ]] || is 0 "the message of restart old" restart old

is 0 "Sandbox web Succeeded (exit code 0)" wait web
is 0 "Sandbox bad Failed (exit code 3)" wait bad
is 3 "Sandbox bad Failed (exit code 3)" wait bad --exit-code
is 137 "Sandbox killed Failed (signal 9, out of memory)" wait killed --exit-code
is 0 '*"phase": "Succeeded",*' wait web -o json --phase Running
sent '"phase": "Running"'

is 0 "🎉 Batch created successfully in *
Name:      b
Started:   2 of 2
Reserved:  in 1.5ms
Members:   b-0 ... b-1" batch --count 2 --name b --image busybox sh -c true
is 1 "Batch: 2 of 3 members started*" batch --count 3 --name b --mode partial --image busybox
[[ $(<stderr) == "member 1: RESOURCE_EXHAUSTED: no free slot" ]] || is 0 "the message of the lost member" list
is 1 '{
  "name": "b",
  "requested": 3,
  "started": 2,
  "failed": 1,*"status": "RESOURCE_EXHAUSTED",*' batch -c 3 --name b --mode partial --image busybox -o json

"$ctl" logs web >log
printf 'line one\n\0\377 two\n' | cmp - log || failures=$((failures + 1))
is 0 "SERVING" health
is 1 "NOT_SERVING" health --service down
is 0 "NAME     POOL          STATE  SLOTS  RESERVED  IMAGES  HEARTBEAT  ADDRESS
agent-0  default-pool  Ready  3/32   17        1                  unix:/a.sock" agents
is 0 "NAMESPACE  NAME          READY  SLOTS  UNMET
default    default-pool  1/2    3/64   0" pools
is 0 "Image docker.io/library/busybox:latest loaded (sha256:00, 9 bytes, 2 agents)" image load layout --name busybox
sent '"layoutPath": "'"$(pwd -P)/layout"'", "name": "busybox"'
is 0 "IMAGE                             AGENTS
docker.io/library/busybox:latest  2" image list
is 0 "Sandboxes:   3
Unwritten:   1
Store lag:   1.5ms
Store:       loaded
*reserve  5      800ns  1000ns  2000ns  2500ns  3000ns*conflicts  2*NO_CAPACITY      4*default    default-pool  4" stats
is 0 '*"store_lag_ns": 1500000,*' stats -o json
is 0 '*"NO_CAPACITY": 4*' stats -o json
is 0 '*"unmet_demand": 4*' stats -o json

((failures == 0)) && echo ok
exit $((failures != 0))
