/* SPDX-License-Identifier: Apache-2.0 */
/* From a Start request to an exec'ed process: the parent only makes the state directory, forks, and
 * reads what the child reports. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "base/log.h"
#include "sandbox.h"

#define START_TIMEOUT_NS (30 * NS_PER_S)

static const struct {
	const char *text;
	AckCode code;
} steps[STEP_COUNT] = {
#define X(name, text, code) [STEP_##name] = {text, ACK(code)},
	CHILD_STEPS(X)
#undef X
};

/* ---- results ---- */

/* exec failed: which of its many reasons is the request's fault, in words. */
static AckCode explain_exec(const struct sandbox *sb, char *msg, size_t size)
{
	const char *command = sb->request->argv[0], *image = sb->request->image;

	switch (sb->report.error) {
	case ENOENT:
	case ENOTDIR:
		if (sb->report.not_interpreter)
			snprintf(msg, size,
				 "command \"%s\" in image \"%s\" needs an interpreter "
				 "that the image does not have",
				 command, image);
		else
			snprintf(msg, size, "command \"%s\" not found in image \"%s\"", command,
				 image);
		return ACK(BAD_SPEC);
	case EACCES:
	case EPERM:
	case EISDIR:
		snprintf(msg, size, "command \"%s\" in image \"%s\" is not executable", command,
			 image);
		return ACK(BAD_SPEC);
	case ENOEXEC:
		snprintf(msg, size,
			 "command \"%s\" in image \"%s\" is neither a program for this "
			 "machine nor a script with an interpreter line",
			 command, image);
		return ACK(BAD_SPEC);
	case E2BIG:
		snprintf(msg, size, "arguments and environment of command \"%s\" are too long",
			 command);
		return ACK(BAD_SPEC);
	default:
		snprintf(msg, size, "execute \"%s\": %s", command, strerror(sb->report.error));
		return ACK(RESOURCES);
	}
}

static AckCode explain_step(const struct sandbox *sb, char *msg, size_t size)
{
	const struct child_report *r = &sb->report;
	const StartRequest *request = sb->request;

	if (r->step == STEP_EXEC)
		return explain_exec(sb, msg, size);
	if (r->step == STEP_USER && r->error == ENOENT) {
		snprintf(msg, size, "user \"%s\" not found in image \"%s\"", request->user,
			 request->image);
		return ACK(BAD_SPEC);
	}
	if (r->step == STEP_WORKDIR) {
		snprintf(msg, size, "working directory \"%s\" in image \"%s\": %s", request->cwd,
			 request->image, strerror(r->error));
		return ACK(BAD_SPEC);
	}
	snprintf(msg, size, "start sandbox '%s': %s: %s", sb->name, steps[r->step].text,
		 strerror(r->error));
	return r->error == ENOMEM || r->error == EAGAIN || r->error == ENOSPC ||
			       r->error == EMFILE || r->error == ENFILE
		       ? ACK(RESOURCES)
		       : steps[r->step].code;
}

static AckCode explain(const struct sandbox *sb, char *msg, size_t size)
{
	if (sb->stop) {
		snprintf(msg, size, "sandbox '%s' was deleted while it was starting", sb->name);
		return ACK(FENCED);
	}
	if (sb->report.error)
		return explain_step(sb, msg, size);
	if (sb->exit.oom_killed) {
		snprintf(msg, size, "sandbox '%s': %lld bytes of memory are too few to start it",
			 sb->name, (long long)sb->request->memory_bytes);
		return ACK(RESOURCES);
	}
	snprintf(msg, size, "sandbox '%s' was killed while it was starting (signal %d)", sb->name,
		 sb->exit.signal);
	return ACK(RESOURCES);
}

void sandbox_start_failed(struct sandbox *sb)
{
	char msg[512];
	AckCode code;

	if (sb->start_serial != conn_serial(sb->l)) {
		sandbox_notify(sb, FSB__LAUNCHER__V1__NOTICE_KIND__REMOVED);
		return;
	}
	code = explain(sb, msg, sizeof(msg));
	conn_reply(sb->l, sb->start_serial, sb->start_seq, code, msg);
}

static void reply_started(struct sandbox *sb, uint64_t exec_ns)
{
	Notice notice = FSB__LAUNCHER__V1__NOTICE__INIT;
	Fsb__Agent__V1__SandboxReport report;
	Fsb__V1__SandboxMeta meta;
	uint64_t step_ns[STEP_COUNT + 1];

	sandbox_describe(sb, &report, &meta);
	/* An agent that came meanwhile was told that it is starting. */
	if (sb->start_serial != conn_serial(sb->l))
		notice.kind = FSB__LAUNCHER__V1__NOTICE_KIND__REPORT;
	step_ns[0] = sb->start_ns;
	memcpy(step_ns + 1, sb->report.step_ns, STEP_EXEC * sizeof(*step_ns));
	step_ns[STEP_COUNT] = exec_ns;
	notice.seq = sb->start_seq;
	notice.report = &report;
	notice.step_ns = step_ns;
	notice.n_step_ns = STEP_COUNT + 1;
	conn_send(sb->l, &notice);
}

/* ---- the pipe ---- */

