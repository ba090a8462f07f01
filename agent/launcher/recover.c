/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a launcher finds when it starts: sandboxes of its predecessor. Running ones are watched
 * again (their exit codes can't be known: init is their parent now), exited ones are kept,
 * half-started ones, which nobody was told of, are removed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/procid.h"
#include "sandbox.h"

/* A pidfd of exactly that process, or -1. */
static int open_process(const Fsb__Launcher__V1__RunRecord *run)
{
	struct procid process = {.pid = run->pid, .start_ticks = run->start_ticks};
	cleanup_close int fd = -1;

	if (run->pid <= 0 || !run->start_ticks)
		return -1;
	fd = (int)syscall(SYS_pidfd_open, run->pid, 0);
	/* Asked after opening: the fd can't change its process any more. */
	return fd >= 0 && procid_alive(&process) ? take_fd(&fd) : -1;
}

static void recover_exited(struct sandbox *sb, const Fsb__Launcher__V1__StateRecord *record)
{
	sb->exit.code = record->exit->code;
	sb->exit.signal = record->exit->signal;
	sb->exit.oom_killed = record->exit->oom_killed;
	sb->exit.unknown = record->exit->unknown;
	sb->exit.finished_unix_ns = record->exit->finished_unix_ns;
	sb->stopped = sb->stop = sb->keep_files = record->stopped;
	sb->ended = true;
	sb->state = SB_EXITED;
	(void)cgroup_kill(&sb->l->cgroups, sb->id);
	(void)cgroup_remove(&sb->l->cgroups, sb->id);
	sandbox_clean(sb, CLEAN_LAYER);
}

static void recover_running(struct sandbox *sb, const Fsb__Launcher__V1__RunRecord *run)
{
	int pidfd = run ? open_process(run) : -1;

	sb->failed = !run || run->pid <= 0;
	if (run)
		sb->pid = run->pid;
	if (pidfd >= 0) {
		sb->state = SB_RUNNING;
		sandbox_watch_process(sb, pidfd);
		return;
	}
	sb->ended = true;
	sb->exit.unknown = true;
	sb->exit.code = -1;
	sb->exit.finished_unix_ns = clock_unix_ns();
	sandbox_drain(sb);
}

static void remove_half_made(struct launcher *l, const char *id)
{
	log_warn("half-made state removed", "sandbox=%s", id);
	(void)cgroup_kill(&l->cgroups, id);
	(void)cgroup_remove(&l->cgroups, id);
	(void)io_remove_tree(l->state_fd, id);
}

static void recover_one(struct launcher *l, const char *id)
{
	Fsb__Launcher__V1__StateRecord *record;
	struct pb_arena *arena;
	struct sandbox *sb;

	if (state_read(l, id, &arena, &record)) {
		remove_half_made(l, id);
		return;
	}
	sb = sandbox_new(l, record->report->meta);
	if (!sb) {
		log_error("out of memory", "sandbox=%s", id);
	} else {
		if (record->run)
			sb->started_unix_ns = record->run->started_unix_ns;
		if (record->exit)
			recover_exited(sb, record);
		else
			recover_running(sb, record->run);
	}
	pb_free(arena);
}

void recover_all(struct launcher *l)
{
	int fd = openat(l->state_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_closedir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (entry->d_type == DT_DIR && state_id_is_valid(entry->d_name))
			recover_one(l, entry->d_name);
	}
	log_info("state read", "sandboxes=%u", l->sandbox_count);
}
