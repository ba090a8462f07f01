/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection to the launcher. When it breaks, the launcher has died: another one is started,
 * tells what it found, and what was asked of the dead one is asked again (a stop) or answered from
 * that list (a start).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pb.h"

enum { BUCKETS = 1024, PACKET_MAX = 1 << 20, SOCKET_BUFFER = 4 << 20 };
#define RETRY_NS       (10 * NS_PER_MS)
#define FLUSH_RETRY_NS (5 * NS_PER_MS)
#define COMPLAIN_NS    (10 * NS_PER_S)

extern char **environ;

/* A request that is not answered yet. */
struct op {
	TAILQ_ENTRY(op) all;
	struct op *next; /* in its bucket */
	uint64_t seq;
	bool sent, repeat, orphan /* sent to a launcher that has died */;
	agt_reply_fn on_reply;
	void *arg;
	size_t len;
	void *data;
};
TAILQ_HEAD(op_list, op);

struct agt_launch {
	struct agent *a;
	int fd;
	struct gloop_fd *watch;
	struct gloop_timer *retry; /* next connect */
	struct gloop_timer *flush; /* the socket was full */
	struct op_list ops;	   /* in order of sending */
	struct op *unsent;	   /* the first of them that is not sent */
	struct op *buckets[BUCKETS];
	uint64_t next_seq, trying_since_ns;
	bool listed;
	pid_t starter; /* our child: leaves once the launcher listens */
	void (*on_ready)(struct agent *a);
};

static void launch_lost(struct agt_launch *ln);

/* ---- requests ---- */

static struct op *op_take(struct agt_launch *ln, uint64_t seq)
{
	struct op **at = &ln->buckets[seq % BUCKETS];

	for (; *at; at = &(*at)->next) {
		struct op *op = *at;

		if (op->seq != seq)
			continue;
		*at = op->next;
		if (ln->unsent == op)
			ln->unsent = TAILQ_NEXT(op, all);
		TAILQ_REMOVE(&ln->ops, op, all);
		return op;
	}
	return NULL;
}

static void op_answer(struct agt_launch *ln, struct op *op, const Notice *notice)
{
	op->on_reply(ln->a, notice, op->arg);
	free(op->data);
	free(op);
}

static void launch_flush(struct agt_launch *ln)
{
	while (ln->listed && ln->unsent) {
		struct op *op = ln->unsent;

		if (send(ln->fd, op->data, op->len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
			if (errno == EAGAIN || errno == ENOBUFS)
				gloop_timer_set(ln->flush, FLUSH_RETRY_NS);
			else
				launch_lost(ln);
			return;
		}
		op->sent = true;
		ln->unsent = TAILQ_NEXT(op, all);
	}
}

static void on_flush_timer(void *arg)
{
	launch_flush(arg);
}

int agt_launch_send(struct agent *a, Request *request, bool repeat, agt_reply_fn on_reply,
		    void *arg)
{
	struct agt_launch *ln = a->launch;
	struct op *op = calloc(1, sizeof(*op));

	if (!op)
		return -ENOMEM;
	request->seq = ln->next_seq++;
	op->seq = request->seq;
	op->repeat = repeat;
	op->on_reply = on_reply;
	op->arg = arg;
	op->data = pb_pack(&request->base, &op->len);
	if (!op->data || op->len > PACKET_MAX) {
		int rc = op->data ? -EMSGSIZE : -ENOMEM;

		free(op->data);
		free(op);
		return rc;
	}
	op->next = ln->buckets[op->seq % BUCKETS];
	ln->buckets[op->seq % BUCKETS] = op;
	TAILQ_INSERT_TAIL(&ln->ops, op, all);
	if (!ln->unsent)
		ln->unsent = op;
	launch_flush(ln);
	return 0;
}

/* ---- notices ---- */

/* The new launcher has told everything: starts that the old one took are judged by it, the rest is
 * asked again. */
static void listed(struct agt_launch *ln)
{
	struct op *op, *next;

	for (op = TAILQ_FIRST(&ln->ops); op; op = next) {
		next = TAILQ_NEXT(op, all);
		if (op->orphan)
			op_answer(ln, op_take(ln, op->seq), NULL);
	}
	ln->unsent = TAILQ_FIRST(&ln->ops);
	ln->listed = true;
	launch_flush(ln);
	if (ln->on_ready) {
		ln->on_ready(ln->a);
		ln->on_ready = NULL;
	}
}

static void handle_notice(struct agt_launch *ln, const Notice *notice)
{
	struct op *op;

	if (notice->kind != FSB__LAUNCHER__V1__NOTICE_KIND__REPLY) {
		agt_notice(ln->a, notice);
		if (notice->kind == FSB__LAUNCHER__V1__NOTICE_KIND__LISTED)
			listed(ln);
		return;
	}
	op = op_take(ln, notice->seq);
	if (op)
		op_answer(ln, op, notice);
}

/* One packet; false when there is none or the connection is gone. */
static bool read_packet(struct agt_launch *ln)
{
	static char buffer[PACKET_MAX];
	struct pb_arena *arena;
	ProtobufCMessage *msg;
	struct err err = ERR_INIT;
	ssize_t n = recv(ln->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		launch_lost(ln);
		return false;
	}
	if (pb_unpack(&fsb__launcher__v1__notice__descriptor, buffer, (size_t)n, NULL, &arena, &msg,
		      &err)) {
		log_error("launcher not understood", "err=%s", err.msg);
		launch_lost(ln);
		return false;
	}
	handle_notice(ln, (const Notice *)msg);
	pb_free(arena);
	return ln->fd >= 0;
}

static void on_readable(void *arg, int fd)
{
	struct agt_launch *ln = arg;

	while (read_packet(ln))
		;
}

/* ---- connection ---- */

static void launch_lost(struct agt_launch *ln)
{
	struct op *op;

	if (ln->fd < 0)
		return;
	log_warn("launcher lost", "name=%s", ln->a->name);
	ln->watch = gloop_fd_del(ln->watch);
	close(ln->fd);
	ln->fd = -1;
	ln->listed = false;
	TAILQ_FOREACH(op, &ln->ops, all)
	{
		op->orphan = op->orphan || (op->sent && !op->repeat);
		op->sent = false;
	}
	ln->trying_since_ns = clock_mono_ns();
	gloop_timer_set(ln->retry, 0);
}

static int try_connect(struct agt_launch *ln)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int size = SOCKET_BUFFER, rc;
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/agents/%s.launcher", ln->a->run_dir,
		 ln->a->name);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	agt_listing_begins(ln->a);
	ln->watch = gloop_fd_add(ln->a->loop, fd, on_readable, ln, NULL);
	rc = ln->watch ? 0 : -ENOMEM;
	if (!rc)
		ln->fd = take_fd(&fd);
	return rc;
}

