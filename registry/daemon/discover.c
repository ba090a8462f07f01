/* SPDX-License-Identifier: Apache-2.0 */
/* Agents of this host are found by their sockets: RUN_DIR/agents/NAME.sock, seen by inotify and by
 * one walk at the start. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "daemon.h"

struct rd_discover {
	int fd;
	struct gloop_fd *watch;
	char dir[PATH_MAX]; /* absolute: workers of another directory dial what stands in the arena
			     */
};

static bool is_socket_name(const char *name)
{
	size_t len = strlen(name);

	return len > 5 && strcmp(name + len - 5, ".sock") == 0;
}

static void found(struct rd_daemon *d, const char *name)
{
	char address[PATH_MAX + NAME_MAX + 8];

	if (!is_socket_name(name))
		return;
	snprintf(address, sizeof(address), "unix:%s/%s", d->discover->dir, name);
	rd_agent_add(d, address, false);
}

static void vanished(struct rd_daemon *d, const char *name)
{
	char address[PATH_MAX + NAME_MAX + 8];

	if (!is_socket_name(name))
		return;
	snprintf(address, sizeof(address), "unix:%s/%s", d->discover->dir, name);
	rd_agent_socket_gone(d, address);
}

static void walk(struct rd_daemon *d)
{
	cleanup_closedir DIR *dir = opendir(d->discover->dir);
	const struct dirent *e;

	while (dir && (e = readdir(dir)))
		found(d, e->d_name);
}

static void on_readable(void *arg, int fd)
{
	struct rd_daemon *d = arg;
	_Alignas(struct inotify_event) char buf[16384];
	ssize_t n = read(fd, buf, sizeof(buf));

	for (ssize_t off = 0; off < n;) {
		const struct inotify_event *e = (const struct inotify_event *)(buf + off);

		if (e->mask & IN_Q_OVERFLOW)
			walk(d);
		else if (e->len && (e->mask & (IN_DELETE | IN_MOVED_FROM)))
			vanished(d, e->name);
		else if (e->len)
			found(d, e->name);
		off += (ssize_t)(sizeof(*e) + e->len);
	}
}

int rd_discover_start(struct rd_daemon *d, struct err *err)
{
	struct rd_discover *s = calloc(1, sizeof(*s));
	char dir[PATH_MAX];
	int r;

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	d->discover = s;
	s->fd = -1;
	snprintf(dir, sizeof(dir), "%s/agents", d->options->run_dir);
	r = io_mkdirs(dir, 0750);
	if (r < 0)
		return err_errno(err, -r, "make directory '%s'", dir);
	if (!realpath(dir, s->dir))
		return err_errno(err, errno, "resolve '%s'", dir);
	s->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (s->fd < 0)
		return err_errno(err, errno, "inotify_init1");
	if (inotify_add_watch(s->fd, s->dir, IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM) <
	    0)
		return err_errno(err, errno, "watch '%s'", s->dir);
	s->watch = gloop_fd_add(d->loop, s->fd, on_readable, d, err);
	if (!s->watch)
		return err_wrap(err, "watch '%s'", s->dir);
	walk(d); /* after the watch: what appears in between is seen twice, not never */
	return 0;
}

void rd_discover_stop(struct rd_daemon *d)
{
	struct rd_discover *s = d->discover;

	if (!s)
		return;
	if (s->watch)
		gloop_fd_del(s->watch);
	if (s->fd >= 0)
		close(s->fd);
	free(s);
	d->discover = NULL;
}
