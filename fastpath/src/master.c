/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The master accepts connections and passes each to the next worker in turn, so that the spread is
 * exact and a worker that ends loses no connection that it had not been given. It restarts workers
 * that died. One poll loop, no threads, no allocation.
 */
#include "master.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "listen.h"
#include "fdpass.h"
#include "worker.h"

#define BACKOFF_MIN_NS	(100 * NS_PER_MS)
#define BACKOFF_MAX_NS	(5 * NS_PER_S)
#define LIVED_NS	(10 * NS_PER_S) /* a worker that lived this long starts the backoff anew */
#define KILL_AFTER_S	5		/* beyond the drain timeout */
#define ACCEPT_PAUSE_NS (50 * NS_PER_MS)

enum { ACCEPT_BURST = 64 };

struct slot {
	pid_t pid; /* 0: none; restarted at restart_ns */
	int sock;
	bool ready;
	uint64_t started_ns, backoff_ns, restart_ns;
};

struct master {
	const struct fp_options *opts;
	pid_t pid;
	int sigfd;
	struct slot slots[FP_WORKERS_MAX];
	int next;    /* whose turn it is */
	int pending; /* accepted, and no worker could take it yet; -1: none */
	uint64_t accept_after_ns;
	struct listener {
		int fd;
		bool tcp;
	} listeners[FP_LISTEN_MAX + 1];
	int n_listeners;
	struct stat unix_stat; /* of the socket file that we made */
	bool stopping, in_worker;
	uint64_t kill_ns;
	int exit_code;
};

/* ---- workers ---- */

/* What the child must not keep: others' ends of socket pairs, listeners, the signal fd. */
static void child_close(struct master *m, const struct slot *own)
{
	for (int i = 0; i < m->opts->workers; i++) {
		if (m->slots[i].sock >= 0 && &m->slots[i] != own)
			close(m->slots[i].sock);
	}
	for (int i = 0; i < m->n_listeners; i++)
		close(m->listeners[i].fd);
	if (m->pending >= 0)
		close(m->pending);
	close(m->sigfd);
}

static int worker_spawn(struct master *m, int index)
{
	struct slot *slot = &m->slots[index];
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return -errno;
	pid = fork();
	if (pid < 0) {
		pid = -errno;
		close(pair[0]);
		close(pair[1]);
		return pid;
	}
	if (pid == 0) {
		close(pair[0]);
		child_close(m, slot);
		m->in_worker = true;
		m->exit_code = fp_worker_main(m->opts, index, m->pid, pair[1]);
		return 0;
	}
	close(pair[1]);
	slot->pid = pid;
	slot->sock = pair[0];
	slot->ready = false;
	slot->started_ns = clock_mono_ns();
	return 0;
}

static void slot_close(struct slot *slot)
{
	if (slot->sock >= 0)
		close(slot->sock);
	slot->sock = -1;
	slot->ready = false;
}

static void slot_schedule(struct slot *slot, uint64_t now)
{
	if (now - slot->started_ns >= LIVED_NS || slot->backoff_ns == 0)
		slot->backoff_ns = BACKOFF_MIN_NS;
	slot->restart_ns = now + slot->backoff_ns;
	slot->backoff_ns *= 2;
	if (slot->backoff_ns > BACKOFF_MAX_NS)
		slot->backoff_ns = BACKOFF_MAX_NS;
}

static void log_end(const struct master *m, int index, int status)
{
	if (WIFSIGNALED(status))
		log_warn("worker died", "worker=%d pid=%d signal=%d", index, m->slots[index].pid,
			 WTERMSIG(status));
	else if (WEXITSTATUS(status) || !m->stopping)
		log_warn("worker ended", "worker=%d pid=%d code=%d", index, m->slots[index].pid,
			 WEXITSTATUS(status));
}

static void reap(struct master *m)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < m->opts->workers; i++) {
			if (m->slots[i].pid != pid)
				continue;
			log_end(m, i, status);
			m->slots[i].pid = 0;
			slot_close(&m->slots[i]);
			slot_schedule(&m->slots[i], clock_mono_ns());
		}
	}
}

/* In the child this returns with in_worker set. */
static void spawn_due(struct master *m)
{
	for (int i = 0; i < m->opts->workers && !m->stopping && !m->in_worker; i++) {
		struct slot *slot = &m->slots[i];
		int rc;

		if (slot->pid || clock_mono_ns() < slot->restart_ns)
			continue;
		rc = worker_spawn(m, i);
		if (rc) {
			log_error("can't fork a worker", "worker=%d err=%s", i, strerror(-rc));
			slot->started_ns = clock_mono_ns();
			slot_schedule(slot, slot->started_ns);
		}
	}
}

