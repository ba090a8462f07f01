/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What fsb-agent's files share. Everything runs on the loop's thread, only image loading does not
 * (load.c). peer.c     streams of workers and registryd: hello, epoch, what is queued for them
 *   command.c  what they command
 *   sandbox.c  the table: what runs, has exited, or is being started
 *   launch.c   the launcher: connection, requests, notices
 *   fence.c    tombstones       logs.c, load.c  the other two methods
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent.pb-c.h"
#include "base/gserver.h"
#include "image.h"
#include "launcher.pb-c.h"
#include "merge.h"

typedef Fsb__Agent__V1__Ack Ack;
typedef Fsb__Agent__V1__AckCode AckCode;
typedef Fsb__Agent__V1__Command Command;
typedef Fsb__Agent__V1__SandboxReport Report;
typedef Fsb__Launcher__V1__Notice Notice;
typedef Fsb__Launcher__V1__Request Request;
#define ACK(name)   FSB__AGENT__V1__ACK_CODE__##name
#define STATE(name) FSB__AGENT__V1__REPORT_STATE__##name

enum { ID_MAX = 64, SANDBOX_BUCKETS = 4096 };

struct agt_peer;
struct agt_sandbox;
struct agt_fences;
struct agt_launch;
struct agt_logs;

struct agent {
	const char *instance, *run_dir, *name, *namespace_, *pool, *listen, *host_ip, *node;
	int64_t capacity;
	struct merge_defaults defaults;
	char state_dir[256]; /* RUN_DIR/state/NAME: the sandboxes' */
	char own_dir[256];   /* RUN_DIR/agents/NAME.d: epoch, fences */

	struct gloop *loop;
	struct gserver *server;
	struct gloop_timer *heartbeat;
	struct image_store *images;
	struct gloop_fd *images_watch;
	struct agt_fences *fences;
	struct agt_launch *launch;
	struct agt_logs *logs;
	struct agt_peer *peers;
	struct agt_sandbox *sandboxes[SANDBOX_BUCKETS];
	uint32_t active; /* STARTING and RUNNING: what counts against the capacity */
	uint32_t loads;	 /* image loads under way */
	bool ending;

	/* The controller that is obeyed. */
	char controller[64];
	uint64_t controller_epoch;
};

/* ---- peer.c ---- */
void agt_link_open(struct gcall *call, const ProtobufCMessage *msg);
void agt_link_message(struct gcall *call, const ProtobufCMessage *msg);
void agt_link_half_close(struct gcall *call);
/* Keeps the peer's memory, not its stream. */
struct agt_peer *agt_peer_ref(struct agt_peer *peer);
void agt_peer_unref(struct agt_peer *peer);
/* Queued until the end of this loop turn; nothing when the peer is gone. */
void agt_peer_ack(struct agt_peer *peer, const Ack *ack);
void agt_peer_ack_code(struct agt_peer *peer, uint64_t seq, AckCode code, const char *message);
/* To every registryd. */
void agt_event(struct agent *a, const Fsb__Agent__V1__Event *event);
void agt_event_images(struct agent *a);
void agt_heartbeat(void *arg);
void agt_peers_close(struct agent *a);
int agt_epoch_load(struct agent *a, struct err *err);
/* The peer speaks for the controller that is obeyed. */
bool agt_peer_is_current(const struct agt_peer *peer);
struct agent *agt_peer_agent(const struct agt_peer *peer);

/* ---- command.c ---- */
void agt_command(struct agt_peer *peer, const Command *command, uint64_t received_ns);

/* ---- sandbox.c ---- */
/* Who waits for a start that is under way. */
struct agt_waiter {
	struct agt_waiter *next;
	struct agt_peer *peer;
	uint64_t seq, received_ns;
	bool fence;
};

struct agt_sandbox {
	struct agt_sandbox *next;
	struct pb_arena *arena; /* of report */
	Report *report; /* meta and spec as first given; state, exit and times kept up here */
	Fsb__Agent__V1__ExitInfo exit;
	struct pb_arena *meta_arena; /* of report->meta when SetMeta has replaced it */
	struct agt_waiter *waiters;
	uint64_t start_ns;
	bool seen;   /* while the launcher lists */
	bool doomed; /* STARTING, and the launcher that was asked has died: its removal is awaited
		      */
};

#define AGT_LAUNCHER_DIED "the launcher died while it was starting the sandbox"

struct agt_sandbox *agt_sandbox_find(struct agent *a, const char *id);
/* From a report (copied). NULL: out of memory, or already there. */
struct agt_sandbox *agt_sandbox_add(struct agent *a, const Report *report);
void agt_sandbox_set_state(struct agent *a, struct agt_sandbox *sb,
			   Fsb__Agent__V1__ReportState state);
void agt_sandbox_set_exit(struct agt_sandbox *sb, const Fsb__Agent__V1__ExitInfo *exit);
int agt_sandbox_set_meta(struct agt_sandbox *sb, const Fsb__V1__SandboxMeta *meta);
void agt_sandbox_drop(struct agent *a, struct agt_sandbox *sb);
/* All, without a word to anyone. */
void agt_sandboxes_free(struct agent *a);
int agt_sandbox_wait(struct agt_sandbox *sb, struct agt_peer *peer, uint64_t seq,
		     uint64_t received_ns, bool fence);
/* The start is over: answers all who wait. code OK, or why not (then the record is dropped). */
void agt_sandbox_start_done(struct agent *a, struct agt_sandbox *sb, AckCode code,
			    const char *message, uint64_t exec_ns);
size_t agt_sandbox_reports(struct agent *a, Report ***ret);

/* ---- launch.c ---- */
/* notice: the reply, or NULL when the launcher was lost and the new one has listed what it knows.
 */
typedef void (*agt_reply_fn)(struct agent *a, const Notice *notice, void *arg);
/* Connects, starting a launcher when none answers; on_ready once everything is listed for the first
 * time. */
int agt_launch_open(struct agent *a, void (*on_ready)(struct agent *a), struct err *err);
void agt_launch_close(struct agent *a);
/* repeat: to be sent again to a new launcher rather than answered with NULL. -ENOMEM, -EMSGSIZE. */
int agt_launch_send(struct agent *a, Request *request, bool repeat, agt_reply_fn on_reply,
		    void *arg);

/* ---- notice.c: what the launcher says unasked ---- */
void agt_notice(struct agent *a, const Notice *notice);
void agt_listing_begins(struct agent *a);

/* ---- fence.c ---- */
int agt_fences_open(struct agent *a, struct err *err);
void agt_fences_close(struct agent *a);
/* Every later start of id up to generation is refused, by successors of this process, too. */
int agt_fence_put(struct agent *a, const char *id, int64_t generation);
bool agt_fence_forbids(struct agent *a, const char *id, int64_t generation);

/* ---- logs.c ---- */
int agt_logs_open(struct agent *a, struct err *err);
void agt_logs_end_streams(struct agent *a);
void agt_logs_close(struct agent *a);
void agt_logs_call(struct gcall *call, const ProtobufCMessage *msg);
/* The sandbox has exited or is gone: those who follow it come to an end. */
void agt_logs_sandbox_ended(struct agent *a, const char *id);

/* ---- load.c ---- */
void agt_load_call(struct gcall *call, const ProtobufCMessage *msg);

#endif
