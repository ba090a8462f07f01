/* SPDX-License-Identifier: Apache-2.0 */
/* Stop and Remove: TERM, grace, KILL, and the requests that wait for the end of it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "sandbox.h"

enum { GRACE_DEFAULT_S = 10, GRACE_MAX_S = 3600 };

static void waiter_add(struct sandbox *sb, uint64_t seq)
{
	struct waiter *w = malloc(sizeof(*w));

	if (!w) {
		conn_reply(sb->l, conn_serial(sb->l), seq, ACK(RESOURCES),
			   "the launcher is out of memory");
		return;
	}
	*w = (struct waiter){.next = sb->waiters, .serial = conn_serial(sb->l), .seq = seq};
	sb->waiters = w;
}

void sandbox_answer_waiters(struct sandbox *sb)
{
	struct waiter *w;

	while ((w = sb->waiters)) {
		sb->waiters = w->next;
		conn_reply(sb->l, w->serial, w->seq, ACK(OK), "");
		free(w);
	}
}

/* One of the signal masks of /proc/PID/status; 0 when it can't be read. */
static uint64_t signal_mask(const char *status, const char *name)
{
	const char *at = strstr(status, name);

	return at ? strtoull(at + strlen(name), NULL, 16) : 0;
}

/*
 * The kernel discards a TERM that the init of a pid namespace has no handler for: waiting for it
 * would be in vain. One that ignores TERM on purpose gets its grace.
 */
static bool heeds_term(pid_t pid)
{
	cleanup_free char *status = NULL;
	char path[64];
	uint64_t term = UINT64_C(1) << (SIGTERM - 1);

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (io_read_file(AT_FDCWD, path, 65536, &status, NULL))
		return false;
	return (signal_mask(status, "SigCgt:\t") | signal_mask(status, "SigIgn:\t")) & term;
}

static void terminate(struct sandbox *sb, int32_t grace_s)
{
	uint64_t deadline;

	if (grace_s == 0)
		grace_s = GRACE_DEFAULT_S;
	if (grace_s > GRACE_MAX_S)
		grace_s = GRACE_MAX_S;
	if (grace_s < 0 || !heeds_term(sb->pid)) {
		sandbox_kill(sb);
		return;
	}
	deadline = clock_mono_ns() + (uint64_t)grace_s * NS_PER_S;
	if (!sb->deadline_ns)
		(void)syscall(SYS_pidfd_send_signal, sb->process.fd, SIGTERM, NULL, 0);
	if (!sb->deadline_ns || deadline < sb->deadline_ns)
		sandbox_set_deadline(sb, deadline);
}

void sandbox_stop(struct sandbox *sb, uint64_t seq, int32_t grace_s, bool keep_files)
{
	if (!sb->stop)
		sb->keep_files = keep_files;
	sb->keep_files = sb->keep_files && keep_files;
	sb->stop = true;
	waiter_add(sb, seq);
	switch (sb->state) {
	case SB_STARTING:
		sandbox_kill(sb);
		break;
	case SB_RUNNING:
		terminate(sb, grace_s);
		break;
	case SB_DRAINING:
		break;
	case SB_EXITED:
		if (sb->keep_files && !sb->stopped) {
			sb->stopped = true;
			(void)state_write_exit(sb);
		}
		sandbox_clean(sb, sb->keep_files ? CLEAN_LAYER : CLEAN_ALL);
		break;
	}
}

void sandbox_remove(struct sandbox *sb, uint64_t seq)
{
	char message[160];

	if (sb->state != SB_EXITED) {
		snprintf(message, sizeof(message),
			 "sandbox '%s' (%s) is still running: stop it first", sb->name, sb->id);
		conn_reply(sb->l, conn_serial(sb->l), seq, ACK(STILL_RUNNING), message);
		return;
	}
	waiter_add(sb, seq);
	sandbox_clean(sb, CLEAN_ALL);
}
