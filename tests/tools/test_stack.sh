#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fsb up, status and down, and a session with fsb-ctl, against the real stack with real sandboxes.
# shellcheck disable=SC2016,SC2317 # the sandboxes expand what is in single quotes; cleanup is called by the trap
set -uo pipefail

((EUID == 0)) || {
	echo "skip: needs root"
	exit 77
}
fsb=$FSB_SOURCE_DIR/tools/fsb
instance=tools-$$
run_dir=/run/fsb/$instance
dir=$(mktemp -d)
common=(--instance "$instance" --run-dir "$run_dir" --bin-dir "$FSB_BIN_DIR")
up=("$fsb" up "${common[@]}" --workers 2 --agents 2 --capacity 8 --listen 127.0.0.1:0)
failures=0

cleanup() {
	"$fsb" down "${common[@]}" --purge >/dev/null 2>&1
	rm -rf "$dir"
}
trap cleanup EXIT
cd "$dir" || exit 1
export HOME=$dir ENDPOINT=unix:$run_dir/fastpath.sock
unset NAMESPACE

ctl() { "$FSB_BIN_DIR/fsb-ctl" "$@"; }

# expect STATUS TEXT COMMAND...: text must be in what it prints on either stream.
expect() {
	local want=$1 text=$2 out status
	shift 2
	out=$("$@" 2>&1)
	status=$?
	if ((status != want)) || [[ $out != *"$text"* ]]; then
		echo "FAIL: ${*#"$FSB_BIN_DIR/"}: status $status (want $want), printed '$out' (want '$text')"
		failures=$((failures + 1))
	fi
}

json() { # json EXPRESSION: of the document on stdin, with python's names
	/usr/bin/python3 -c "import json,sys; d = json.load(sys.stdin); print($1)"
}

equal() { # equal WHAT GOT WANT
	[[ $2 == "$3" ]] && return
	echo "FAIL: $1: '$2', want '$3'"
	failures=$((failures + 1))
}

# ---- up and status ----
expect 3 "not up" "$fsb" status "${common[@]}"
expect 0 "is up: 2 workers, 2 agents of 8 slots" "${up[@]}"
((failures == 0)) || exit 1
expect 0 "already up" "${up[@]}"
expect 1 "already up with other options" "${up[@]}" --workers 3
expect 0 "SERVING" "$fsb" status "${common[@]}"
port=$(<"$run_dir/fastpath.port")
expect 1 "port $port is in use" "$fsb" up --instance "$instance-b" --run-dir "$run_dir-b" --bin-dir "$FSB_BIN_DIR" --listen "127.0.0.1:$port"
rm -rf "$run_dir-b"

# ---- a part that does not start: its log is shown, and the others are stopped ----
mkdir bad
ln -s "$FSB_BIN_DIR"/fsb-* bad/
rm bad/fsb-crdsync
printf '#!/bin/sh\necho "broken on purpose" >&2\nexit 1\n' >bad/fsb-crdsync
chmod +x bad/fsb-crdsync
expect 1 "crdsync has ended right after its start" "$fsb" up --instance "$instance-c" --bin-dir "$dir/bad" --agents 1 --listen ""
expect 0 "is down" "$fsb" down --instance "$instance-c" --bin-dir "$FSB_BIN_DIR"
expect 1 "broken on purpose" "$fsb" up --instance "$instance-c" --bin-dir "$dir/bad" --agents 1 --listen ""
expect 0 "is down" "$fsb" down --instance "$instance-c" --bin-dir "$FSB_BIN_DIR" --purge
expect 0 "left after the stop: 0 processes, 0 mounts, 0 cgroups, 0 files" \
	"$FSB_BIN_DIR/fsb-quickstart" leaks --stopped --instance "$instance-c" --run-dir "/run/fsb/$instance-c"
expect 1 "no fsb-registryd in '$dir'" "$fsb" up --bin-dir "$dir"

# ---- images and agents ----
"$FSB_SOURCE_DIR/tools/mkimage" "$dir/image" latest
expect 0 "docker.io/library/busybox:latest" ctl image load image --name busybox
expect 0 "docker.io/library/busybox:latest" ctl image list
equal agents "$(ctl agents -o json | json '[(a["name"], a["state"], a["capacity"]) for a in d]')" \
	"[('agent-0', 'Ready', 8), ('agent-1', 'Ready', 8)]"
expect 0 "default-pool" ctl pools

# ---- one sandbox ----
expect 0 "🎉 Sandbox created successfully in " ctl run web --image busybox -e GREETING=hello -l tier=front \
	sh -c 'trap "exit 3" TERM; echo "$GREETING --image $1"; while :; do sleep 0.05; done' sh world
expect 1 "ALREADY_EXISTS" ctl run web --image busybox
expect 0 "NAME  ID " ctl list
expect 0 "Running" ctl ls --labels tier=front
equal "labels that do not match" "$(ctl ls --labels tier=back -o json)" "[]"
expect 0 "sandboxname: web" ctl get web
equal "get json" "$(ctl get web -o json | json '(d["phase"], "busybox" in d["image"], d["pool_ref"])')" \
	"('Running', True, 'default-pool')"
