/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Link streams. Several are open at once: every worker's and registryd's. Acks go back where the
 * command came from, events to registryd's; nothing is kept for a peer that is gone, which asks
 * anew when it returns.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"

enum { MESSAGE_BYTES_MAX = 2 << 20, QUEUE_BYTES_MAX = 32 << 20, FIELD_ACK = 2, FIELD_EVENT = 3 };

struct agt_peer {
	struct agt_peer *next;
	struct agent *agent;
	struct gcall *call; /* NULL: gone */
	int refs;	    /* its stream, waiters, a posted flush */
	bool greeted, flush_posted;
	Fsb__Agent__V1__PeerRole role;
	char instance[64];
	uint64_t epoch;
	/* Encoded fields of the next LinkResponse. */
	ProtobufCMessageUnknownField *out;
	size_t out_count, out_room, out_bytes;
};

struct agt_peer *agt_peer_ref(struct agt_peer *peer)
{
	peer->refs++;
	return peer;
}

static void out_clear(struct agt_peer *peer)
{
	for (size_t i = 0; i < peer->out_count; i++)
		free(peer->out[i].data);
	peer->out_count = peer->out_bytes = 0;
}

void agt_peer_unref(struct agt_peer *peer)
{
	if (--peer->refs > 0)
		return;
	out_clear(peer);
	free(peer->out);
	free(peer);
}

struct agent *agt_peer_agent(const struct agt_peer *peer)
{
	return peer->agent;
}

/* The stream is over. Ends the call and drops the stream's reference. */
static void peer_close(struct agt_peer *peer, int status, const char *why)
{
	struct agt_peer **at = &peer->agent->peers;
	struct gcall *call = peer->call;

	if (!call)
		return;
	while (*at != peer)
		at = &(*at)->next;
	*at = peer->next;
	peer->call = NULL;
	gcall_set_user(call, NULL, NULL);
	gcall_finish(call, status, "%s", why);
	agt_peer_unref(peer);
}

void agt_peers_close(struct agent *a)
{
	while (a->peers)
		peer_close(a->peers, G_UNAVAILABLE, "the agent is ending");
}

/* ---- sending ---- */

static void peer_flush(struct agt_peer *peer)
{
	Fsb__Agent__V1__LinkResponse response = FSB__AGENT__V1__LINK_RESPONSE__INIT;

	if (!peer->call || !peer->out_count)
		return;
	response.base.unknown_fields = peer->out;
	response.base.n_unknown_fields = (unsigned int)peer->out_count;
	if (gcall_send(peer->call, &response.base))
		log_warn("peer not reached", "peer=%s", gcall_peer(peer->call));
	out_clear(peer);
	if (gcall_queued_bytes(peer->call) > QUEUE_BYTES_MAX)
		peer_close(peer, G_RESOURCE_EXHAUSTED, "too much is unread: connect again");
}

static void on_flush(void *arg)
{
	struct agt_peer *peer = arg;

	peer->flush_posted = false;
	peer_flush(peer);
	agt_peer_unref(peer);
}

