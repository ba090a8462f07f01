/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network namespaces with nothing but loopback. Making one takes about half a millisecond, so a few
 * are kept ready; they are refilled only when no sandbox has been started for a while.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "launcher.h"

int netns_lo_up(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	cleanup_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	return ioctl(fd, SIOCSIFFLAGS, &request) ? -errno : 0;
}

void netns_init(struct launcher *l)
{
	l->netns_home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
}

bool netns_refill(struct launcher *l)
{
	int fd = -1;

	if (l->netns_home < 0 || l->netns_count == SPARES)
		return false;
	if (unshare(CLONE_NEWNET))
		return false;
	if (!netns_lo_up())
		fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	/* Staying in the wrong namespace would hand it to every sandbox with network "shared". */
	base_bug(setns(l->netns_home, CLONE_NEWNET));
	if (fd < 0)
		return false;
	l->netns[l->netns_count++] = fd;
	return true;
}

int netns_take(struct launcher *l)
{
	return l->netns_count ? l->netns[--l->netns_count] : -1;
}