static void start_finished(struct sandbox *sb)
{
	struct launcher *l = sb->l;
	uint64_t now = clock_mono_ns();
	int rc = 0;

	l->starting_count--;
	sandbox_set_deadline(sb, 0);
	watch_close(l, &sb->pipe);
	sb->failed = !sb->report.ready || sb->report.error || sb->stop;
	if (!sb->failed) {
		sb->started_unix_ns = clock_unix_ns();
		(void)FAILPOINT("launcher.before_run_record");
		rc = state_write_run(sb);
	}
	if (rc) {
		sb->failed = true;
		sb->report.step = STEP_LIMITS;
		sb->report.error = -rc;
	}
	sb->state = SB_RUNNING;
	if (sb->failed) {
		sandbox_kill(sb);
		if (sb->ended)
			sandbox_drain(sb);
		return; /* else its end is awaited */
	}
	(void)FAILPOINT("launcher.before_start_reply");
	reply_started(sb, now);
	sb->arena = pb_free(sb->arena);
	sb->request = NULL;
	if (sb->ended)
		sandbox_drain(sb);
}

static void on_pipe(struct launcher *l, struct watch *w, uint32_t events)
{
	struct sandbox *sb = container_of(w, struct sandbox, pipe);
	struct child_report report;
	ssize_t n = read(w->fd, &report, sizeof(report));

	if (n == (ssize_t)sizeof(report) && report.step < STEP_COUNT) {
		sb->report = report;
		return; /* until exec or the child's end closes the pipe */
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	start_finished(sb);
}

/* ---- fork ---- */

static int fork_child(struct sandbox *sb, int *ret_pidfd, int *ret_pipe)
{
	struct launcher *l = sb->l;
	struct clone_args args = {
		.flags = CLONE_NEWPID | CLONE_PIDFD,
		.pidfd = (uintptr_t)ret_pidfd,
		.exit_signal = SIGCHLD,
	};
	cleanup_close int netns = sb->request->shared_network ? -1 : netns_take(l);
	cleanup_close int out = -1;
	int pipe_fds[2];
	long pid;

	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	out = pipe_fds[1];
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0) {
		int rc = -errno;

		close(pipe_fds[0]);
		return rc;
	}
	if (!pid) {
		struct child c = {
			.l = l, .request = sb->request, .pipe_fd = out, .netns_fd = netns};

		child_run(&c);
	}
	sb->pid = (pid_t)pid;
	*ret_pipe = pipe_fds[0];
	return 0;
}

static int start_child(struct sandbox *sb)
{
	struct launcher *l = sb->l;
	int pidfd, pipe_fd, rc;

	rc = state_create(l, sb->request);
	if (rc)
		return rc;
	rc = fork_child(sb, &pidfd, &pipe_fd);
	if (rc)
		return rc;
	l->starting_count++;
	l->last_start_ns = clock_mono_ns();
	sandbox_watch_process(sb, pidfd);
	sb->pipe.fn = on_pipe;
	base_bug(watch_add(l, &sb->pipe, pipe_fd, EPOLLIN));
	sandbox_set_deadline(sb, l->last_start_ns + START_TIMEOUT_NS);
	return 0;
}

static const char *request_fault(const struct launcher *l, const StartRequest *request)
{
	if (!request->meta || !state_id_is_valid(request->meta->id))
		return "the sandbox id is empty or holds more than letters, digits, '-', '_' and "
		       "'.'";
	if (!request->n_argv || !*request->argv[0])
		return "no command";
	if (!request->n_layers || request->n_layers > LAYERS_MAX)
		return "the image has no layers, or more than 100";
	for (size_t i = 0; i < request->n_layers; i++) {
		if (!state_id_is_valid(request->layers[i]))
			return "a layer's name is not that of a layer";
	}
	if (request->memory_bytes <= 0 || request->cpu_milli <= 0 || request->pids <= 0)
		return "limits of memory, cpu and pids must be above 0";
	return l->quitting ? "the launcher is ending" : NULL;
}

bool sandbox_start(struct launcher *l, uint64_t seq, const StartRequest *request,
		   struct pb_arena *arena)
{
	const char *fault = request_fault(l, request);
	uint64_t serial = conn_serial(l);
	struct sandbox *sb;
	char msg[256];
	int rc;

	if (fault) {
		conn_reply(l, serial, seq, l->quitting ? ACK(INTERNAL) : ACK(BAD_SPEC), fault);
		return false;
	}
	if (sandbox_find(l, request->meta->id)) {
		snprintf(msg, sizeof(msg), "sandbox id '%s' exists", request->meta->id);
		conn_reply(l, serial, seq, ACK(EXISTS), msg);
		return false;
	}
	sb = sandbox_new(l, request->meta);
	if (!sb) {
		conn_reply(l, serial, seq, ACK(RESOURCES), "the launcher is out of memory");
		return false;
	}
	sb->start_ns = clock_mono_ns();
	sb->request = request;
	sb->start_serial = serial;
	sb->start_seq = seq;
	rc = start_child(sb);
	if (!rc) {
		sb->arena = arena;
		return true;
	}
	snprintf(msg, sizeof(msg), "start sandbox '%s': %s", sb->name, strerror(-rc));
	conn_reply(l, serial, seq, ACK(RESOURCES), msg);
	if (rc != -EEXIST)
		(void)io_remove_tree(l->state_fd, sb->id);
	sandbox_free(sb);
	return false;
}
