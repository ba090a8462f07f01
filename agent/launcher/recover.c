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

static bool recover_exited(struct sandbox *sb)
{
	Fsb__Launcher__V1__ExitRecord *record;
	struct pb_arena *arena;
	ProtobufCMessage *msg;

	if (state_read(sb->l, sb->id, "exit", &fsb__launcher__v1__exit_record__descriptor, &arena,
		       &msg))
		return false;
	record = (Fsb__Launcher__V1__ExitRecord *)msg;
	if (record->exit) {
		sb->exit = *record->exit;
		sb->exit.base.unknown_fields = NULL;
		sb->exit.base.n_unknown_fields = 0;
	}
	sb->stopped = sb->stop = sb->keep_files = record->stopped;
	sb->started_unix_ns = record->started_unix_ns;
	pb_free(arena);
	sb->ended = true;
	sb->state = SB_EXITED;
	(void)cgroup_kill(&sb->l->cgroups, sb->id);
	(void)cgroup_remove(&sb->l->cgroups, sb->id);
	sandbox_clean(sb, CLEAN_LAYER);
	return true;
}

static void recover_running(struct sandbox *sb)
{
	Fsb__Launcher__V1__RunRecord *run = NULL;
	struct pb_arena *arena = NULL;
	ProtobufCMessage *msg;
	int pidfd = -1;

	if (!state_read(sb->l, sb->id, "run", &fsb__launcher__v1__run_record__descriptor, &arena,
			&msg))
		run = (Fsb__Launcher__V1__RunRecord *)msg;
	sb->failed = !run || run->pid <= 0;
	if (!sb->failed) {
		sb->started_unix_ns = run->started_unix_ns;
		sb->pid = run->pid;
		pidfd = open_process(run);
	}
	pb_free(arena);
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

static void recover_one(struct launcher *l, const char *id)
{
	Fsb__Agent__V1__SandboxReport *report;
	struct pb_arena *arena;
	struct sandbox *sb;

	if (state_read_meta(l, id, &arena, &report)) {
		log_warn("half-made state removed", "sandbox=%s", id);
		(void)cgroup_kill(&l->cgroups, id);
		(void)cgroup_remove(&l->cgroups, id);
		(void)io_remove_tree(l->state_fd, id);
		return;
	}
	sb = sandbox_new(l, report->meta);
	pb_free(arena);
	if (!sb)
		log_error("out of memory", "sandbox=%s", id);
	else if (!recover_exited(sb))
		recover_running(sb);
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