/* ---- connections ---- */

static bool any_ready(const struct master *m)
{
	for (int i = 0; i < m->opts->workers; i++) {
		if (m->slots[i].ready)
			return true;
	}
	return false;
}

/* To the next ready worker in turn; one that can't take it now is passed over. false: none could.
 */
static bool pass(struct master *m, int fd)
{
	for (int tried = 0; tried < m->opts->workers; tried++) {
		struct slot *slot = &m->slots[m->next];
		int rc;

		m->next = (m->next + 1) % m->opts->workers;
		if (!slot->ready)
			continue;
		rc = fp_fd_send(slot->sock, fd);
		if (!rc)
			return true;
		/* Gone or going: SIGCHLD follows. */
		if (rc != -EAGAIN)
			slot->ready = false;
	}
	return false;
}

static void pass_pending(struct master *m)
{
	if (m->pending < 0 || !pass(m, m->pending))
		return;
	close(m->pending);
	m->pending = -1;
}

static void accept_some(struct master *m, const struct listener *l)
{
	const int one = 1;

	for (int i = 0; i < ACCEPT_BURST && m->pending < 0; i++) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
			    errno == ENOBUFS) {
				log_warn("can't accept", "err=%s", strerror(errno));
				m->accept_after_ns = clock_mono_ns() + ACCEPT_PAUSE_NS;
			}
			return;
		}
		/* gRPC sets this on sockets of its own making only. */
		if (l->tcp)
			(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		m->pending = fd;
		pass_pending(m);
	}
	if (m->pending >= 0)
		m->accept_after_ns = clock_mono_ns() + ACCEPT_PAUSE_NS;
}

/* A packet says how the worker is; the end of the stream, that it is no more. */
static void hear(struct slot *slot)
{
	char buf[8];
	ssize_t n = recv(slot->sock, buf, sizeof(buf), MSG_DONTWAIT);

	if (n > 0)
		slot->ready = buf[0] == FP_SAYS_READY[0];
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		slot_close(slot);
}

/* ---- the loop ---- */

static void stop_listening(struct master *m)
{
	struct stat st;

	for (int i = 0; i < m->n_listeners; i++)
		close(m->listeners[i].fd);
	m->n_listeners = 0;
	/* Only our own: a successor may have put its socket there. */
	if (m->unix_stat.st_ino && !lstat(m->opts->unix_path, &st) &&
	    st.st_ino == m->unix_stat.st_ino && st.st_dev == m->unix_stat.st_dev)
		(void)unlink(m->opts->unix_path);
	m->unix_stat.st_ino = 0;
}

static void stop(struct master *m)
{
	if (m->stopping)
		return;
	m->stopping = true;
	m->kill_ns =
		clock_mono_ns() + (uint64_t)(m->opts->drain_timeout_s + KILL_AFTER_S) * NS_PER_S;
	log_info("stopping", "workers=%d", m->opts->workers);
	stop_listening(m);
	pass_pending(m);
	if (m->pending >= 0)
		close(m->pending);
	m->pending = -1;
	for (int i = 0; i < m->opts->workers; i++) {
		if (m->slots[i].pid)
			kill(m->slots[i].pid, SIGTERM);
	}
}

static void kill_late(struct master *m)
{
	if (!m->stopping || clock_mono_ns() < m->kill_ns)
		return;
	m->kill_ns = UINT64_MAX;
	for (int i = 0; i < m->opts->workers; i++) {
		if (m->slots[i].pid) {
			log_warn("worker did not drain", "worker=%d pid=%d", i, m->slots[i].pid);
			kill(m->slots[i].pid, SIGKILL);
		}
	}
}

static bool all_gone(const struct master *m)
{
	for (int i = 0; i < m->opts->workers; i++) {
		if (m->slots[i].pid)
			return false;
	}
	return true;
}

/* ms until something is due that no fd tells of; -1: never. */
static int poll_timeout(const struct master *m, bool accepting)
{
	uint64_t now = clock_mono_ns(), at = UINT64_MAX;

	if (m->stopping)
		at = m->kill_ns;
	for (int i = 0; i < m->opts->workers && !m->stopping; i++) {
		if (!m->slots[i].pid && m->slots[i].restart_ns < at)
			at = m->slots[i].restart_ns;
	}
	if (!accepting && m->n_listeners && any_ready(m) && m->accept_after_ns < at)
		at = m->accept_after_ns;
	if (at == UINT64_MAX)
		return -1;
	return at <= now ? 0 : (int)((at - now) / NS_PER_MS) + 1;
}

