/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Link streams of all simulated agents on one server. Acks go back where the command came from,
 * events to registryd's streams of that agent; nothing is kept for a peer that is gone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pb.h"
#include "sim.h"

enum {
	MESSAGE_BYTES_MAX = 2 << 20,
	QUEUE_BYTES_MAX = 32 << 20,
	FIELD_ACK = 2,
	FIELD_EVENT = 3,
	FIELDS_MAX = 4096, /* in one message */
};

/* One encoded field of the next LinkResponse, at off in the peer's bytes. */
struct field {
	uint32_t tag;
	size_t off, len;
};

struct sim_peer {
	struct sim_peer *next;
	struct sim_agent *agent;
	struct gcall *call; /* NULL: gone */
	int refs;	    /* its stream, waiters, a posted flush */
	bool greeted, flush_posted;
	Fsb__Agent__V1__PeerRole role;
	char instance[64];
	uint64_t epoch;
	uint8_t *bytes;
	size_t len, room;
	struct field *fields;
	size_t field_count, field_room;
};

struct sim_peer *sim_peer_ref(struct sim_peer *peer)
{
	peer->refs++;
	return peer;
}

void sim_peer_unref(struct sim_peer *peer)
{
	if (--peer->refs > 0)
		return;
	free(peer->bytes);
	free(peer->fields);
	free(peer);
}

struct sim_agent *sim_peer_agent(const struct sim_peer *peer)
{
	return peer->agent;
}

/* The stream is over. Ends the call and drops the stream's reference. */
static void peer_close(struct sim_peer *peer, int status, const char *why)
{
	struct sim_peer **at = &peer->agent->peers;
	struct gcall *call = peer->call;

	if (!call)
		return;
	while (*at != peer)
		at = &(*at)->next;
	*at = peer->next;
	peer->agent->sim->stats.peers--;
	peer->call = NULL;
	gcall_set_user(call, NULL, NULL);
	gcall_finish(call, status, "%s", why);
	sim_peer_unref(peer);
}

void sim_peers_close(struct sim *sim)
{
	for (int64_t i = 0; i < sim->o.agents; i++) {
		while (sim->agents[i].peers)
			peer_close(sim->agents[i].peers, G_UNAVAILABLE,
				   "the simulated agent is ending");
	}
}

/* ---- sending ---- */

static void peer_flush(struct sim_peer *peer)
{
	static ProtobufCMessageUnknownField fields[FIELDS_MAX];
	Fsb__Agent__V1__LinkResponse response = FSB__AGENT__V1__LINK_RESPONSE__INIT;

	if (!peer->call || !peer->field_count)
		return;
	for (size_t i = 0; i < peer->field_count; i++) {
		fields[i] = (ProtobufCMessageUnknownField){
			.tag = peer->fields[i].tag,
			.wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED,
			.len = peer->fields[i].len,
			.data = peer->bytes + peer->fields[i].off,
		};
	}
	response.base.unknown_fields = fields;
	response.base.n_unknown_fields = (unsigned int)peer->field_count;
	if (gcall_send(peer->call, &response.base))
		log_debug("peer not reached", "agent=%s", peer->agent->name);
	peer->agent->sim->stats.messages_out++;
	peer->field_count = peer->len = 0;
	if (gcall_queued_bytes(peer->call) > QUEUE_BYTES_MAX)
		peer_close(peer, G_RESOURCE_EXHAUSTED, "too much is unread: connect again");
}

static void on_flush(void *arg)
{
	struct sim_peer *peer = arg;

	peer->flush_posted = false;
	peer_flush(peer);
	sim_peer_unref(peer);
}

static int out_reserve(struct sim_peer *peer, size_t len)
{
	if (peer->len + len > peer->room) {
		size_t room = 2 * peer->room + len + 128;
		uint8_t *bytes = realloc(peer->bytes, room);

		if (!bytes)
			return -ENOMEM;
		peer->bytes = bytes;
		peer->room = room;
	}
	if (peer->field_count == peer->field_room) {
		size_t room = 2 * peer->field_room + 4;
		struct field *fields = reallocarray(peer->fields, room, sizeof(*fields));

		if (!fields)
			return -ENOMEM;
		peer->fields = fields;
		peer->field_room = room;
	}
	return 0;
}

/* Encodes now, since what msg borrows may be gone when it is sent. */
static void peer_queue(struct sim_peer *peer, uint32_t tag, const ProtobufCMessage *msg)
{
	size_t len = protobuf_c_message_get_packed_size(msg), prefix;

	if (!peer->call)
		return;
	if (out_reserve(peer, len + 10)) {
		/* An ack that is lost in silence would be waited for: break the stream instead. */
		peer_close(peer, G_RESOURCE_EXHAUSTED, "the simulated agent is out of memory");
		return;
	}
	prefix = pb_put_varint(peer->bytes + peer->len, len);
	protobuf_c_message_pack(msg, peer->bytes + peer->len + prefix);
	peer->fields[peer->field_count++] =
		(struct field){.tag = tag, .off = peer->len, .len = prefix + len};
	peer->len += prefix + len;
	if (peer->len > MESSAGE_BYTES_MAX || peer->field_count == FIELDS_MAX) {
		peer_flush(peer);
	} else if (!peer->flush_posted && !gloop_post(peer->agent->sim->loop, on_flush, peer)) {
		peer->flush_posted = true;
		sim_peer_ref(peer);
	}
}

