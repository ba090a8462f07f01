/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsb-launcher: the small process beside an agent that is the parent of its sandboxes. Started by
 * fsb-agent when none answers; it goes into the background once it listens, and outlives the agent.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/instance.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "base/log.h"
#include "base/opt.h"
#include "sandbox.h"

enum { IDLE_BEFORE_REFILL_MS = 2, EXIT_RUNNING_ALREADY = 4 };

/* Docker's default set without MKNOD: no device node made in a sandbox shall ever open a device of
 * the host. */
static const cap_value_t kept_caps[] = {
	CAP_CHOWN,	CAP_DAC_OVERRIDE, CAP_FSETID,	   CAP_FOWNER,	CAP_NET_RAW,
	CAP_SETGID,	CAP_SETUID,	  CAP_SETFCAP,	   CAP_SETPCAP, CAP_NET_BIND_SERVICE,
	CAP_SYS_CHROOT, CAP_KILL,	  CAP_AUDIT_WRITE,
};

/* ---- epoll ---- */

int watch_add(struct launcher *l, struct watch *w, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = w};

	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	w->fd = fd;
	return 0;
}

void watch_modify(struct launcher *l, struct watch *w, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = w};

	base_bug(epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, w->fd, &event));
}

void watch_close(struct launcher *l, struct watch *w)
{
	if (w->fd < 0)
		return;
	/* Explicitly: a forked child that has not exec'ed yet may keep the file open. */
	(void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
	close(w->fd);
	w->fd = -1;
}

static int until_ms(uint64_t at_ns, uint64_t now_ns)
{
	uint64_t ms = at_ns > now_ns ? (at_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS : 0;

	return ms > 60000 ? 60000 : (int)ms;
}

/* How long the loop may sleep; *ret_refill: network namespaces are short and nothing has been
 * started for a while. */
static int loop_timeout(const struct launcher *l, bool *ret_refill)
{
	uint64_t now = clock_mono_ns(), idle_at;
	int timeout = l->next_deadline_ns ? until_ms(l->next_deadline_ns, now) : -1;
	int refill;

	*ret_refill = false;
	if ((l->netns_count == SPARES && l->spare_count == SPARES) || l->starting_count ||
	    l->quitting)
		return timeout;
	idle_at = l->last_start_ns + IDLE_BEFORE_REFILL_MS * NS_PER_MS;
	refill = until_ms(idle_at, now);
	if (timeout >= 0 && timeout < refill)
		return timeout;
	*ret_refill = refill == 0;
	return refill;
}

/* One more of each; false when none could be made. */
static bool refill_spares(struct launcher *l)
{
	bool netns = netns_refill(l);

	return state_refill(l) || netns;
}

static void loop_run(struct launcher *l)
{
	while (!l->quitting || l->starting_count) {
		struct epoll_event event;
		bool refill;
		int timeout = loop_timeout(l, &refill);
		int n = epoll_wait(l->epoll_fd, &event, 1, timeout);

		base_bug(n < 0 && errno != EINTR);
		if (n > 0) {
			struct watch *w = event.data.ptr;

			w->fn(l, w, event.events);
		} else if (refill && !refill_spares(l)) {
			l->last_start_ns = clock_mono_ns() + NS_PER_S; /* try again later */
		}
		sandbox_run_timers(l, clock_mono_ns());
	}
}

/* ---- set-up ---- */

static void on_signal(struct launcher *l, struct watch *w, uint32_t events)
{
	struct signalfd_siginfo info;

	if (read(w->fd, &info, sizeof(info)) != sizeof(info))
		return;
	log_info("ending", "signal=%u sandboxes=%u", info.ssi_signo, l->sandbox_count);
	l->quitting = true;
}

static int watch_signals(struct launcher *l, struct err *err)
{
	struct sigaction plain = {.sa_handler = SIG_DFL}, ignore = {.sa_handler = SIG_IGN};
	sigset_t set;
	int fd;

	sigaction(SIGCHLD, &plain, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	sigaction(SIGHUP, &ignore, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return err_errno(err, errno, "signalfd");
	l->signals.fn = on_signal;
	return watch_add(l, &l->signals, fd, EPOLLIN);
}

/* Held for life: there is never a second launcher of that name. */
static int take_lock(struct launcher *l, struct err *err)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/agents", l->run_dir);
	if (io_mkdirs(path, 0750))
		return err_errno(err, errno, "make '%s'", path);
	snprintf(path, sizeof(path), "%s/agents/%s.launcher.lock", l->run_dir, l->name);
	l->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (l->lock_fd < 0)
		return err_errno(err, errno, "open '%s'", path);
	if (flock(l->lock_fd, LOCK_EX | LOCK_NB))
		return err_set(err, -EBUSY, "another launcher holds '%s'", path);
	return 0;
}

static int open_dirs(struct launcher *l, struct err *err)
{
	char spares[300];
	int rc;

	snprintf(l->state_dir, sizeof(l->state_dir), "%s/state/%s", l->run_dir, l->name);
	snprintf(l->root_dir, sizeof(l->root_dir), "%s/agents/%s.d/root", l->run_dir, l->name);
	snprintf(l->layers_dir, sizeof(l->layers_dir), "%s/images/layers", l->run_dir);
	snprintf(l->base_layer, sizeof(l->base_layer), "%s/agents/%s.d/base", l->run_dir, l->name);
	snprintf(l->scratch_dir, sizeof(l->scratch_dir), "%s/agents/%s.d/scratch", l->run_dir,
		 l->name);
	rc = io_mkdirs(l->state_dir, 0700);
	if (!rc)
		rc = io_mkdirs(l->scratch_dir, 0700);
	if (!rc)
		rc = io_mkdirs(l->root_dir, 0700);
	if (!rc)
		rc = rootfs_make_base(l->base_layer);
	if (!rc)
		rc = io_mkdirs(l->layers_dir, 0700);
	if (rc)
		return err_errno(err, -rc, "make directories in '%s'", l->run_dir);
	snprintf(spares, sizeof(spares), "%s/agents/%s.d/spares", l->run_dir, l->name);
	rc = state_spares_open(l, spares);
	if (rc)
		return err_errno(err, -rc, "make '%s'", spares);
	l->state_fd = open(l->state_dir, O_DIRECTORY | O_CLOEXEC);
	if (l->state_fd < 0)
		return err_errno(err, errno, "open '%s'", l->state_dir);
	return 0;
}

static int write_pid(const struct launcher *l, struct err *err)
{
	char path[300], text[16];
	int n = snprintf(text, sizeof(text), "%d\n", getpid()), rc;

	snprintf(path, sizeof(path), "%s/agents/%s.launcher.pid", l->run_dir, l->name);
	rc = io_write_file_atomic(AT_FDCWD, path, text, (size_t)n, 0644, 0);
	return rc ? err_errno(err, -rc, "write '%s'", path) : 0;
}

/* Each sandbox costs a pidfd here, and a pipe while it starts. */
static void raise_file_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files))
		return;
	files.rlim_cur = files.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &files);
}

