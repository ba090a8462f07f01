/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals and readable fds: one helper thread sits in epoll_wait and hands what is ready to the
 * loop. Watches are one-shot in epoll and armed again after their handler, which gives
 * level-triggered behaviour without spinning while a handler runs late.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "gint.h"

#define SIGNALS 64

struct gloop_fd {
	struct gwatcher *watcher;
	struct gloop_fd *next; /* in the ready list or in the dead list */
	int fd;
	void (*fn)(void *arg, int fd);
	void *arg;
	bool ready;   /* in the ready list; under mu */
	bool serving; /* its handler runs; loop's thread only */
	bool dead;    /* deleted; under mu */
};

struct gsignal {
	void (*fn)(void *arg, int signo);
	void *arg;
};

struct gwatcher {
	struct gloop *loop;
	int epoll_fd, signal_fd, quit_fd;
	pthread_t thread;
	sigset_t signals;
	struct gsignal handlers[SIGNALS + 1]; /* loop's thread only */

	pthread_mutex_t mu; /* guards what follows */
	uint64_t pending;   /* bit signo - 1 */
	struct gloop_fd *ready, *ready_tail;
	size_t ready_count;
	struct gloop_fd
		*dead; /* freed by the helper when it holds no event of an older epoll_wait */
};

/* ---- the helper thread ---- */

static void watcher_bury(struct gwatcher *watcher)
{
	struct gloop_fd *dead;

	(void)pthread_mutex_lock(&watcher->mu);
	dead = watcher->dead;
	watcher->dead = NULL;
	(void)pthread_mutex_unlock(&watcher->mu);
	while (dead) {
		struct gloop_fd *next = dead->next;

		free(dead);
		dead = next;
	}
}

static void watcher_read_signals(struct gwatcher *watcher)
{
	struct signalfd_siginfo info;

	while (read(watcher->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		(void)pthread_mutex_lock(&watcher->mu);
		if (info.ssi_signo >= 1 && info.ssi_signo <= SIGNALS)
			watcher->pending |= UINT64_C(1) << (info.ssi_signo - 1);
		(void)pthread_mutex_unlock(&watcher->mu);
	}
}

static void watcher_add_ready(struct gwatcher *watcher, struct gloop_fd *watch)
{
	(void)pthread_mutex_lock(&watcher->mu);
	if (!watch->dead && !watch->ready) {
		watch->ready = true;
		watch->next = NULL;
		if (watcher->ready)
			watcher->ready_tail->next = watch;
		else
			watcher->ready = watch;
		watcher->ready_tail = watch;
		watcher->ready_count++;
	}
	(void)pthread_mutex_unlock(&watcher->mu);
}

static void *watcher_thread(void *arg)
{
	struct gwatcher *watcher = arg;
	struct epoll_event events[32];

	for (;;) {
		int n;

		watcher_bury(watcher);
		n = epoll_wait(watcher->epoll_fd, events, 32, -1);
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == &watcher->quit_fd)
				return NULL;
			if (events[i].data.ptr == &watcher->signal_fd)
				watcher_read_signals(watcher);
			else
				watcher_add_ready(watcher, events[i].data.ptr);
		}
		if (n > 0)
			gloop__wake(watcher->loop);
	}
}

/* ---- the loop's side ---- */

static void watch_bury(struct gloop_fd *watch)
{
	struct gwatcher *watcher = watch->watcher;

	(void)pthread_mutex_lock(&watcher->mu);
	watch->next = watcher->dead;
	watcher->dead = watch;
	(void)pthread_mutex_unlock(&watcher->mu);
}

static void watch_serve(struct gloop_fd *watch)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = watch};

	if (!watch->dead) {
		watch->serving = true;
		watch->fn(watch->arg, watch->fd);
		watch->serving = false;
	}
	if (watch->dead)
		watch_bury(watch);
	else
		(void)epoll_ctl(watch->watcher->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
}

static struct gloop_fd *watcher_next_ready(struct gwatcher *watcher)
{
	struct gloop_fd *watch;

	(void)pthread_mutex_lock(&watcher->mu);
	watch = watcher->ready;
	if (watch) {
		watcher->ready = watch->next;
		watcher->ready_count--;
		watch->ready = false;
	}
	(void)pthread_mutex_unlock(&watcher->mu);
	return watch;
}

void gwatcher__serve(struct gwatcher *watcher)
{
	uint64_t pending;
	size_t count;

	if (!watcher)
		return;
	(void)pthread_mutex_lock(&watcher->mu);
	pending = watcher->pending;
	watcher->pending = 0;
	count = watcher->ready_count; /* what becomes ready again meanwhile wakes the loop again */
	(void)pthread_mutex_unlock(&watcher->mu);
	for (int signo = 1; signo <= SIGNALS; signo++) {
		struct gsignal *handler = &watcher->handlers[signo];

		if ((pending >> (signo - 1) & 1) && handler->fn)
			handler->fn(handler->arg, signo);
	}
	while (count--) {
		struct gloop_fd *watch = watcher_next_ready(watcher);

		if (!watch)
			break;
		watch_serve(watch);
	}
}

