/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIMULATED agents: one process and one thread that speak fsb.agent.v1 as thousands of agents and
 * start nothing. What the files share:
 *   listen.c   a listening socket per agent; which connection is for which agent
 *   peer.c     streams of workers and registryd: hello, epoch, what is queued for them
 *   command.c  what they command       sandbox.c  what "runs", and tombstones
 *   stats.c    what happened           main.c     options and life
 */
#ifndef SIMAGENT_SIM_H
#define SIMAGENT_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dist.h"
#include "due.h"
#include "rng.h"
#include "table.h"
#include "agent.pb-c.h"
#include "base/gserver.h"
#include "base/opt.h"

typedef Fsb__Agent__V1__Ack Ack;
typedef Fsb__Agent__V1__AckCode AckCode;
typedef Fsb__Agent__V1__Command Command;
typedef Fsb__Agent__V1__SandboxReport Report;
#define ACK(name) FSB__AGENT__V1__ACK_CODE__##name

/* The node that a simulated agent names; see HelloReply.node. */
#define SIM_NODE "simulated"

enum { SIM_ID_MAX = 64, SIM_IMAGES_MAX = 1024, SIM_AGENTS_MAX = 100000 };

struct sim;
struct sim_peer;
struct sim_sandbox;

struct sim_options {
	const char *instance, *run_dir, *prefix, *pool, *namespace_, *stats_file, *tcp, *host_ip;
	int64_t agents, first, capacity, seed, images_each, heartbeat_s;
	struct dist ack_delay, stop_delay, exit_after;
	bool exits;
	double fail_rate;
	char *images[SIM_IMAGES_MAX]; /* canonical */
	size_t image_count;
	bool no_unix, insecure;
};

struct sim_agent {
	struct sim *sim;
	uint32_t idx;
	int unix_fd, tcp_fd; /* -1: none */
	char name[64];
	struct sim_peer *peers;
	struct sim_sandbox *sandboxes;
	uint32_t active; /* all but the exited ones: what counts against the capacity */
	uint32_t *images, image_count; /* indexes into options.images; NULL: all */
	/* The controller that is obeyed. */
	char controller[64];
	uint64_t controller_epoch;
};

struct sim_stats {
	uint64_t commands, starts, started, stops, stopped, removes, fences, fenced, exits;
	uint64_t refused_full, refused_fenced, refused_image, refused_spec, refused_epoch;
	uint64_t failed; /* by --fail-rate */
	uint64_t repeats, messages_in, messages_out, events, hellos, accepted, unaccepted;
	uint32_t running, running_max, peers, peers_max;
	uint64_t late_ns_max; /* an acknowledgement after its moment */
	double late_ns_sum;
	uint64_t late_count;
};

struct sim {
	struct sim_options o;
	struct gloop *loop;
	struct gserver *server;
	struct due *due;
	struct gloop_timer *beat;
	struct rng rng;
	struct sim_agent *agents;
	uint32_t beat_next;	/* whose heartbeat is next */
	uint64_t beat_start_ns; /* of its round */
	struct sim_listen *listen;
	struct table sandboxes, fences;
	struct sim_stats stats;
	uint64_t start_ns;
	bool ending;
};

/* ---- listen.c ---- */
int sim_listen_open(struct sim *sim, struct err *err);
/* No more connections; the sockets' files go. */
void sim_listen_close(struct sim *sim);
/* Which agent a stream is for, by gRPC's name of its connection; NULL: none of ours. */
struct sim_agent *sim_agent_of_peer(struct sim *sim, const char *peer);

/* ---- peer.c ---- */
extern const struct gmethod sim_methods[];
/* Keeps the peer's memory, not its stream. */
struct sim_peer *sim_peer_ref(struct sim_peer *peer);
void sim_peer_unref(struct sim_peer *peer);
struct sim_agent *sim_peer_agent(const struct sim_peer *peer);
/* The peer speaks for the controller that is obeyed. */
bool sim_peer_is_current(const struct sim_peer *peer);
/* Queued until the end of this loop turn; nothing when the peer is gone. */
void sim_peer_ack(struct sim_peer *peer, const Ack *ack);
void sim_peer_ack_code(struct sim_peer *peer, uint64_t seq, AckCode code, const char *message);
/* To the registryds that are connected to that agent, nobody else. */
void sim_event(struct sim_agent *agent, const Fsb__Agent__V1__Event *event);
void sim_beat(void *arg);
void sim_peers_close(struct sim *sim);

/* ---- command.c ---- */
void sim_command(struct sim_peer *peer, const Command *command, uint64_t received_ns);

/* ---- sandbox.c ---- */
enum sim_state { SIM_STARTING, SIM_RUNNING, SIM_STOPPING, SIM_EXITED };
enum sim_wait { SIM_WAIT_START, SIM_WAIT_FENCE, SIM_WAIT_STOP };

struct sim_waiter {
	struct sim_waiter *next;
	struct sim_peer *peer;
	uint64_t seq;
	enum sim_wait what;
};

struct sim_sandbox {
	struct table_node node;
	struct due_item due; /* the end of its start, its exit, or the end of its stop */
	struct sim_agent *agent;
	struct sim_sandbox *prev, *next; /* of its agent */
	enum sim_state state;
	bool keep_files, stopped;
	struct sim_waiter *waiters;
	int64_t generation, started_unix_ns;
	uint64_t received_ns, start_ns;
	Fsb__Agent__V1__ExitInfo exit;
	char id[SIM_ID_MAX + 1];
	const char *ns, *name; /* in data */
	uint8_t *data;	       /* encoded SandboxMeta, encoded SandboxSpec, namespace, name */
	size_t meta_len, spec_len;
};

struct sim_sandbox *sim_sandbox_find(struct sim_agent *agent, const char *id);
/* STARTING. NULL: out of memory. */
struct sim_sandbox *sim_sandbox_add(struct sim_agent *agent, const Fsb__Agent__V1__Start *start);
int sim_sandbox_set_meta(struct sim_sandbox *sb, const Fsb__V1__SandboxMeta *meta);
/* Who waits is not answered. */
void sim_sandbox_drop(struct sim_sandbox *sb);
void sim_sandbox_set_state(struct sim_sandbox *sb, enum sim_state state);
int sim_sandbox_wait(struct sim_sandbox *sb, struct sim_peer *peer, uint64_t seq,
		     enum sim_wait what);
/* A report of it: meta and spec go as the encoded fields that they are. Valid while sb and room
 * are. */
struct sim_report {
	Report msg;
	ProtobufCMessageUnknownField fields[2];
	uint8_t *bytes;
};
int sim_report_fill(struct sim_report *room, const struct sim_sandbox *sb);
void sim_report_done(struct sim_report *room);
/* Every later start of id up to generation is refused. -ENOSPC, -ENOMEM. */
int sim_fence_put(struct sim_agent *agent, const char *id, int64_t generation);
bool sim_fence_forbids(struct sim_agent *agent, const char *id, int64_t generation);
void sim_sandboxes_free(struct sim *sim);

/* ---- stats.c ---- */
/* Writes --stats, and a line to the log. */
void sim_stats_report(const struct sim *sim);

#endif