static int set_up(struct launcher *l, struct err *err)
{
	int rc = take_lock(l, err);

	if (rc)
		return rc;
	raise_file_limit();
	for (size_t i = 0; i < sizeof(kept_caps) / sizeof(*kept_caps); i++)
		l->cap_mask |= UINT64_C(1) << kept_caps[i];
	/* In a shared network raw sockets would see and forge the host's traffic. */
	l->cap_mask_shared = l->cap_mask & ~(UINT64_C(1) << CAP_NET_RAW);
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd < 0)
		return err_errno(err, errno, "epoll");
	rc = watch_signals(l, err);
	if (!rc)
		rc = open_dirs(l, err);
	if (!rc)
		rc = cgroups_init(&l->cgroups, l->instance, l->name, err);
	if (!rc)
		rc = seccomp_build(&l->filter, err);
	if (!rc) {
		netns_init(l);
		recover_all(l);
		rc = conn_listen(l, err);
	}
	return rc ? rc : write_pid(l, err);
}

/* Whoever started us may wait for the end of our output: from here on it goes to a file of our own.
 */
static int redirect_output(const struct launcher *l, struct err *err)
{
	char path[300];
	cleanup_close int null = open("/dev/null", O_RDWR | O_CLOEXEC), log = -1;

	snprintf(path, sizeof(path), "%s/log", l->run_dir);
	(void)io_mkdirs(path, 0750);
	snprintf(path, sizeof(path), "%s/log/%s.launcher.log", l->run_dir, l->name);
	log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (null < 0 || log < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(log, 2) < 0)
		return err_errno(err, errno, "open '%s'", path);
	return 0;
}