static void handle_signals(struct master *m)
{
	struct signalfd_siginfo info;

	while (read(m->sigfd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			reap(m);
		else
			stop(m);
	}
}

static void loop_once(struct master *m)
{
	struct pollfd fds[1 + FP_WORKERS_MAX + FP_LISTEN_MAX + 1];
	bool accepting = m->pending < 0 && any_ready(m) && clock_mono_ns() >= m->accept_after_ns;
	int n = 0, workers_at = 1, listeners_at = 1 + m->opts->workers;

	fds[n++] = (struct pollfd){.fd = m->sigfd, .events = POLLIN};
	for (int i = 0; i < m->opts->workers; i++)
		fds[n++] = (struct pollfd){.fd = m->slots[i].sock, .events = POLLIN};
	for (int i = 0; accepting && i < m->n_listeners; i++)
		fds[n++] = (struct pollfd){.fd = m->listeners[i].fd, .events = POLLIN};
	if (poll(fds, (nfds_t)n, poll_timeout(m, accepting)) < 0)
		return;
	for (int i = 0; i < m->opts->workers; i++) {
		if (fds[workers_at + i].revents)
			hear(&m->slots[i]);
	}
	for (int i = listeners_at; i < n; i++) {
		if (fds[i].revents)
			accept_some(m, &m->listeners[i - listeners_at]);
	}
	/* Last: it may close listeners and workers' sockets. */
	if (fds[0].revents)
		handle_signals(m);
	pass_pending(m);
	kill_late(m);
	spawn_due(m);
}

/* ---- the start ---- */

static int write_port(const struct master *m, int port, struct err *err)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d\n", port);
	int rc = io_write_file_atomic(AT_FDCWD, m->opts->port_file, text, (size_t)len, 0644, 0);

	return rc ? err_errno(err, -rc, "write '%s'", m->opts->port_file) : 0;
}

static int listen_all(struct master *m, struct err *err)
{
	int first_port = 0, port, rc;

	for (int i = 0; i < m->opts->listen_count; i++) {
		struct listener *l = &m->listeners[m->n_listeners];

		rc = fp_listen_tcp(m->opts->listen[i], m->opts->insecure, &l->fd, &port, err);
		if (rc)
			return rc;
		l->tcp = true;
		m->n_listeners++;
		if (!first_port)
			first_port = port;
		log_info("listening", "address=%s port=%d", m->opts->listen[i], port);
	}
	if (*m->opts->unix_path) {
		struct listener *l = &m->listeners[m->n_listeners];

		rc = fp_listen_unix(m->opts->unix_path, &l->fd, err);
		if (rc)
			return rc;
		l->tcp = false;
		m->n_listeners++;
		(void)lstat(m->opts->unix_path, &m->unix_stat);
		log_info("listening", "address=unix:%s", m->opts->unix_path);
	}
	return first_port ? write_port(m, first_port, err) : 0;
}

static int master_init(struct master *m, struct err *err)
{
	sigset_t mask;
	int rc;

	rc = io_mkdirs(m->opts->run_dir, 0750);
	if (rc)
		return err_errno(err, -rc, "make the run directory '%s'", m->opts->run_dir);
	/* Workers inherit the mask; their loops take SIGTERM and SIGINT from there. */
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &mask, NULL))
		return err_errno(err, errno, "sigprocmask");
	(void)signal(SIGPIPE, SIG_IGN);
	m->sigfd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	return m->sigfd < 0 ? err_errno(err, errno, "signalfd") : 0;
}

static int master_fail(struct master *m, const struct err *err)
{
	fprintf(stderr, "fsb-fastpath: %s\n", err->msg);
	for (int i = 0; i < m->opts->workers; i++) {
		if (m->slots[i].pid)
			kill(m->slots[i].pid, SIGKILL);
	}
	while (waitpid(-1, NULL, 0) > 0)
		;
	stop_listening(m);
	return err->code == -EINVAL || err->code == -EPERM ? FP_EXIT_USAGE : FP_EXIT_FAILED;
}

int fp_master_run(const struct fp_options *opts)
{
	struct master m = {.opts = opts, .pid = getpid(), .pending = -1};
	struct err err = ERR_INIT;

	for (int i = 0; i < opts->workers; i++)
		m.slots[i].sock = -1;
	if (master_init(&m, &err))
		return master_fail(&m, &err);
	spawn_due(&m);
	if (m.in_worker)
		return m.exit_code;
	if (listen_all(&m, &err))
		return master_fail(&m, &err);
	while (!m.in_worker && !(m.stopping && all_gone(&m)))
		loop_once(&m);
	if (m.in_worker)
		return m.exit_code;
	log_info("stopped", "workers=%d", opts->workers);
	return FP_EXIT_OK;
}
