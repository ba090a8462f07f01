/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's life. gRPC, the arena and every thread are made here, after the fork. It ends by a
 * drain (SIGTERM, or the master is gone), or at once when the arena was replaced, because then
 * nothing it knows is true any more.
 */
#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "face.h"
#include "fdpass.h"

#define ATTACH_NS	(30 * NS_PER_S)
#define ATTACH_PAUSE_MS 50
#define CURRENT_NS	NS_PER_S
/* Those who only wait may last for ever: after this long they are told to ask another worker. */
#define LINGER_NS    (2 * NS_PER_S)
#define HAND_OVER_NS (200 * NS_PER_MS)

enum { METHODS_MAX = 32, OBJECTS_MAX = 500000, UNPACKED_MAX = 64 << 20 };

struct worker {
	const struct fp_options *opts;
	pid_t master;
	int sock, exit_code;
	struct reg *reg;
	struct reg_self *me;
	struct gloop *loop;
	struct gloop_fd *watch;
	struct gloop_timer *current, *handed_over;
	struct gserver *server;
	struct fp_service *svc;
	struct gmethod methods[METHODS_MAX];
	bool draining;
};

/* ---- the arena ---- */

static bool told_to_end(const struct worker *w)
{
	sigset_t pending;

	if (getppid() != w->master)
		return true;
	return !sigpending(&pending) &&
	       (sigismember(&pending, SIGTERM) || sigismember(&pending, SIGINT));
}

/* The arena may not exist yet, be half made, or be one that fsb-registryd is about to replace. */
static int attach(struct worker *w)
{
	const struct timespec pause = {0, ATTACH_PAUSE_MS * (long)NS_PER_MS};
	uint64_t until = clock_mono_ns() + ATTACH_NS;
	enum reg_status status, said = REG_OK;

	for (;;) {
		status = reg_attach(w->opts->arena, &w->reg);
		if (status == REG_OK)
			status = reg_join(w->reg, REG_KIND_WORKER, &w->me);
		if (status == REG_OK)
			return 0;
		w->reg = reg_detach(w->reg);
		if (status != said)
			log_warn("waiting for the arena", "path=%s status=%s err=%s",
				 w->opts->arena, reg_status_name(status), reg_status_text(status));
		said = status;
		if (told_to_end(w))
			return FP_EXIT_OK;
		if (clock_mono_ns() >= until)
			break;
		(void)nanosleep(&pause, NULL);
	}
	log_error("no arena", "path=%s status=%s err=%s", w->opts->arena, reg_status_name(status),
		  reg_status_text(status));
	return FP_EXIT_ARENA;
}

static void on_current_timer(void *arg)
{
	struct worker *w = arg;

	if (!reg_is_current(w->reg)) {
		log_error("the arena was replaced", "path=%s", w->opts->arena);
		/* Nothing to hand over: answers would be about an arena that nobody serves. */
		_exit(FP_EXIT_ARENA);
	}
	gloop_timer_set(w->current, CURRENT_NS);
}

/* ---- the end ---- */

static void on_drained(void *arg)
{
	struct worker *w = arg;

	gloop_stop(w->loop);
}

static void on_handed_over(void *arg)
{
	struct worker *w = arg;
	uint64_t grace = (uint64_t)w->opts->drain_timeout_s * NS_PER_S;

	fp_service_drain(w->svc, grace / 2 < LINGER_NS ? grace / 2 : LINGER_NS);
	gserver_shutdown(w->server, grace, on_drained, w);
}

/*
 * The master turns to the others at once. Connections that it passed before are served for a moment
 * more, because a server that shuts down refuses the call that was already on its way.
 */
static void drain(struct worker *w)
{
	if (w->draining)
		return;
	w->draining = true;
	log_info("draining", "timeout_s=%d", w->opts->drain_timeout_s);
	(void)send(w->sock, FP_SAYS_DRAINING, 1, MSG_NOSIGNAL);
	gloop_timer_set(w->handed_over, HAND_OVER_NS);
}

static void on_signal(void *arg, int signo)
{
	drain(arg);
}

/* ---- connections ---- */