/* The parent leaves with 0 once the child listens, or with the child's status. */
static int go_background(int *ret_ready_fd)
{
	int fds[2];
	char byte;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid) {
		close(fds[1]);
		if (read(fds[0], &byte, 1) == 1)
			_exit(byte);
		_exit(1);
	}
	close(fds[0]);
	setsid();
	*ret_ready_fd = fds[1];
	return 0;
}

static void tell_parent(int fd, int status)
{
	char byte = (char)status;

	if (fd >= 0 && write(fd, &byte, 1) != 1)
		log_warn("the starter is gone", "status=%d", status);
}

/* At an orderly end: whoever looks finds no launcher, and no empty cgroups. */
static void remove_traces(struct launcher *l)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/agents/%s.launcher", l->run_dir, l->name);
	(void)unlink(path);
	snprintf(path, sizeof(path), "%s/agents/%s.launcher.pid", l->run_dir, l->name);
	(void)unlink(path);
	if (!l->sandbox_count)
		cgroups_remove_base(&l->cgroups);
}

static int run(struct launcher *l, bool foreground)
{
	cleanup_close int ready_fd = -1;
	struct err err = ERR_INIT;
	int rc = foreground ? 0 : go_background(&ready_fd), status;

	if (!rc)
		rc = set_up(l, &err);
	if (!rc && !foreground)
		rc = redirect_output(l, &err);
	status = !rc ? 0 : rc == -EBUSY ? EXIT_RUNNING_ALREADY : 1;
	if (rc) {
		log_error("can't start", "err=%s", err.msg);
		tell_parent(ready_fd, status);
		return status;
	}
	tell_parent(ready_fd, 0);
	close(take_fd(&ready_fd));
	log_info("ready", "run_dir=%s name=%s sandboxes=%u", l->run_dir, l->name, l->sandbox_count);
	loop_run(l);
	remove_traces(l);
	return 0;
}

int main(int argc, char **argv)
{
	static struct launcher l = {.netns_home = -1};
	static bool foreground;
	static char run_dir[200];
	const struct opt opts[] = {
		{"instance", 0, OPT_STRING, "NAME", "instance name, for the cgroup paths",
		 "default", .string = &l.instance},
		{"run-dir", 0, OPT_STRING, "DIR", "run directory (default: /run/fsb/INSTANCE)",
		 NULL, .string = &l.run_dir},
		{"name", 0, OPT_STRING, "NAME", "the agent's name", NULL, .string = &l.name},
		{"foreground", 0, OPT_FLAG, NULL, "stay in the foreground", NULL,
		 .flag = &foreground},
		{0},
	};
	const struct opt_program program = {
		.usage = "fsb-launcher --name NAME [options]",
		.summary = "Parent process of one agent's sandboxes; started by fsb-agent when "
			   "needed. "
			   "SIGTERM ends it, the sandboxes go on.",
		.opts = opts,
	};
	struct err err = ERR_INIT;
	int npos, rc = opt_parse(&program, argc, argv, &npos, &err);

	if (rc == OPT_EXIT)
		return 0;
	if (!rc && (!l.name || npos))
		rc = err_set(&err, -EINVAL, "--name NAME is needed, and no other arguments");
	if (!rc)
		rc = instance_run_dir(&l.run_dir, l.instance, run_dir, sizeof(run_dir), &err);
	if (rc) {
		fprintf(stderr, "fsb-launcher: %s\n", err.msg);
		return 2;
	}
	log_init("launcher");
	failpoint_role("launcher");
	return run(&l, foreground);
}
