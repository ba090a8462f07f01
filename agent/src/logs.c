/* SPDX-License-Identifier: Apache-2.0 */
/* The Logs method: a sandbox's log file from its start, followed by inotify. A slow reader is
 * waited for, nothing is buffered. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "agent.h"
#include "base/cleanup.h"
#include "base/log.h"

enum { CHUNK_BYTES = 64 << 10, QUEUE_BYTES_MAX = 512 << 10, STREAMS_MAX = 1024 };

struct stream {
	struct stream *next;
	struct agt_logs *logs;
	struct gcall *call;
	char id[ID_MAX + 1];
	int fd, wd; /* wd: -1 when not following */
};

struct agt_logs {
	struct agent *a;
	struct stream *streams;
	unsigned int count;
	int inotify_fd;
	struct gloop_fd *watch;
};

static void stream_finish(struct stream *s, int status, const char *why)
{
	struct stream **at = &s->logs->streams;
	bool shared = false;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	s->logs->count--;
	for (struct stream *o = s->logs->streams; o; o = o->next)
		shared |= o->wd == s->wd;
	if (s->wd >= 0 && !shared)
		(void)inotify_rm_watch(s->logs->inotify_fd, s->wd);
	gcall_set_user(s->call, NULL, NULL);
	gcall_finish(s->call, status, "%s", why);
	close(s->fd);
	free(s);
}

static bool has_ended(struct agent *a, const char *id)
{
	const struct agt_sandbox *sb = agt_sandbox_find(a, id);

	return !sb || sb->report->state == STATE(EXITED);
}

/* Sends what there is while the peer keeps up; finishes at the end of a log that will not grow. */
static void stream_pump(struct stream *s)
{
	static uint8_t chunk[CHUNK_BYTES];
	/* Asked before reading: what is written before the end is read then. */
	bool last = s->wd < 0 || has_ended(s->logs->a, s->id);

	while (gcall_queued_bytes(s->call) < QUEUE_BYTES_MAX) {
		Fsb__Agent__V1__LogsChunk msg = FSB__AGENT__V1__LOGS_CHUNK__INIT;
		ssize_t n = read(s->fd, chunk, sizeof(chunk));

		if (n < 0) {
			stream_finish(s, G_INTERNAL, strerror(errno));
			return;
		}
		if (n == 0) {
			if (last)
				stream_finish(s, G_OK, "");
			return;
		}
		msg.data = (ProtobufCBinaryData){.len = (size_t)n, .data = chunk};
		if (gcall_send(s->call, &msg.base))
			return; /* on_cancel comes */
	}
}

static void on_drained(struct gcall *call)
{
	struct stream *s = gcall_user(call);

	if (s)
		stream_pump(s);
}

static void on_cancel(struct gcall *call)
{
	stream_finish(gcall_user(call), G_CANCELLED, "");
}

static void pump_watch(struct agt_logs *logs, int wd)
{
	struct stream *next;

	for (struct stream *s = logs->streams; s; s = next) {
		next = s->next;
		if (s->wd == wd)
			stream_pump(s);
	}
}

static void on_inotify(void *arg, int fd)
{
	char buf[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n = read(fd, buf, sizeof(buf));
	int previous = -1;

	for (char *at = buf; n > 0 && at < buf + n;) {
		const struct inotify_event *event = (const void *)at;

		if (event->wd != previous)
			pump_watch(arg, event->wd);
		previous = event->wd;
		at += sizeof(*event) + event->len;
	}
}

void agt_logs_sandbox_ended(struct agent *a, const char *id)
{
	struct stream *next;

	for (struct stream *s = a->logs->streams; s; s = next) {
		next = s->next;
		if (strcmp(s->id, id))
			continue;
		s->wd = -1; /* no more writes: the next end of file is the last */
		stream_pump(s);
	}
}

static int stream_open(struct agent *a, const Fsb__Agent__V1__LogsRequest *request,
		       struct stream *s)
{
	char path[400];

	if (!agt_sandbox_find(a, request->id))
		return -ENOENT;
	snprintf(path, sizeof(path), "%s/%s/log", a->state_dir, request->id);
	s->fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (s->fd < 0)
		return -errno;
	if (!request->follow)
		return 0;
	s->wd = inotify_add_watch(a->logs->inotify_fd, path, IN_MODIFY);
	return s->wd < 0 ? -errno : 0;
}

void agt_logs_call(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__Agent__V1__LogsRequest *request = (const Fsb__Agent__V1__LogsRequest *)msg;
	struct agent *a = gserver_ctx(gcall_server(call));
	struct stream *s;
	int rc;

	if (a->ending || a->logs->count >= STREAMS_MAX) {
		gcall_fail(call, G_RESOURCE_EXHAUSTED, "%u logs are being read: at most %d can be",
			   a->logs->count, STREAMS_MAX);
		return;
	}
	s = calloc(1, sizeof(*s));
	if (s)
		*s = (struct stream){.logs = a->logs, .call = call, .fd = -1, .wd = -1};
	rc = s ? stream_open(a, request, s) : -ENOMEM;
	if (rc) {
		gcall_fail(call, rc == -ENOENT ? G_NOT_FOUND : G_INTERNAL,
			   "log of sandbox '%.64s' on agent '%s': %s", request->id, a->name,
			   rc == -ENOENT ? "there is no such sandbox here" : strerror(-rc));
		if (s && s->fd >= 0)
			close(s->fd);
		free(s);
		return;
	}
	snprintf(s->id, sizeof(s->id), "%s", request->id);
	s->next = a->logs->streams;
	a->logs->streams = s;
	a->logs->count++;
	gcall_set_user(call, s, on_cancel);
	gcall_set_on_drained(call, on_drained);
	stream_pump(s);
}

int agt_logs_open(struct agent *a, struct err *err)
{
	struct agt_logs *logs = calloc(1, sizeof(*logs));

	if (!logs)
		return err_set(err, -ENOMEM, "out of memory");
	a->logs = logs;
	logs->a = a;
	logs->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (logs->inotify_fd < 0)
		return err_errno(err, errno, "inotify");
	logs->watch = gloop_fd_add(a->loop, logs->inotify_fd, on_inotify, logs, err);
	return logs->watch ? 0 : -ENOMEM;
}

void agt_logs_end_streams(struct agent *a)
{
	while (a->logs && a->logs->streams)
		stream_finish(a->logs->streams, G_UNAVAILABLE, "the agent is ending");
}

void agt_logs_close(struct agent *a)
{
	struct agt_logs *logs = a->logs;

	if (!logs)
		return;
	agt_logs_end_streams(a);
	if (logs->watch)
		gloop_fd_del(logs->watch);
	cleanup_closep(&logs->inotify_fd);
	free(logs);
	a->logs = NULL;
}
