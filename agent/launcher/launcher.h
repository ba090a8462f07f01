/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the launcher's files share. One process, one thread, one epoll; it forks and watches,
 * everything slow happens in the child. Sandboxes: sandbox.c (life), start.c (birth), recover.c
 * (found after the launcher's own death). Inside the child: child.c.
 */
#ifndef AGENT_LAUNCHER_H
#define AGENT_LAUNCHER_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/capability.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/pb.h"
#include "cgroup.h"
#include "launcher.pb-c.h"

typedef Fsb__Launcher__V1__Request Request;
typedef Fsb__Launcher__V1__Start StartRequest;
typedef Fsb__Launcher__V1__Notice Notice;
typedef Fsb__Agent__V1__AckCode AckCode;
#define ACK(name) FSB__AGENT__V1__ACK_CODE__##name

enum {
	ID_MAX = 64,
	SANDBOX_BUCKETS = 4096,
	PACKET_MAX = 1 << 20,
	LAYERS_MAX = 100,
	SPARES = 32, /* network namespaces and state directories that are kept ready */
};

struct launcher;

/* One fd in the epoll set. epoll_wait takes one event at a time, so a watch may be removed and
 * freed at any moment. */
struct watch {
	void (*fn)(struct launcher *l, struct watch *w, uint32_t events);
	int fd; /* -1: not watched */
};

int watch_add(struct launcher *l, struct watch *w, int fd, uint32_t events);
void watch_modify(struct launcher *l, struct watch *w, uint32_t events);
/* Also closes the fd. */
void watch_close(struct launcher *l, struct watch *w);

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

struct conn;

struct launcher {
	const char *instance, *run_dir, *name;
	int epoll_fd;
	struct watch listener, signals;
	struct conn *conn; /* the agent; NULL while there is none */
	int lock_fd, state_fd;
	char state_dir[256], layers_dir[256];
	char base_layer[300];  /* below every image */
	char scratch_dir[300]; /* and its memory for the writable layer */
	char root_dir[300];    /* where each sandbox mounts its root, in its own mount namespace */
	struct cgroups cgroups;
	struct sock_fprog filter;
	uint64_t cap_mask, cap_mask_shared;
	int netns[SPARES];
	int netns_count, netns_home;
	int spare_fd, spare_count; /* state directories */
	uint64_t last_start_ns;
	struct sandbox *sandboxes[SANDBOX_BUCKETS];
	unsigned int sandbox_count, starting_count;
	uint64_t next_deadline_ns; /* of any sandbox, or earlier; 0: none */
	bool quitting;
};

/* ---- conn.c: the agent's connection ---- */
int conn_listen(struct launcher *l, struct err *err);
void conn_close(struct launcher *l);
/* Queues; drops when there is no agent (it asks for everything when it connects). */
void conn_send(struct launcher *l, const Notice *notice);

/* Identifies the present connection, so that a late reply does not reach the next one. 0: none. */
uint64_t conn_serial(const struct launcher *l);
/* The answer to request seq of that connection. */
void conn_reply(struct launcher *l, uint64_t serial, uint64_t seq, AckCode code,
		const char *message);

/* ---- request.c ---- */
/* True when it has kept the arena that request lives in (a start, until its child has exec'ed). */
bool request_handle(struct launcher *l, const Request *request, struct pb_arena *arena);
/* Sends what is known of every sandbox, then LISTED. */
void request_list(struct launcher *l);

/* ---- netns.c: network namespaces with lo up, made while nothing else is to do ---- */
void netns_init(struct launcher *l);
/* Makes one more when some are missing; true when it did. */
bool netns_refill(struct launcher *l);
/* A ready one (gives the fd), or -1. */
int netns_take(struct launcher *l);
int netns_lo_up(void);

/* ---- seccomp.c ---- */
int seccomp_build(struct sock_fprog *ret, struct err *err);

#endif
