/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removal of a sandbox's files. A few files are removed at once; a large tree is left to a forked
 * child, so that no other sandbox waits for it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "sandbox.h"

enum { INLINE_ENTRIES_MAX = 300, INLINE_DEPTH_MAX = 16 };

/* Takes the entries below path off the budget; below 0: there are more. */
static void count_entries(int dirfd, const char *path, int depth, int *budget)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_closedir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	if (depth > INLINE_DEPTH_MAX)
		*budget = -1;
	while (*budget >= 0 && (entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		(*budget)--;
		if (entry->d_type == DT_DIR)
			count_entries(fd, entry->d_name, depth + 1, budget);
	}
}

static int remove_files(struct sandbox *sb, enum sandbox_clean what)
{
	char path[ID_MAX + 8];
	int rc, rc2;

	if (what == CLEAN_ALL)
		return io_remove_tree(sb->l->state_fd, sb->id);
	snprintf(path, sizeof(path), "%s/upper", sb->id);
	rc = io_remove_tree(sb->l->state_fd, path);
	snprintf(path, sizeof(path), "%s/work", sb->id);
	rc2 = io_remove_tree(sb->l->state_fd, path);
	return rc ? rc : rc2;
}

static void log_failure(const struct sandbox *sb, int rc)
{
	if (rc)
		log_error("files not removed", "sandbox=%s err=%s", sb->id, strerror(-rc));
}

static void on_cleaner_ended(struct launcher *l, struct watch *w, uint32_t events)
{
	struct sandbox *sb = container_of(w, struct sandbox, cleaner);
	siginfo_t info = {0};

	if (waitid(P_PIDFD, (id_t)w->fd, &info, WEXITED | WNOHANG) || info.si_status)
		log_failure(sb, -EIO);
	watch_close(l, w);
	sb->clean_done = sb->clean_now;
	sandbox_clean(sb, sb->clean_want);
}

static int fork_cleaner(struct sandbox *sb)
{
	int pidfd = -1;
	struct clone_args args = {
		.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD};
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid < 0)
		return -errno;
	if (!pid)
		_exit(remove_files(sb, sb->clean_now) ? 1 : 0);
	sb->cleaner.fn = on_cleaner_ended;
	return watch_add(sb->l, &sb->cleaner, pidfd, EPOLLIN);
}

void sandbox_clean(struct sandbox *sb, enum sandbox_clean want)
{
	int budget = INLINE_ENTRIES_MAX;

	if (want > sb->clean_want)
		sb->clean_want = want;
	if (sb->cleaner.fd >= 0)
		return; /* comes back here when it has ended */
	if (sb->clean_done < sb->clean_want) {
		sb->clean_now = sb->clean_want;
		count_entries(sb->l->state_fd, sb->id, 0, &budget);
		if (budget < 0 && !fork_cleaner(sb))
			return;
		log_failure(sb, remove_files(sb, sb->clean_now));
		sb->clean_done = sb->clean_now;
	}
	sandbox_settled(sb);
}