/* Everything that waits. -EAGAIN: no more for now; others: the master has closed its end. */
static int take_connections(struct worker *w)
{
	struct err err = ERR_INIT;
	int fd, rc;

	for (;;) {
		rc = fp_fd_recv(w->sock, &fd);
		if (rc == -EBADMSG)
			continue;
		if (rc)
			return rc;
		if (gserver_add_fd(w->server, fd, &err) && !w->draining)
			log_warn("connection refused", "err=%s", err.msg);
	}
}

static void on_sock(void *arg, int fd)
{
	struct worker *w = arg;

	if (take_connections(w) == -EAGAIN)
		return;
	w->watch = gloop_fd_del(w->watch);
	drain(w);
}

/* ---- the start ---- */

static void on_finished(void *ctx, const char *path, int status, uint64_t ns)
{
	log_debug("call", "method=%s status=%s us=%llu", path, gstatus_name(status),
		  (unsigned long long)(ns / NS_PER_US));
}

static void collect_methods(struct worker *w)
{
	const struct gmethod *const faces[] = {fp_methods_fastpath, fp_methods_sandbox,
					       fp_methods_admin, fp_methods_health};
	size_t n = 0;

	for (size_t i = 0; i < sizeof(faces) / sizeof(faces[0]); i++) {
		for (const struct gmethod *m = faces[i]; m->path; m++) {
			base_bug(n + 1 >= METHODS_MAX);
			w->methods[n++] = *m;
		}
	}
}

static int start_server(struct worker *w, struct err *err)
{
	struct gserver_options opts = {
		.methods = w->methods,
		.ctx = w->svc,
		.max_calls = FP_CALLS_MAX,
		.pb = {.max_bytes = UNPACKED_MAX, .max_objects = OBJECTS_MAX},
		.on_finished = on_finished,
	};

	collect_methods(w);
	w->server = gserver_new(w->loop, &opts, err);
	return w->server ? gserver_start(w->server, err) : err->code;
}

static int start(struct worker *w, struct err *err)
{
	struct fp_service_options opts = {
		.reg = w->reg, .me = w->me, .default_strong = w->opts->default_strong};
	int rc;

	w->loop = gloop_new(err);
	if (!w->loop)
		return err->code;
	rc = gloop_on_signal(w->loop, SIGTERM, on_signal, w, err);
	if (!rc)
		rc = gloop_on_signal(w->loop, SIGINT, on_signal, w, err);
	if (rc)
		return rc;
	opts.loop = w->loop;
	w->svc = fp_service_new(&opts);
	w->current = gloop_timer_new(w->loop, on_current_timer, w);
	w->handed_over = gloop_timer_new(w->loop, on_handed_over, w);
	if (!w->svc || !w->current || !w->handed_over)
		return err_set(err, -ENOMEM, "out of memory for the service");
	rc = start_server(w, err);
	if (rc)
		return rc;
	w->watch = gloop_fd_add(w->loop, w->sock, on_sock, w, err);
	if (!w->watch)
		return err->code;
	gloop_timer_set(w->current, CURRENT_NS);
	return 0;
}

static void finish(struct worker *w)
{
	if (w->watch)
		gloop_fd_del(w->watch);
	if (w->current)
		gloop_timer_free(w->current);
	if (w->handed_over)
		gloop_timer_free(w->handed_over);
	if (w->server)
		gserver_free(w->server);
	fp_service_free(w->svc);
	if (w->loop)
		gloop_free(w->loop);
	reg_leave(w->me);
	reg_detach(w->reg);
}

int fp_worker_main(const struct fp_options *opts, int index, pid_t master, int sock)
{
	struct worker w = {.opts = opts, .master = master, .sock = sock};
	struct err err = ERR_INIT;
	int rc;

	/* The check afterwards closes the window in which the master could die unnoticed. */
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != master)
		return FP_EXIT_OK;
	failpoint_role("fastpath");
	w.exit_code = attach(&w);
	if (!w.reg)
		return w.exit_code;
	rc = start(&w, &err);
	if (rc) {
		log_error("worker can't start", "worker=%d err=%s", index, err.msg);
		return FP_EXIT_FAILED;
	}
	if (send(sock, FP_SAYS_READY, 1, MSG_NOSIGNAL) != 1)
		drain(&w);
	log_info("worker ready", "worker=%d participant=%u", index, reg_self_idx(w.me));
	gloop_run(w.loop);
	finish(&w);
	return FP_EXIT_OK;
}