static int watcher_add(struct gwatcher *watcher, int fd, void *ptr)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = ptr};

	return epoll_ctl(watcher->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int watcher_start(struct gwatcher *watcher)
{
	sigset_t all, old;
	int r;

	watcher->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	watcher->signal_fd = signalfd(-1, &watcher->signals, SFD_CLOEXEC | SFD_NONBLOCK);
	watcher->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (watcher->epoll_fd < 0 || watcher->signal_fd < 0 || watcher->quit_fd < 0)
		return -errno;
	r = watcher_add(watcher, watcher->signal_fd, &watcher->signal_fd);
	if (r == 0)
		r = watcher_add(watcher, watcher->quit_fd, &watcher->quit_fd);
	if (r < 0)
		return r;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&watcher->thread, NULL, watcher_thread, watcher);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

static void watcher_close(struct gwatcher *watcher)
{
	cleanup_closep(&watcher->epoll_fd);
	cleanup_closep(&watcher->signal_fd);
	cleanup_closep(&watcher->quit_fd);
	(void)pthread_mutex_destroy(&watcher->mu);
	free(watcher);
}

/* The loop's watcher, made at first use. NULL and err when it can't be. */
static struct gwatcher *watcher_get(struct gloop *loop, struct err *err)
{
	struct gwatcher **slot = gloop__watcher(loop);
	struct gwatcher *watcher;
	int r;

	if (*slot)
		return *slot;
	watcher = calloc(1, sizeof(*watcher));
	if (!watcher) {
		(void)err_set(err, -ENOMEM, "out of memory for the loop's watcher");
		return NULL;
	}
	watcher->loop = loop;
	(void)sigemptyset(&watcher->signals);
	(void)pthread_mutex_init(&watcher->mu, NULL);
	r = watcher_start(watcher);
	if (r < 0) {
		(void)err_errno(err, -r, "start the loop's watcher thread");
		watcher_close(watcher);
		return NULL;
	}
	*slot = watcher;
	return watcher;
}

struct gwatcher *gwatcher__free(struct gwatcher *watcher)
{
	uint64_t one = 1;

	if (!watcher)
		return NULL;
	base_bug(write(watcher->quit_fd, &one, sizeof(one)) != (ssize_t)sizeof(one));
	(void)pthread_join(watcher->thread, NULL);
	while (watcher->ready) {
		struct gloop_fd *watch = watcher_next_ready(watcher);

		base_bug(!watch->dead);
		watch_bury(watch);
	}
	watcher_bury(watcher);
	watcher_close(watcher);
	return NULL;
}

int gloop_on_signal(struct gloop *loop, int signo, void (*fn)(void *arg, int signo), void *arg,
		    struct err *err)
{
	struct gwatcher *watcher;
	sigset_t one;

	if (signo < 1 || signo > SIGNALS)
		return err_set(err, -EINVAL, "signal %d is not in 1..%d", signo, SIGNALS);
	watcher = watcher_get(loop, err);
	if (!watcher)
		return err ? err->code : -ENOMEM;
	(void)sigemptyset(&one);
	(void)sigaddset(&one, signo);
	(void)pthread_sigmask(SIG_BLOCK, &one, NULL);
	watcher->handlers[signo] = (struct gsignal){.fn = fn, .arg = arg};
	(void)sigaddset(&watcher->signals, signo);
	if (signalfd(watcher->signal_fd, &watcher->signals, SFD_CLOEXEC | SFD_NONBLOCK) < 0)
		return err_errno(err, errno, "watch signal %d", signo);
	return 0;
}

struct gloop_fd *gloop_fd_add(struct gloop *loop, int fd, void (*fn)(void *arg, int fd), void *arg,
			      struct err *err)
{
	struct gwatcher *watcher = watcher_get(loop, err);
	cleanup_free struct gloop_fd *watch = calloc(1, sizeof(*watch));
	struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = watch};

	if (!watcher)
		return NULL;
	if (!watch) {
		(void)err_set(err, -ENOMEM, "out of memory to watch fd %d", fd);
		return NULL;
	}
	*watch = (struct gloop_fd){.watcher = watcher, .fd = fd, .fn = fn, .arg = arg};
	if (epoll_ctl(watcher->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		(void)err_errno(err, errno, "watch fd %d", fd);
		return NULL;
	}
	return take_ptr(watch);
}

struct gloop_fd *gloop_fd_del(struct gloop_fd *watch)
{
	struct gwatcher *watcher;
	bool idle;

	if (!watch)
		return NULL;
	watcher = watch->watcher;
	(void)epoll_ctl(watcher->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	(void)pthread_mutex_lock(&watcher->mu);
	watch->dead = true;
	idle = !watch->ready && !watch->serving;
	(void)pthread_mutex_unlock(&watcher->mu);
	if (idle) /* else whoever serves the ready list buries it */
		watch_bury(watch);
	return NULL;
}
