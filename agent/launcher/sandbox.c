/* SPDX-License-Identifier: Apache-2.0 */
/* The table of sandboxes, their timers, and the way from a main process that has exited to a
 * sandbox that is at rest. */
#include "sandbox.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define DRAIN_FIRST_NS (1 * NS_PER_MS)
#define DRAIN_MAX_NS   (100 * NS_PER_MS)

static unsigned int bucket_of(const char *id)
{
	unsigned int h = 5381;

	for (; *id; id++)
		h = h * 33 + (unsigned char)*id;
	return h % SANDBOX_BUCKETS;
}

struct sandbox *sandbox_find(struct launcher *l, const char *id)
{
	struct sandbox *sb = l->sandboxes[bucket_of(id)];

	while (sb && strcmp(sb->id, id))
		sb = sb->next;
	return sb;
}

struct sandbox *sandbox_new(struct launcher *l, const Fsb__V1__SandboxMeta *meta)
{
	struct sandbox *sb = calloc(1, sizeof(*sb));
	unsigned int bucket = bucket_of(meta->id);

	if (!sb)
		return NULL;
	sb->l = l;
	sb->ns = strdup(meta->namespace_);
	sb->name = strdup(meta->name);
	if (!sb->ns || !sb->name) {
		free(sb->ns);
		free(sb->name);
		free(sb);
		return NULL;
	}
	memcpy(sb->id, meta->id, strlen(meta->id) + 1); /* checked by state_id_is_valid */
	sb->generation = meta->generation;
	sb->process.fd = sb->pipe.fd = sb->cleaner.fd = -1;
	fsb__agent__v1__exit_info__init(&sb->exit);
	sb->next = l->sandboxes[bucket];
	l->sandboxes[bucket] = sb;
	l->sandbox_count++;
	return sb;
}

void sandbox_free(struct sandbox *sb)
{
	struct sandbox **at = &sb->l->sandboxes[bucket_of(sb->id)];

	while (*at != sb)
		at = &(*at)->next;
	*at = sb->next;
	sb->l->sandbox_count--;
	base_bug(sb->waiters);
	watch_close(sb->l, &sb->process);
	watch_close(sb->l, &sb->pipe);
	watch_close(sb->l, &sb->cleaner);
	pb_free(sb->arena);
	free(sb->ns);
	free(sb->name);
	free(sb);
}

void sandbox_describe(const struct sandbox *sb, Fsb__Agent__V1__SandboxReport *report,
		      Fsb__V1__SandboxMeta *meta)
{
	union {
		const struct sandbox *in;
		struct sandbox *out; /* the generated structs have no const */
	} borrowed = {.in = sb};

	fsb__agent__v1__sandbox_report__init(report);
	fsb__v1__sandbox_meta__init(meta);
	meta->id = borrowed.out->id;
	meta->namespace_ = sb->ns;
	meta->name = sb->name;
	meta->generation = sb->generation;
	report->meta = meta;
	report->started_unix_ns = sb->started_unix_ns;
	report->stopped = sb->stopped;
	report->state = sb->state == SB_STARTING || sb->failed
				? FSB__AGENT__V1__REPORT_STATE__STARTING
			: sb->state == SB_EXITED ? FSB__AGENT__V1__REPORT_STATE__EXITED
						 : FSB__AGENT__V1__REPORT_STATE__RUNNING;
	if (sb->ended)
		report->exit = &borrowed.out->exit;
}

void sandbox_notify(const struct sandbox *sb, Fsb__Launcher__V1__NoticeKind kind)
{
	Notice notice = FSB__LAUNCHER__V1__NOTICE__INIT;
	Fsb__Agent__V1__SandboxReport report;
	Fsb__V1__SandboxMeta meta;

	sandbox_describe(sb, &report, &meta);
	notice.kind = kind;
	notice.report = &report;
	conn_send(sb->l, &notice);
}

/* ---- timers ---- */

void sandbox_set_deadline(struct sandbox *sb, uint64_t deadline_ns)
{
	struct launcher *l = sb->l;

	sb->deadline_ns = deadline_ns;
	if (deadline_ns && (!l->next_deadline_ns || deadline_ns < l->next_deadline_ns))
		l->next_deadline_ns = deadline_ns;
}

static void sandbox_deadline(struct sandbox *sb)
{
	sb->deadline_ns = 0;
	if (sb->state == SB_DRAINING) {
		sandbox_drain(sb);
		return;
	}
	if (sb->state == SB_STARTING)
		log_warn("start takes too long", "sandbox=%s", sb->id);
	sandbox_kill(sb);
}

