/* SPDX-License-Identifier: Apache-2.0 */
/* Process identity from /proc/PID/stat. */
#include "base/procid.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

/* The stat line into buf. It fits: 52 numbers and a name of at most 64 bytes. */
static int read_stat(pid_t pid, char *buf, size_t size)
{
	cleanup_close int fd = -1;
	char path[32];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	n = read(fd, buf, size - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return 0;
}

int procid_of(pid_t pid, struct procid *ret)
{
	unsigned long long start;
	char buf[1536], *p, state;
	int r;

	if (pid <= 0)
		return -ESRCH;
	r = read_stat(pid, buf, sizeof(buf));
	if (r < 0)
		return r;
	p = strrchr(buf, ')'); /* the name before it may hold anything */
	if (!p || p[1] != ' ' || p[2] == '\0')
		return -EPROTO;
	state = p[2];
	if (state == 'Z' || state == 'X' || state == 'x')
		return -ESRCH;
	p += 2;
	for (int field = 3; field < 22; field++) {
		p = strchr(p, ' ');
		if (!p)
			return -EPROTO;
		p++;
	}
	errno = 0;
	start = strtoull(p, NULL, 10);
	if (errno)
		return -EPROTO;
	*ret = (struct procid){.pid = pid, .start_ticks = start};
	return 0;
}

bool procid_alive(const struct procid *id)
{
	struct procid now;

	return procid_of(id->pid, &now) == 0 && now.start_ticks == id->start_ticks;
}
