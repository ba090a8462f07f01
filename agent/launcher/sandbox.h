/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One sandbox as the launcher sees it: STARTING (child on its way to exec) -> RUNNING -> DRAINING
 * (main process gone, cgroup being emptied) -> EXITED (log and exit record remain) -> gone. A
 * failed start goes from DRAINING to gone.
 */
#ifndef AGENT_LAUNCHER_SANDBOX_H
#define AGENT_LAUNCHER_SANDBOX_H

#include "child.h"
#include "launcher.h"

enum sandbox_state { SB_STARTING, SB_RUNNING, SB_DRAINING, SB_EXITED };

/* How much of the state directory shall be, or is, removed. */
enum sandbox_clean { CLEAN_NOTHING, CLEAN_LAYER /* upper and work */, CLEAN_ALL };

struct waiter {
	struct waiter *next;
	uint64_t serial, seq;
};

struct sandbox {
	struct sandbox *next; /* in its bucket */
	struct launcher *l;
	char id[ID_MAX + 1];
	char *ns, *name;
	int64_t generation, started_unix_ns;
	enum sandbox_state state;

	pid_t pid;
	bool ended;	      /* the main process is gone, exit is filled */
	struct watch process; /* pidfd */
	Fsb__Agent__V1__ExitInfo exit;

	struct pb_arena *arena; /* STARTING: holds request */
	const StartRequest *request;
	uint64_t start_serial, start_seq, start_ns;
	struct watch pipe;
	struct child_report report;
	bool failed;

	bool stop;	 /* a Stop is under way */
	bool keep_files; /* it wants log and exit record kept */
	bool stopped;	 /* it was carried out and files are kept */
	struct waiter *waiters;

	uint64_t deadline_ns; /* start timeout, grace, next look at the cgroup; 0: none */
	uint64_t drain_wait_ns;
	enum sandbox_clean clean_want, clean_now, clean_done;
	struct watch cleaner; /* pidfd of a process that removes a large tree */
};

/* ---- sandbox.c ---- */
struct sandbox *sandbox_find(struct launcher *l, const char *id);
/* NULL: out of memory. In the table, STARTING. */
struct sandbox *sandbox_new(struct launcher *l, const Fsb__V1__SandboxMeta *meta);
void sandbox_free(struct sandbox *sb);
void sandbox_watch_process(struct sandbox *sb, int pidfd);
void sandbox_set_deadline(struct sandbox *sb, uint64_t deadline_ns);
void sandbox_run_timers(struct launcher *l, uint64_t now_ns);
/* Of its process and, by the pid namespace, of all others. */
void sandbox_kill(struct sandbox *sb);
/* The main process is gone: empties the cgroup and goes on from there. */
void sandbox_drain(struct sandbox *sb);
/* Fills what EXITED and REMOVED notices tell; borrows. */
void sandbox_describe(const struct sandbox *sb, Fsb__Agent__V1__SandboxReport *report,
		      Fsb__V1__SandboxMeta *meta);
/* EXITED, REMOVED */
void sandbox_notify(const struct sandbox *sb, Fsb__Launcher__V1__NoticeKind kind);

/* ---- stop.c ---- */
void sandbox_stop(struct sandbox *sb, uint64_t seq, int32_t grace_s, bool keep_files);
void sandbox_remove(struct sandbox *sb, uint64_t seq);
void sandbox_answer_waiters(struct sandbox *sb);

/* ---- clean.c ---- */
/* Removes up to `want` and calls sandbox_settled when that is done, now or later. */
void sandbox_clean(struct sandbox *sb, enum sandbox_clean want);
void sandbox_settled(struct sandbox *sb);

/* ---- start.c ---- */
/* Takes the arena that request lives in when it returns true. */
bool sandbox_start(struct launcher *l, uint64_t seq, const StartRequest *request,
		   struct pb_arena *arena);
/* Everything of a failed start has been removed: tells the agent why it failed. */
void sandbox_start_failed(struct sandbox *sb);

/* ---- state.c: the record on disk ---- */
/* Makes the state directory and its record. 0 or -errno; -EEXIST: there is one. */
int state_create(struct launcher *l, const StartRequest *request);
/* Directories ready to be used: inodes on a disk cost 0.1 to 1 ms each, a rename does not. */
int state_spares_open(struct launcher *l, const char *path);
/* Makes one more when some are missing; true when it did. */
bool state_refill(struct launcher *l);
int state_write_run(struct sandbox *sb);
int state_write_exit(struct sandbox *sb);
/* Replaces the meta, keeps the rest. */
int state_set_meta(struct launcher *l, const Fsb__V1__SandboxMeta *meta);
/* gives (pb_free of the arena); report and its meta are there. */
int state_read(struct launcher *l, const char *id, struct pb_arena **ret_arena,
	       Fsb__Launcher__V1__StateRecord **ret);
/* A name that may be a directory and a cgroup of ours. */
bool state_id_is_valid(const char *id);

/* ---- recover.c ---- */
void recover_all(struct launcher *l);

#endif
