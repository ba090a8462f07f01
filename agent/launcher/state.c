/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox's records: "meta" (what it is, before its child exists), "run" (its process, once
 * exec'ed), "exit". A torn or missing file counts as the step before it, so nothing here is synced:
 * after a power loss no process is left to find.
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

enum { META_BYTES_MAX = 1 << 20 };

bool state_id_is_valid(const char *id)
{
	size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");

	return n >= 1 && n <= ID_MAX && !id[n] && *id != '.';
}

static int write_new(int dirfd, const char *file, const ProtobufCMessage *msg)
{
	size_t len;
	cleanup_free void *data = pb_pack(msg, &len);
	cleanup_close int fd =
		openat(dirfd, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);

	if (!data)
		return -ENOMEM;
	return fd < 0 ? -errno : io_write_full(fd, data, len);
}

static int write_atomic(struct launcher *l, const char *id, const char *file,
			const ProtobufCMessage *msg)
{
	size_t len;
	cleanup_free void *data = pb_pack(msg, &len);
	char path[ID_MAX + 16];

	snprintf(path, sizeof(path), "%s/%s", id, file);
	return data ? io_write_file_atomic(l->state_fd, path, data, len, 0640, 0) : -ENOMEM;
}

int state_create(struct launcher *l, const StartRequest *request, int *ret_dirfd)
{
	Fsb__Agent__V1__SandboxReport report = FSB__AGENT__V1__SANDBOX_REPORT__INIT;
	const char *id = request->meta->id;
	cleanup_close int fd = -1;
	int rc;

	if (mkdirat(l->state_fd, id, 0750))
		return -errno;
	fd = openat(l->state_fd, id, O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	report.meta = request->meta;
	report.spec = request->spec;
	rc = write_new(fd, "meta", &report.base);
	if (rc)
		return rc;
	*ret_dirfd = take_fd(&fd);
	return 0;
}

int state_write_run(struct sandbox *sb)
{
	Fsb__Launcher__V1__RunRecord record = FSB__LAUNCHER__V1__RUN_RECORD__INIT;
	struct procid process;
	char path[ID_MAX + 8];
	int rc = procid_of(sb->pid, &process);

	/* It may have exited already; then the pid is enough to know that it is gone. */
	if (rc && rc != -ESRCH)
		return rc;
	record.pid = sb->pid;
	record.start_ticks = rc ? 0 : process.start_ticks;
	record.started_unix_ns = sb->started_unix_ns;
	snprintf(path, sizeof(path), "%s/run", sb->id);
	return write_new(sb->l->state_fd, path, &record.base);
}

int state_write_exit(struct sandbox *sb)
{
	Fsb__Launcher__V1__ExitRecord record = FSB__LAUNCHER__V1__EXIT_RECORD__INIT;

	record.exit = &sb->exit;
	record.stopped = sb->stopped;
	record.started_unix_ns = sb->started_unix_ns;
	return write_atomic(sb->l, sb->id, "exit", &record.base);
}

int state_read(struct launcher *l, const char *id, const char *file,
	       const ProtobufCMessageDescriptor *desc, struct pb_arena **ret_arena,
	       ProtobufCMessage **ret)
{
	cleanup_free char *data = NULL;
	char path[ID_MAX + 16];
	size_t len;
	int rc;

	snprintf(path, sizeof(path), "%s/%s", id, file);
	rc = io_read_file(l->state_fd, path, META_BYTES_MAX, &data, &len);
	return rc ? rc : pb_unpack(desc, data, len, NULL, ret_arena, ret, NULL);
}

int state_read_meta(struct launcher *l, const char *id, struct pb_arena **ret_arena,
		    Fsb__Agent__V1__SandboxReport **ret)
{
	ProtobufCMessage *msg;
	struct pb_arena *arena;
	Fsb__Agent__V1__SandboxReport *report;
	int rc = state_read(l, id, "meta", &fsb__agent__v1__sandbox_report__descriptor, &arena,
			    &msg);

	if (rc)
		return rc;
	report = (Fsb__Agent__V1__SandboxReport *)msg;
	if (!report->meta || strcmp(report->meta->id, id)) {
		pb_free(arena);
		return -EBADMSG;
	}
	*ret_arena = arena;
	*ret = report;
	return 0;
}

int state_set_meta(struct launcher *l, const Fsb__V1__SandboxMeta *meta)
{
	Fsb__Agent__V1__SandboxReport *report;
	union {
		const Fsb__V1__SandboxMeta *in;
		Fsb__V1__SandboxMeta *out; /* the generated struct has no const */
	} borrowed = {.in = meta};
	struct pb_arena *arena;
	int rc = state_read_meta(l, meta->id, &arena, &report);

	if (rc)
		return rc;
	report->meta = borrowed.out;
	rc = write_atomic(l, meta->id, "meta", &report->base);
	pb_free(arena);
	return rc;
}
