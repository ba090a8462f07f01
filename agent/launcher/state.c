/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox's record on disk: one file that is appended to as it lives (every new inode costs more
 * than all the writing). What is missing counts as the step before it, and nothing is synced: after
 * a power loss no process is left to find.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/procid.h"
#include "sandbox.h"

enum { STATE_BYTES_MAX = 1 << 20 };

bool state_id_is_valid(const char *id)
{
	size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");

	return n >= 1 && n <= ID_MAX && !id[n] && *id != '.';
}

typedef Fsb__Launcher__V1__StateRecord StateRecord;

static int append(int dirfd, const char *path, int flags, const StateRecord *record)
{
	size_t len;
	cleanup_free void *data = pb_pack(&record->base, &len);
	cleanup_close int fd =
		openat(dirfd, path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | flags, 0640);

	if (!data)
		return -ENOMEM;
	return fd < 0 ? -errno : io_write_full(fd, data, len);
}

static int append_to(struct sandbox *sb, const StateRecord *record)
{
	char path[ID_MAX + 8];

	snprintf(path, sizeof(path), "%s/state", sb->id);
	return append(sb->l->state_fd, path, 0, record);
}

/* ---- directories made ahead of time, with empty files in them ---- */

static void spare_name(int i, char *buf, size_t size)
{
	snprintf(buf, size, "%d", i);
}

static int make_files(int dirfd)
{
	if (mknodat(dirfd, "state", S_IFREG | 0640, 0) || mknodat(dirfd, "log", S_IFREG | 0640, 0))
		return -errno;
	return 0;
}

int state_spares_open(struct launcher *l, const char *path)
{
	int rc = io_remove_tree(AT_FDCWD, path);

	if (!rc)
		rc = io_mkdirs(path, 0700);
	if (rc)
		return rc;
	l->spare_fd = open(path, O_DIRECTORY | O_CLOEXEC);
	return l->spare_fd < 0 ? -errno : 0;
}

bool state_refill(struct launcher *l)
{
	cleanup_close int fd = -1;
	char name[16];

	if (l->spare_count == SPARES)
		return false;
	spare_name(l->spare_count, name, sizeof(name));
	if (mkdirat(l->spare_fd, name, 0750))
		return false;
	fd = openat(l->spare_fd, name, O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || make_files(fd)) {
		(void)io_remove_tree(l->spare_fd, name);
		return false;
	}
	l->spare_count++;
	return true;
}

/* Gives id's directory its place, from the spares or made now. */
static int place_directory(struct launcher *l, const char *id)
{
	char name[16];

	if (l->spare_count) {
		spare_name(l->spare_count - 1, name, sizeof(name));
		if (renameat2(l->spare_fd, name, l->state_fd, id, RENAME_NOREPLACE))
			return -errno;
		l->spare_count--;
		return 0;
	}
	return mkdirat(l->state_fd, id, 0750) ? -errno : 0;
}

int state_create(struct launcher *l, const StartRequest *request)
{
	StateRecord record = FSB__LAUNCHER__V1__STATE_RECORD__INIT;
	Fsb__Agent__V1__SandboxReport report = FSB__AGENT__V1__SANDBOX_REPORT__INIT;
	char path[ID_MAX + 8];
	int rc = place_directory(l, request->meta->id);

	if (rc)
		return rc;
	report.meta = request->meta;
	report.spec = request->spec;
	record.report = &report;
	snprintf(path, sizeof(path), "%s/state", request->meta->id);
	return append(l->state_fd, path, O_CREAT, &record);
}

int state_write_run(struct sandbox *sb)
{
	StateRecord record = FSB__LAUNCHER__V1__STATE_RECORD__INIT;
	Fsb__Launcher__V1__RunRecord run = FSB__LAUNCHER__V1__RUN_RECORD__INIT;
	struct procid process;
	int rc = procid_of(sb->pid, &process);

	/* It may have exited already; then the pid is enough to know that it is gone. */
	if (rc && rc != -ESRCH)
		return rc;
	run.pid = sb->pid;
	run.start_ticks = rc ? 0 : process.start_ticks;
	run.started_unix_ns = sb->started_unix_ns;
	record.run = &run;
	return append_to(sb, &record);
}

int state_write_exit(struct sandbox *sb)
{
	StateRecord record = FSB__LAUNCHER__V1__STATE_RECORD__INIT;

	record.exit = &sb->exit;
	record.stopped = sb->stopped;
	return append_to(sb, &record);
}

int state_read(struct launcher *l, const char *id, struct pb_arena **ret_arena, StateRecord **ret)
{
	cleanup_free char *data = NULL;
	char path[ID_MAX + 8];
	struct pb_arena *arena;
	ProtobufCMessage *msg;
	StateRecord *record;
	size_t len;
	int rc;

	snprintf(path, sizeof(path), "%s/state", id);
	rc = io_read_file(l->state_fd, path, STATE_BYTES_MAX, &data, &len);
	if (!rc)
		rc = pb_unpack(&fsb__launcher__v1__state_record__descriptor, data, len, NULL,
			       &arena, &msg, NULL);
	if (rc)
		return rc;
	record = (StateRecord *)msg;
	if (!record->report || !record->report->meta || strcmp(record->report->meta->id, id)) {
		pb_free(arena);
		return -EBADMSG;
	}
	*ret_arena = arena;
	*ret = record;
	return 0;
}

/* Written anew, since merging would add the labels to the old ones instead of replacing them. */
int state_set_meta(struct launcher *l, const Fsb__V1__SandboxMeta *meta)
{
	union {
		const Fsb__V1__SandboxMeta *in;
		Fsb__V1__SandboxMeta *out; /* the generated struct has no const */
	} borrowed = {.in = meta};
	cleanup_free void *data = NULL;
	struct pb_arena *arena;
	StateRecord *record;
	char path[ID_MAX + 8];
	size_t len;
	int rc = state_read(l, meta->id, &arena, &record);

	if (rc)
		return rc;
	record->report->meta = borrowed.out;
	data = pb_pack(&record->base, &len);
	pb_free(arena);
	snprintf(path, sizeof(path), "%s/state", meta->id);
	return data ? io_write_file_atomic(l->state_fd, path, data, len, 0640, 0) : -ENOMEM;
}
