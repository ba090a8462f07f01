/* SPDX-License-Identifier: Apache-2.0 */
/* logs and wait: calls that last as long as a sandbox does. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "ctl.h"
#include "msg.h"

/* ---- logs ---- */

static struct {
	bool follow;
} logs_flags;

static const struct opt logs_opts[] = {
	{.name = "follow",
	 .letter = 'f',
	 .kind = OPT_FLAG,
	 .help = "go on until the sandbox has exited (no deadline, unless --timeout is given)",
	 .flag = &logs_flags.follow},
	{.name = NULL},
};

static void on_chunk(void *arg, const ProtobufCMessage *msg)
{
	const Fsb__V1__SandboxLogsChunk *chunk = (const Fsb__V1__SandboxLogsChunk *)msg;

	if (io_write_full(STDOUT_FILENO, chunk->data.data, chunk->data.len))
		_exit(CTL_FAILED); /* nobody reads any more */
}

/* Interrupting a follower is how it is meant to end. */
static void on_interrupt(int signo)
{
	_exit(0);
}

static int logs(struct ctl *ctl, int npos, char **pos, struct err *err)
{
	Fsb__V1__SandboxLogsRequest request = FSB__V1__SANDBOX_LOGS_REQUEST__INIT;
	uint64_t deadline_ns = logs_flags.follow && !ctl->timeout_set ? 0 : ctl->timeout_ns;
	int status = G_OK;
	int rc = ctl_one_namespace(ctl, err);

	if (!rc)
		rc = ctl_connect(ctl, err);
	if (rc)
		return rc;
	if (logs_flags.follow)
		(void)signal(SIGINT, on_interrupt);
	request.name = pos[0];
	request.namespace_ = ctl->ns;
	request.follow = logs_flags.follow;
	rc = gclient_stream_wait(ctl->channel, FSB_V1 "Logs", &request.base,
				 &fsb__v1__sandbox_logs_chunk__descriptor, deadline_ns, on_chunk,
				 NULL, &status, err);
	return rc ? -EIO : 0;
}

const struct ctl_command ctl_cmd_logs = {
	.name = "logs",
	.args = "NAME",
	.summary = "print what a sandbox has written",
	.opts = logs_opts,
	.min_pos = 1,
	.max_pos = 1,
	.verbatim_from = -1,
	.run = logs,
};

/* ---- wait ---- */

static struct {
	const char *phase, *output;
	bool exit_code;
} wait_flags;

static const struct opt wait_opts[] = {
	{.name = "phase",
	 .kind = OPT_STRING,
	 .arg = "PHASE",
	 .help = "until it is in this phase; default: until it has exited",
	 .string = &wait_flags.phase},
	{.name = "exit-code",
	 .kind = OPT_FLAG,
	 .help = "exit as the sandbox did (128+N for signal N)",
	 .flag = &wait_flags.exit_code},
	CTL_OUTPUT_OPT("text|json", "text", &wait_flags.output),
	{.name = NULL},
};

static bool has_exited(const Fsb__V1__Sandbox *s)
{
	return !strcmp(s->phase, "Succeeded") || !strcmp(s->phase, "Failed");
}

static void print_state(const Fsb__V1__Sandbox *s)
{
	if (!strcmp(wait_flags.output, "json")) {
		msg_print_json(msg_json_sandbox(s));
		return;
	}
	printf("Sandbox %s %s", s->name, s->phase);
	if (has_exited(s) && s->signal)
		printf(" (signal %d%s)", s->signal, s->oom_killed ? ", out of memory" : "");
	else if (has_exited(s))
		printf(" (exit code %d)", s->exit_code);
	printf("%s%s\n", s->message[0] ? ": " : "", s->message);
}

static int exit_status(const Fsb__V1__Sandbox *s)
{
	if (!has_exited(s))
		return CTL_FAILED;
	if (s->signal)
		return 128 + s->signal;
	return s->exit_code < 0 ? CTL_FAILED : s->exit_code & 0xff;
}

static int wait_for(struct ctl *ctl, int npos, char **pos, struct err *err)
{
	cleanup_pb struct pb_arena *arena = NULL;
	Fsb__V1__WaitSandboxRequest request = FSB__V1__WAIT_SANDBOX_REQUEST__INIT;
	const Fsb__V1__Sandbox *reply;
	ProtobufCMessage *msg = NULL;
	int rc = ctl_check_output(wait_flags.output, "text json", err);

	if (!rc)
		rc = ctl_one_namespace(ctl, err);
	if (rc)
		return rc;
	request.name = pos[0];
	request.namespace_ = ctl->ns;
	request.phase = mem_strdup(&ctl->mem, wait_flags.phase ? wait_flags.phase : "");
	request.timeout_ms = (int64_t)(ctl->timeout_ns / NS_PER_MS);
	/* The server ends the wait; the call's own deadline is only there for a server that doesn't
	 * answer. */
	ctl->timeout_ns += ctl->timeout_ns ? 2 * NS_PER_S : 0;
	rc = ctl_call(ctl, FSB_V1 "Wait", &request.base, &fsb__v1__sandbox__descriptor, &arena,
		      &msg, err);
	if (rc)
		return rc;
	reply = (const Fsb__V1__Sandbox *)msg;
	print_state(reply);
	return wait_flags.exit_code ? exit_status(reply) : 0;
}

const struct ctl_command ctl_cmd_wait = {
	.name = "wait",
	.args = "NAME",
	.summary = "wait until a sandbox has exited or reached a phase",
	.opts = wait_opts,
	.min_pos = 1,
	.max_pos = 1,
	.verbatim_from = -1,
	.run = wait_for,
};