void sim_peer_ack(struct sim_peer *peer, const Ack *ack)
{
	peer_queue(peer, FIELD_ACK, &ack->base);
}

void sim_peer_ack_code(struct sim_peer *peer, uint64_t seq, AckCode code, const char *message)
{
	union {
		const char *in;
		char *out; /* the generated struct has no const */
	} text = {.in = message};
	Ack ack = FSB__AGENT__V1__ACK__INIT;

	ack.seq = seq;
	ack.code = code;
	ack.message = text.out;
	sim_peer_ack(peer, &ack);
}

void sim_event(struct sim_agent *agent, const Fsb__Agent__V1__Event *event)
{
	struct sim_peer *next;

	for (struct sim_peer *peer = agent->peers; peer; peer = next) {
		next = peer->next;
		if (!peer->greeted || peer->role != FSB__AGENT__V1__PEER_ROLE__REGISTRYD)
			continue;
		agent->sim->stats.events++;
		peer_queue(peer, FIELD_EVENT, &event->base);
	}
}

/*
 * Heartbeats of all agents, spread over their period: each tick those whose turn has come. A late
 * tick catches up, a very late one begins a new round.
 */
void sim_beat(void *arg)
{
	struct sim *sim = arg;
	Fsb__Agent__V1__Event event = FSB__AGENT__V1__EVENT__INIT;
	Fsb__Agent__V1__Heartbeat beat = FSB__AGENT__V1__HEARTBEAT__INIT;
	uint64_t period = (uint64_t)sim->o.heartbeat_s * NS_PER_S, now = clock_mono_ns();
	uint64_t agents = (uint64_t)sim->o.agents, elapsed = now - sim->beat_start_ns;
	uint64_t until = elapsed >= period ? agents : elapsed * agents / period;

	event.kind_case = FSB__AGENT__V1__EVENT__KIND_HEARTBEAT;
	event.heartbeat = &beat;
	for (; sim->beat_next < until; sim->beat_next++) {
		struct sim_agent *agent = &sim->agents[sim->beat_next];

		beat.running = agent->active;
		sim_event(agent, &event);
	}
	if (elapsed >= period) {
		sim->beat_next = 0;
		sim->beat_start_ns = elapsed < 2 * period ? sim->beat_start_ns + period : now;
	}
	gloop_timer_set(sim->beat, 10 * NS_PER_MS);
}

/* ---- which controller is obeyed ---- */

/*
 * As fsb-agent does: within one arena a larger epoch supersedes; another arena is taken over only
 * when its registryd comes.
 */
static void epoch_adopt(struct sim_agent *agent, const struct sim_peer *peer)
{
	bool same = !strcmp(agent->controller, peer->instance);

	if (same ? peer->epoch <= agent->controller_epoch
		 : *agent->controller && peer->role != FSB__AGENT__V1__PEER_ROLE__REGISTRYD)
		return;
	snprintf(agent->controller, sizeof(agent->controller), "%s", peer->instance);
	agent->controller_epoch = peer->epoch;
}

bool sim_peer_is_current(const struct sim_peer *peer)
{
	const struct sim_agent *agent = peer->agent;

	return !strcmp(agent->controller, peer->instance) && peer->epoch >= agent->controller_epoch;
}

/* ---- receiving ---- */

static char *unconst(const char *text)
{
	union {
		const char *in;
		char *out; /* the generated structs have no const */
	} u = {.in = text};

	return u.out;
}

/* registryd is told everything that "runs". false: out of memory. */
static bool put_reports(const struct sim_agent *agent, Fsb__Agent__V1__HelloReply *hello,
			struct sim_report **ret)
{
	const struct sim_sandbox *sb;
	size_t n = 0;

	for (sb = agent->sandboxes; sb; sb = sb->next)
		n++;
	*ret = calloc(n + 1, sizeof(**ret));
	hello->sandboxes = calloc(n + 1, sizeof(Report *));
	if (!*ret || !hello->sandboxes)
		return false;
	for (sb = agent->sandboxes; sb; sb = sb->next) {
		if (sim_report_fill(&(*ret)[hello->n_sandboxes], sb))
			return false;
		hello->sandboxes[hello->n_sandboxes] = &(*ret)[hello->n_sandboxes].msg;
		hello->n_sandboxes++;
	}
	return true;
}