/* Beside our own program, else in PATH. */
static void launcher_path(char *buf, size_t size)
{
	char self[256], *slash;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n < 0 ? 0 : n] = '\0';
	slash = strrchr(self, '/');
	if (slash) {
		*slash = '\0';
		snprintf(buf, size, "%s/fsb-launcher", self);
		if (!access(buf, X_OK))
			return;
	}
	snprintf(buf, size, "fsb-launcher");
}

static char *unconst(const char *text)
{
	union {
		const char *in;
		char *out; /* posix_spawn's arrays have no const */
	} u = {.in = text};

	return u.out;
}

static int spawn_launcher(struct agt_launch *ln)
{
	const struct agent *a = ln->a;
	char path[300];
	char *argv[] = {unconst("fsb-launcher"), unconst("--name"),
			unconst(a->name),	 unconst("--instance"),
			unconst(a->instance),	 unconst("--run-dir"),
			unconst(a->run_dir),	 NULL};
	posix_spawnattr_t attr;
	sigset_t none, all;
	int rc;

	launcher_path(path, sizeof(path));
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	rc = posix_spawnp(&ln->starter, path, NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	if (rc)
		ln->starter = 0;
	return -rc;
}

/* True while the process that starts the launcher is still at it. */
static bool starter_runs(struct agt_launch *ln)
{
	if (ln->starter <= 0)
		return false;
	if (waitpid(ln->starter, NULL, WNOHANG) == 0)
		return true;
	ln->starter = 0;
	return false;
}

static void on_retry(void *arg)
{
	struct agt_launch *ln = arg;
	int rc = ln->fd < 0 ? try_connect(ln) : 0;

	if (!rc) {
		/* It listens before its starter has left, which is ours to reap. */
		if (starter_runs(ln))
			gloop_timer_set(ln->retry, RETRY_NS);
		return;
	}
	if (!starter_runs(ln))
		rc = spawn_launcher(ln);
	if (clock_mono_ns() - ln->trying_since_ns > COMPLAIN_NS) {
		log_error("launcher can't be reached", "name=%s err=%s", ln->a->name,
			  strerror(-rc));
		ln->trying_since_ns = clock_mono_ns();
	}
	gloop_timer_set(ln->retry, RETRY_NS);
}

int agt_launch_open(struct agent *a, void (*on_ready)(struct agent *a), struct err *err)
{
	struct agt_launch *ln = calloc(1, sizeof(*ln));
	struct sockaddr_un addr;

	if (!ln)
		return err_set(err, -ENOMEM, "out of memory");
	a->launch = ln;
	ln->a = a;
	ln->fd = -1;
	ln->next_seq = 1;
	ln->on_ready = on_ready;
	TAILQ_INIT(&ln->ops);
	ln->retry = gloop_timer_new(a->loop, on_retry, ln);
	ln->flush = gloop_timer_new(a->loop, on_flush_timer, ln);
	if (!ln->retry || !ln->flush)
		return err_set(err, -ENOMEM, "out of memory");
	if (strlen(a->run_dir) + strlen(a->name) + strlen("/agents/.launcher") >=
	    sizeof(addr.sun_path))
		return err_set(
			err, -ENAMETOOLONG,
			"run directory '%s' and name '%s' are too long for a unix socket's path",
			a->run_dir, a->name);
	ln->trying_since_ns = clock_mono_ns();
	gloop_timer_set(ln->retry, 0);
	return 0;
}

void agt_launch_close(struct agent *a)
{
	struct agt_launch *ln = a->launch;
	struct op *op;

	if (!ln)
		return;
	if (ln->watch)
		gloop_fd_del(ln->watch);
	if (ln->fd >= 0)
		close(ln->fd);
	if (ln->retry)
		gloop_timer_free(ln->retry);
	if (ln->flush)
		gloop_timer_free(ln->flush);
	while ((op = TAILQ_FIRST(&ln->ops)))
		op_answer(ln, op_take(ln, op->seq), NULL);
	free(ln);
	a->launch = NULL;
}
