/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client side of fsb.agent.v1: one Link stream to one agent, on a gloop. Dials when first
 * needed, says hello, queues commands until the agent has answered, puts the commands of one loop
 * turn into one message, and reconnects. Everything here is called on the loop's thread, and so are
 * all callbacks; no callback runs inside the call that caused it, except where said.
 */
#ifndef AGENTLINK_AGENTLINK_H
#define AGENTLINK_AGENTLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "agent.pb-c.h"
#include "base/gclient.h"

struct agentlink;

struct agentlink_hello {
	Fsb__Agent__V1__PeerRole role;
	const char *instance; /* copied */
	uint64_t controller_epoch;
	uint32_t participant;
};

/* Each may be NULL. Messages are borrowed until return. A handler may call anything here but
 * agentlink_free of its own link. */
struct agentlink_handlers {
	/* The agent has answered hello; queued commands follow. Once per connection. */
	void (*on_up)(void *arg, const Fsb__Agent__V1__HelloReply *hello);
	/* An established link was lost, or a first attempt failed (once, not for each further
	 * attempt). reason names the agent. */
	void (*on_down)(void *arg, const char *reason);
	/* REGISTRYD only. */
	void (*on_event)(void *arg, const Fsb__Agent__V1__Event *event);
	void *arg;
};

/* address: "unix:/path" or "host:port". Nothing is dialled yet. gives. */
struct agentlink *agentlink_new(struct gloop *loop, const char *address,
				const struct agentlink_hello *hello,
				const struct agentlink_handlers *handlers, struct err *err);
/* Every command still open is reported (from inside this call), handlers are not called again.
 * Takes NULL. Returns NULL. */
struct agentlink *agentlink_free(struct agentlink *link);

const char *agentlink_address(const struct agentlink *link);
/* hello has been answered on the present connection. */
bool agentlink_is_up(const struct agentlink *link);

/*
 * true: connect now and stay connected, retrying with a backoff of 10 ms to 1 s. false (the state
 * after _new): connect when a command is queued, and retry only while commands wait.
 */
void agentlink_keep_up(struct agentlink *link, bool keep);
/* For the next hello: a peer whose epoch has grown reconnects with it. */
void agentlink_set_epoch(struct agentlink *link, uint64_t controller_epoch);

/* How long a command may wait for the link to come up before it is reported as NOT_SENT, whatever
 * its own deadline; 0 (the state after _new): no limit but the deadline. For commands queued later.
 */
void agentlink_set_reach_limit(struct agentlink *link, uint64_t limit_ns);

enum agentlink_result {
	AGENTLINK_ACKED,    /* ack is set; its code says how it went */
	AGENTLINK_NOT_SENT, /* deadline, or the link was freed, before the command left: it has had
			       no effect and never will */
	AGENTLINK_UNKNOWN,  /* link broken or deadline passed after it was sent: it may or may not
			       take effect, even later */
};

/* ack: NULL unless ACKED; borrowed until return. reason: never NULL; says why there is no ack, ""
 * when there is one. */
typedef void (*agentlink_ack_fn)(void *arg, enum agentlink_result result,
				 const Fsb__Agent__V1__Ack *ack, const char *reason);

/*
 * Queues a command; it is encoded at once (msg is borrowed) and its seq is chosen here, msg->seq is
 * ignored. on_ack is called exactly once unless an error is returned. deadline_ns is a duration
 * from now; 0 means 30 s. Commands of one loop turn leave together, in order. A command is never
 * sent twice. -ENOMEM; -ENOBUFS: AGENTLINK_MAX_QUEUED are waiting; -EMSGSIZE.
 */
int agentlink_command(struct agentlink *link, const Fsb__Agent__V1__Command *msg,
		      uint64_t deadline_ns, agentlink_ack_fn on_ack, void *arg);
/* Sends what is queued now instead of at the end of this loop turn (saves a turn for a single
 * command). */
void agentlink_flush(struct agentlink *link);

enum { AGENTLINK_MAX_QUEUED = 65536 };

/* Name of an AckCode, "IMAGE_NOT_FOUND"; "UNKNOWN" for others. */
const char *agentlink_code_name(int code);

/* The other methods of the service, over the same connection; as gclient_unary and
 * gclient_server_stream. */
struct gclient_call *agentlink_load_image(struct agentlink *link,
					  const Fsb__Agent__V1__LoadImageRequest *request,
					  uint64_t deadline_ns,
					  void (*on_done)(void *arg, const struct gresult *result,
							  const ProtobufCMessage *reply),
					  void *arg);
/* Messages are Fsb__Agent__V1__LogsChunk. */
struct gclient_call *agentlink_logs(struct agentlink *link,
				    const Fsb__Agent__V1__LogsRequest *request,
				    uint64_t deadline_ns, const struct gstream_handlers *handlers);

#endif