static bool send_hello(struct sim_peer *peer)
{
	struct sim_agent *agent = peer->agent;
	const struct sim_options *o = &agent->sim->o;
	Fsb__Agent__V1__LinkResponse response = FSB__AGENT__V1__LINK_RESPONSE__INIT;
	Fsb__Agent__V1__HelloReply hello = FSB__AGENT__V1__HELLO_REPLY__INIT;
	cleanup_free char **images = calloc(agent->image_count + 1, sizeof(*images));
	struct sim_report *reports = NULL;
	bool ok = images;

	hello.agent_name = agent->name;
	hello.namespace_ = unconst(o->namespace_);
	hello.pool = unconst(o->pool);
	hello.node = unconst(SIM_NODE);
	hello.host_ip = unconst(o->host_ip);
	hello.capacity = (int32_t)o->capacity;
	hello.agent_pid = (uint64_t)getpid();
	hello.n_images = ok ? agent->image_count : 0;
	hello.images = images;
	for (uint32_t i = 0; ok && i < agent->image_count; i++)
		images[i] = o->images[agent->images ? agent->images[i] : i];
	if (ok && peer->role == FSB__AGENT__V1__PEER_ROLE__REGISTRYD)
		ok = put_reports(agent, &hello, &reports);
	response.hello = &hello;
	if (ok)
		ok = gcall_send(peer->call, &response.base) != -ENOMEM;
	for (size_t i = 0; reports && i < hello.n_sandboxes; i++)
		sim_report_done(&reports[i]);
	free(reports);
	free(hello.sandboxes);
	return ok;
}

static bool peer_greet(struct sim_peer *peer, const Fsb__Agent__V1__Hello *hello)
{
	if (!hello || strlen(hello->instance) >= sizeof(peer->instance) ||
	    strpbrk(hello->instance, " \n")) {
		peer_close(peer, G_INVALID_ARGUMENT,
			   "the first message must hold a hello with an instance of less than 64 "
			   "bytes without spaces");
		return false;
	}
	peer->role = hello->role;
	peer->epoch = hello->controller_epoch;
	snprintf(peer->instance, sizeof(peer->instance), "%s", hello->instance);
	epoch_adopt(peer->agent, peer);
	peer->agent->sim->stats.hellos++;
	if (!send_hello(peer)) {
		peer_close(peer, G_RESOURCE_EXHAUSTED, "the simulated agent is out of memory");
		return false;
	}
	peer->greeted = true;
	return true;
}

static void link_message(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__Agent__V1__LinkRequest *request = (const Fsb__Agent__V1__LinkRequest *)msg;
	struct sim_peer *peer = gcall_user(call);
	uint64_t now = clock_mono_ns();

	if (!peer || !peer->call || (!peer->greeted && !peer_greet(peer, request->hello)))
		return;
	peer->agent->sim->stats.messages_in++;
	sim_peer_ref(peer);
	for (size_t i = 0; i < request->n_commands && peer->call; i++)
		sim_command(peer, request->commands[i], now);
	sim_peer_unref(peer);
}

static void on_cancel(struct gcall *call)
{
	peer_close(gcall_user(call), G_CANCELLED, "");
}

static void link_open(struct gcall *call, const ProtobufCMessage *msg)
{
	struct sim *sim = gserver_ctx(gcall_server(call));
	struct sim_agent *agent = sim_agent_of_peer(sim, gcall_peer(call));
	struct sim_peer *peer = sim->ending || !agent ? NULL : calloc(1, sizeof(*peer));

	if (!peer) {
		gcall_fail(call, G_UNAVAILABLE, "the simulated agent is ending");
		return;
	}
	peer->agent = agent;
	peer->call = call;
	peer->refs = 1;
	peer->next = agent->peers;
	agent->peers = peer;
	if (++sim->stats.peers > sim->stats.peers_max)
		sim->stats.peers_max = sim->stats.peers;
	gcall_set_user(call, peer, on_cancel);
}

static void link_half_close(struct gcall *call)
{
	struct sim_peer *peer = gcall_user(call);

	if (peer && peer->call)
		peer_close(peer, G_OK, "");
}

/* ---- the other methods ---- */

static void no_logs(struct gcall *call, const ProtobufCMessage *msg)
{
	gcall_fail(call, G_UNIMPLEMENTED, "a simulated agent runs nothing and keeps no output");
}

static void no_images(struct gcall *call, const ProtobufCMessage *msg)
{
	gcall_fail(call, G_UNIMPLEMENTED,
		   "a simulated agent loads no images: name them with --images");
}

const struct gmethod sim_methods[] = {
	{
		.path = "/fsb.agent.v1.AgentService/Link",
		.kind = GMETHOD_BIDI,
		.request = &fsb__agent__v1__link_request__descriptor,
		.handler = link_open,
		.on_message = link_message,
		.on_half_close = link_half_close,
	},
	{
		.path = "/fsb.agent.v1.AgentService/Logs",
		.kind = GMETHOD_SERVER_STREAM,
		.request = &fsb__agent__v1__logs_request__descriptor,
		.handler = no_logs,
	},
	{
		.path = "/fsb.agent.v1.AgentService/LoadImage",
		.kind = GMETHOD_UNARY,
		.request = &fsb__agent__v1__load_image_request__descriptor,
		.handler = no_images,
	},
	{0},
};