/* Moves on every sandbox whose deadline has passed. One at a time, since each may free itself. */
static struct sandbox *take_due(struct launcher *l, uint64_t now_ns)
{
	uint64_t earliest = 0;

	for (unsigned int i = 0; i < SANDBOX_BUCKETS; i++) {
		for (struct sandbox *sb = l->sandboxes[i]; sb; sb = sb->next) {
			if (sb->deadline_ns && sb->deadline_ns <= now_ns)
				return sb;
			if (sb->deadline_ns && (!earliest || sb->deadline_ns < earliest))
				earliest = sb->deadline_ns;
		}
	}
	l->next_deadline_ns = earliest;
	return NULL;
}

void sandbox_run_timers(struct launcher *l, uint64_t now_ns)
{
	struct sandbox *sb;

	if (!l->next_deadline_ns || l->next_deadline_ns > now_ns)
		return;
	while ((sb = take_due(l, now_ns)))
		sandbox_deadline(sb);
}

/* ---- the end of the main process ---- */

void sandbox_kill(struct sandbox *sb)
{
	if (sb->process.fd >= 0)
		(void)syscall(SYS_pidfd_send_signal, sb->process.fd, SIGKILL, NULL, 0);
}

static void read_exit(struct sandbox *sb)
{
	siginfo_t info = {0};

	sb->exit.finished_unix_ns = clock_unix_ns();
	sb->exit.code = -1;
	if (waitid(P_PIDFD, (id_t)sb->process.fd, &info, WEXITED | WNOHANG) || !info.si_pid)
		sb->exit.unknown = true; /* another launcher's child: init has its status */
	else if (info.si_code == CLD_EXITED)
		sb->exit.code = info.si_status;
	else
		sb->exit.signal = info.si_status;
}

static void on_process_ended(struct launcher *l, struct watch *w, uint32_t events)
{
	struct sandbox *sb = container_of(w, struct sandbox, process);

	read_exit(sb);
	sb->ended = true;
	watch_close(l, w);
	/* While it was starting, the pipe tells how far it came, and goes on from there. */
	if (sb->state != SB_STARTING)
		sandbox_drain(sb);
}

void sandbox_watch_process(struct sandbox *sb, int pidfd)
{
	sb->process.fn = on_process_ended;
	base_bug(watch_add(sb->l, &sb->process, pidfd, EPOLLIN));
}

/* The cgroup is gone, so nothing of it runs any more. */
static void sandbox_drained(struct sandbox *sb)
{
	int rc;

	sandbox_set_deadline(sb, 0);
	if (sb->failed || (sb->stop && !sb->keep_files)) {
		sandbox_clean(sb, CLEAN_ALL);
		return;
	}
	sb->state = SB_EXITED;
	sb->stopped = sb->stop;
	rc = state_write_exit(sb);
	if (rc)
		log_error("exit record not written", "sandbox=%s err=%s", sb->id, strerror(-rc));
	sandbox_notify(sb, FSB__LAUNCHER__V1__NOTICE_KIND__EXITED);
	sandbox_clean(sb, CLEAN_LAYER);
}

void sandbox_drain(struct sandbox *sb)
{
	struct launcher *l = sb->l;

	if (sb->state != SB_DRAINING) {
		sb->state = SB_DRAINING;
		sb->drain_wait_ns = DRAIN_FIRST_NS;
		sb->exit.oom_killed = cgroup_oom_killed(&l->cgroups, sb->id);
	}
	(void)cgroup_kill(&l->cgroups, sb->id);
	if (!cgroup_remove(&l->cgroups, sb->id)) {
		sandbox_drained(sb);
		return;
	}
	sandbox_set_deadline(sb, clock_mono_ns() + sb->drain_wait_ns);
	sb->drain_wait_ns *= 2;
	if (sb->drain_wait_ns > DRAIN_MAX_NS)
		sb->drain_wait_ns = DRAIN_MAX_NS;
}

/* What sandbox_clean had to remove is removed. */
void sandbox_settled(struct sandbox *sb)
{
	if (sb->failed) {
		sandbox_start_failed(sb);
		sandbox_answer_waiters(sb);
		sandbox_free(sb);
		return;
	}
	if (sb->clean_done == CLEAN_ALL || sb->stopped) {
		/* "stopped" in the notice says that files are kept. */
		sb->stopped = sb->clean_done != CLEAN_ALL;
		sandbox_notify(sb, FSB__LAUNCHER__V1__NOTICE_KIND__REMOVED);
	}
	sandbox_answer_waiters(sb);
	if (sb->clean_done == CLEAN_ALL)
		sandbox_free(sb);
}