expect 1 "NOT_FOUND" ctl get nobody
expect 1 "NOT_FOUND" ctl delete nobody
until [[ -n $(ctl logs web) ]]; do sleep 0.02; done
equal "logs" "$(ctl logs web)" "hello --image world"
expect 1 "DEADLINE_EXCEEDED" ctl wait web --timeout 1
expect 1 "UNIMPLEMENTED" ctl update web --failure-policy auto
expect 0 "✓ Sandbox web updated successfully" ctl update web --expire-time 1h --failure-policy manual --recovery-timeout 7 --labels tier=back
equal "update: expiry, too" "$(ctl get web -o json | json 'd["expire_time_seconds"] > d["created_at"] + 3500')" True
equal "update: labels, too" "$(ctl ls --labels tier=back -o json | json 'd[0]["labels"]')" "{'tier': 'back'}"
expect 1 "reset" ctl reset web
expect 0 "Sandbox web deletion triggered" ctl delete web

# ---- exit codes ----
expect 0 "Name:      job" ctl run job --image busybox --mode strong sh -c "exit 7"
expect 7 "Sandbox job Failed (exit code 7)" ctl wait job --exit-code
expect 0 "Sandbox job deleted" ctl rm job --wait

# ---- a file, and what is wrong with requests ----
printf 'image: busybox\ncommand: [sh, -c]\nargs: ["pwd; echo $X"]\nenvs: {X: "1"}\nworking_dir: /app\nresources: {memory: 64Mi}\n' >spec.yaml
expect 0 "successfully" ctl run filed -f spec.yaml
expect 0 "Succeeded" ctl wait filed
equal "file" "$(ctl logs filed)" $'/app\n1'
expect 1 "INVALID_ARGUMENT" ctl run Bad_Name --image busybox
expect 1 "nothere" ctl run x --image nothere
expect 1 "no-such-pool" ctl run x --image busybox --pool no-such-pool

# ---- a batch ----
printf '{"args":["a"]}\n{"args":["b"]}\n{"args":["c"],"envs":{"E":"!"}}\n' >members.jsonl
ctl batch --name b --image busybox --members members.jsonl -o json sh -c 'echo "$1$E"' sh >batch.json
equal "batch" "$(json '(d["requested"], d["started"], d["failed"], sorted(m["sandbox"]["name"] for m in d["members"]))' <batch.json)" \
	"(3, 3, 0, ['b-0', 'b-1', 'b-2'])"
expect 0 "Succeeded" ctl wait b-2
equal "member's own args and envs" "$(ctl logs b-2)" "c!"
equal "follow ends by itself" "$(ctl logs -f b-1)" "b"
expect 1 "RESOURCE_EXHAUSTED" ctl batch --name big --count 17 --image busybox sleep 60
expect 1 "16 of 17 members started" ctl batch --name big --mode partial --count 17 --image busybox sleep 60
equal "statistics" "$(ctl stats -o json | json '(d["store_loaded"], len(d["workers"]))')" "(True, 2)"

# ---- the arena, looked at from outside while all of them run ----
arena=(arena --instance "$instance")
expect 0 "live, " ctl "${arena[@]}" check
equal "nothing broken" "$(ctl "${arena[@]}" check -o json | json '(d["live"], d["broken"], d["counted"]["agents"])')" "(True, 0, 2)"
equal "dumped sandboxes" "$(ctl "${arena[@]}" dump sandboxes --state RUNNING -o json | json 'len(d["sandboxes"])')" 16
equal "dumped participants" \
	"$(ctl "${arena[@]}" dump participants -o json | json 'sorted(p["kind"] for p in d["participants"] if p["state"] == "live")')" \
	"['crdsync', 'registryd', 'worker', 'worker']"
equal "dumped header" "$(ctl "${arena[@]}" dump header -o json | json '(d["header"]["verdict"], d["header"]["owned"])')" "('OK', True)"
expect 0 "agent-" ctl "${arena[@]}" dump

# ---- down ----
expect 0 "its sandboxes run on" "$fsb" down "${common[@]}" --keep-sandboxes
expect 0 "is up" "${up[@]}"
equal "still running after down and up" "$(ctl ls --phase Running -o json | json 'len(d)')" 16
expect 0 "is down" "$fsb" down "${common[@]}"
equal "arena is gone" "$([[ -e /dev/shm/fsb-$instance ]] && echo there)" ""
expect 0 "is up" "${up[@]}"
equal "deleted in the store, too" "$(ctl list -n "" -o json)" "[]"
expect 0 "is down" "$fsb" down "${common[@]}" --purge
expect 0 "left after the stop: 0 processes, 0 mounts, 0 cgroups, 0 files" \
	"$FSB_BIN_DIR/fsb-quickstart" leaks --stopped --instance "$instance" --run-dir "$run_dir"
expect 0 "is not up" "$fsb" down "${common[@]}"

((failures == 0)) && echo ok
exit $((failures != 0))