/* Encodes now, since what msg borrows may be gone when it is sent. */
static int out_append(struct agt_peer *peer, uint32_t field, const ProtobufCMessage *msg)
{
	size_t len = protobuf_c_message_get_packed_size(msg), prefix;
	uint8_t *data;

	if (peer->out_count == peer->out_room) {
		size_t room = peer->out_room * 2 + 16;
		ProtobufCMessageUnknownField *grown = reallocarray(peer->out, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		peer->out = grown;
		peer->out_room = room;
	}
	data = malloc(len + 10);
	if (!data)
		return -ENOMEM;
	prefix = pb_put_varint(data, len);
	protobuf_c_message_pack(msg, data + prefix);
	peer->out[peer->out_count++] = (ProtobufCMessageUnknownField){
		.tag = field,
		.wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED,
		.len = prefix + len,
		.data = data,
	};
	peer->out_bytes += prefix + len;
	return 0;
}

static void peer_queue(struct agt_peer *peer, uint32_t field, const ProtobufCMessage *msg)
{
	if (!peer->call)
		return;
	if (out_append(peer, field, msg)) {
		/* An ack that is lost in silence would be waited for: break the stream instead. */
		peer_close(peer, G_RESOURCE_EXHAUSTED, "the agent is out of memory");
		return;
	}
	if (peer->out_bytes > MESSAGE_BYTES_MAX) {
		peer_flush(peer);
	} else if (!peer->flush_posted && !gloop_post(peer->agent->loop, on_flush, peer)) {
		peer->flush_posted = true;
		agt_peer_ref(peer);
	}
}

void agt_peer_ack(struct agt_peer *peer, const Ack *ack)
{
	peer_queue(peer, FIELD_ACK, &ack->base);
}

void agt_peer_ack_code(struct agt_peer *peer, uint64_t seq, AckCode code, const char *message)
{
	Ack ack = FSB__AGENT__V1__ACK__INIT;
	union {
		const char *in;
		char *out; /* the generated struct has no const */
	} borrowed = {.in = message};

	ack.seq = seq;
	ack.code = code;
	ack.message = borrowed.out;
	agt_peer_ack(peer, &ack);
}

void agt_event(struct agent *a, const Fsb__Agent__V1__Event *event)
{
	struct agt_peer *next;

	for (struct agt_peer *peer = a->peers; peer; peer = next) {
		next = peer->next;
		if (peer->greeted && peer->role == FSB__AGENT__V1__PEER_ROLE__REGISTRYD)
			peer_queue(peer, FIELD_EVENT, &event->base);
	}
}

void agt_heartbeat(void *arg)
{
	struct agent *a = arg;
	Fsb__Agent__V1__Event event = FSB__AGENT__V1__EVENT__INIT;
	Fsb__Agent__V1__Heartbeat heartbeat = FSB__AGENT__V1__HEARTBEAT__INIT;

	heartbeat.running = a->active;
	event.kind_case = FSB__AGENT__V1__EVENT__KIND_HEARTBEAT;
	event.heartbeat = &heartbeat;
	agt_event(a, &event);
	gloop_timer_set(a->heartbeat, NS_PER_S);
}

/* The store's references; gives the array, which borrows. */
static char **image_refs(const struct agent *a, size_t *ret_count)
{
	size_t n = image_store_count(a->images);
	char **refs = calloc(n + 1, sizeof(*refs));

	*ret_count = refs ? n : 0;
	for (size_t i = 0; i < *ret_count; i++) {
		union {
			const char *in;
			char *out;
		} ref = {.in = image_store_at(a->images, i)->ref};

		refs[i] = ref.out;
	}
	return refs;
}

void agt_event_images(struct agent *a)
{
	Fsb__Agent__V1__Event event = FSB__AGENT__V1__EVENT__INIT;
	Fsb__Agent__V1__ImagesChanged images = FSB__AGENT__V1__IMAGES_CHANGED__INIT;
	cleanup_free char **refs = image_refs(a, &images.n_images);

	images.images = refs;
	event.kind_case = FSB__AGENT__V1__EVENT__KIND_IMAGES;
	event.images = &images;
	agt_event(a, &event);
}

/* ---- which controller is obeyed ---- */

static void epoch_path(const struct agent *a, char *buf, size_t size)
{
	snprintf(buf, size, "%s/epoch", a->own_dir);
}

int agt_epoch_load(struct agent *a, struct err *err)
{
	cleanup_free char *text = NULL;
	char path[300], *space;
	int64_t epoch;
	int rc;

	epoch_path(a, path, sizeof(path));
	rc = io_read_file(AT_FDCWD, path, 256, &text, NULL);
	if (rc)
		return rc == -ENOENT ? 0 : err_errno(err, -rc, "read '%s'", path);
	text[strcspn(text, "\n")] = '\0';
	space = strchr(text, ' ');
	if (!space || space - text >= (ptrdiff_t)sizeof(a->controller) ||
	    str_to_i64(space + 1, 0, INT64_MAX, &epoch))
		return err_set(err, -EBADMSG, "'%s' is damaged: remove it", path);
	snprintf(a->controller, sizeof(a->controller), "%.*s", (int)(space - text), text);
	a->controller_epoch = (uint64_t)epoch;
	return 0;
}

static void epoch_save(const struct agent *a)
{
	char path[300], text[128];
	int n = snprintf(text, sizeof(text), "%s %llu\n", a->controller,
			 (unsigned long long)a->controller_epoch);
	int rc;

	epoch_path(a, path, sizeof(path));
	rc = io_write_file_atomic(AT_FDCWD, path, text, (size_t)n, 0600, 0);
	if (rc)
		log_error("epoch not saved", "err=%s", strerror(-rc));
}

/*
 * Within one arena a larger epoch supersedes. Another arena is taken over only when its registryd
 * comes, the one process that makes arenas: a worker that still maps the old one can't bring it
 * back.
 */
static void epoch_adopt(struct agent *a, const struct agt_peer *peer)
{
	bool same = !strcmp(a->controller, peer->instance);

	if (same ? peer->epoch <= a->controller_epoch
		 : *a->controller && peer->role != FSB__AGENT__V1__PEER_ROLE__REGISTRYD)
		return;
	snprintf(a->controller, sizeof(a->controller), "%s", peer->instance);
	a->controller_epoch = peer->epoch;
	epoch_save(a);
}

bool agt_peer_is_current(const struct agt_peer *peer)
{
	const struct agent *a = peer->agent;

	return !strcmp(a->controller, peer->instance) && peer->epoch >= a->controller_epoch;
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

static void send_hello(struct agt_peer *peer)
{
	struct agent *a = peer->agent;
	Fsb__Agent__V1__LinkResponse response = FSB__AGENT__V1__LINK_RESPONSE__INIT;
	Fsb__Agent__V1__HelloReply hello = FSB__AGENT__V1__HELLO_REPLY__INIT;
	cleanup_free char **refs = image_refs(a, &hello.n_images);
	cleanup_free Report **reports = NULL;

	hello.images = refs;
	hello.agent_name = unconst(a->name);
	hello.namespace_ = unconst(a->namespace_);
	hello.pool = unconst(a->pool);
	hello.node = unconst(a->node);
	hello.host_ip = unconst(a->host_ip);
	hello.shared_network = a->defaults.shared_network;
	hello.capacity = (int32_t)a->capacity;
	hello.agent_pid = (uint64_t)getpid();
	if (peer->role == FSB__AGENT__V1__PEER_ROLE__REGISTRYD) {
		hello.n_sandboxes = agt_sandbox_reports(a, &reports);
		hello.sandboxes = reports;
	}
	response.hello = &hello;
	(void)gcall_send(peer->call, &response.base);
}

static bool peer_greet(struct agt_peer *peer, const Fsb__Agent__V1__Hello *hello)
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
	send_hello(peer);
	peer->greeted = true;
	log_debug("peer", "role=%d participant=%u epoch=%llu", (int)hello->role, hello->participant,
		  (unsigned long long)hello->controller_epoch);
	return true;
}

void agt_link_message(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__Agent__V1__LinkRequest *request = (const Fsb__Agent__V1__LinkRequest *)msg;
	struct agt_peer *peer = gcall_user(call);
	uint64_t now = clock_mono_ns();

	if (!peer || !peer->call || (!peer->greeted && !peer_greet(peer, request->hello)))
		return;
	agt_peer_ref(peer);
	for (size_t i = 0; i < request->n_commands && peer->call; i++)
		agt_command(peer, request->commands[i], now);
	agt_peer_unref(peer);
}

static void on_cancel(struct gcall *call)
{
	peer_close(gcall_user(call), G_CANCELLED, "");
}

void agt_link_open(struct gcall *call, const ProtobufCMessage *msg)
{
	struct agent *a = gserver_ctx(gcall_server(call));
	struct agt_peer *peer = a->ending ? NULL : calloc(1, sizeof(*peer));

	if (!peer) {
		gcall_fail(call, G_UNAVAILABLE, "the agent is ending or out of memory");
		return;
	}
	peer->agent = a;
	peer->call = call;
	peer->refs = 1;
	peer->next = a->peers;
	a->peers = peer;
	gcall_set_user(call, peer, on_cancel);
}

void agt_link_half_close(struct gcall *call)
{
	struct agt_peer *peer = gcall_user(call);

	if (peer && peer->call)
		peer_close(peer, G_OK, "");
}
