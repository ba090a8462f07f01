/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One Link stream: connection state, the queue of commands and the table of those in flight. It
 * knows nothing of what commands mean, and never repeats one: what was sent and not acknowledged is
 * the caller's to fence.
 */
#include "agentlink/agentlink.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/pb.h"

enum {
	BUCKETS = 64,		      /* in flight, by seq; a table per agent */
	MESSAGE_COMMANDS_MAX = 1024,  /* per LinkRequest */
	MESSAGE_BYTES_MAX = 1 << 20,  /* per LinkRequest; the agent takes 4 MiB */
	COMMAND_BYTES_MAX = 256 << 10 /* a spec is at most 64 KiB */
};
#define BACKOFF_MIN_NS	 (10 * NS_PER_MS)
#define BACKOFF_MAX_NS	 (1 * NS_PER_S)
#define HELLO_TIMEOUT_NS (5 * NS_PER_S)
#define DEADLINE_NS	 (30 * NS_PER_S)

enum link_state { LINK_IDLE, LINK_DIALLING, LINK_UP, LINK_BACKOFF };

struct pending {
	struct pending *next; /* in the queue, or in its bucket */
	uint64_t seq;
	uint64_t deadline_ns; /* CLOCK_MONOTONIC: to leave by while it is queued, to be answered by
				 once sent */
	uint64_t answer_by_ns;
	agentlink_ack_fn on_ack;
	void *arg;
	size_t len;
	uint8_t data[]; /* length prefix and encoded Command: one repeated field's value */
};

struct queue {
	struct pending *head, **tail;
	uint32_t count;
};

struct agentlink {
	struct gloop *loop;
	struct gchannel *channel;
	struct gclient_call *call;
	struct gloop_timer *timer; /* DIALLING: hello timeout; BACKOFF: next attempt */
	struct gloop_timer *deadline_timer;
	struct agentlink_handlers handlers;
	struct agentlink_hello hello;
	char *instance, *address;
	enum link_state state;
	bool keep_up, freed, down_reported, flush_posted;
	int refs; /* the owner, the open call, a posted flush */
	uint64_t backoff_ns, next_seq, armed_ns, reach_ns;
	struct queue queued;
	struct pending *sent[BUCKETS];
	uint32_t sent_count;
};

static void link_dial(struct agentlink *link);

static void queue_init(struct queue *q)
{
	*q = (struct queue){.tail = &q->head};
}

static void queue_push(struct queue *q, struct pending *p)
{
	p->next = NULL;
	*q->tail = p;
	q->tail = &p->next;
	q->count++;
}

static struct pending *queue_pop(struct queue *q)
{
	struct pending *p = q->head;

	if (!p)
		return NULL;
	q->head = p->next;
	if (!q->head)
		q->tail = &q->head;
	q->count--;
	return p;
}

static void link_unref(struct agentlink *link)
{
	if (--link->refs > 0)
		return;
	free(link->instance);
	free(link->address);
	free(link);
}

static void pending_report(struct pending *p, enum agentlink_result result,
			   const Fsb__Agent__V1__Ack *ack, const char *reason)
{
	p->on_ack(p->arg, result, ack, reason);
	free(p);
}

static void queue_report(struct queue *q, enum agentlink_result result, const char *reason)
{
	struct pending *p;

	while ((p = queue_pop(q)))
		pending_report(p, result, NULL, reason);
}

/* Empties the table of commands in flight into q, in order of bucket. */
static void sent_take_all(struct agentlink *link, struct queue *q)
{
	for (unsigned int i = 0; i < BUCKETS; i++) {
		struct pending *p = link->sent[i];

		link->sent[i] = NULL;
		while (p) {
			struct pending *next = p->next;

			queue_push(q, p);
			p = next;
		}
	}
	link->sent_count = 0;
}

static struct pending *sent_take(struct agentlink *link, uint64_t seq)
{
	struct pending **at = &link->sent[seq % BUCKETS];

	for (; *at; at = &(*at)->next) {
		struct pending *p = *at;

		if (p->seq != seq)
			continue;
		*at = p->next;
		link->sent_count--;
		return p;
	}
	return NULL;
}

/* ---- deadlines: one timer at the earliest, a full scan when it fires ---- */

static void link_arm_deadline(struct agentlink *link, uint64_t at_ns)
{
	uint64_t now = clock_mono_ns();

	if (link->armed_ns && link->armed_ns <= at_ns)
		return;
	link->armed_ns = at_ns;
	gloop_timer_set(link->deadline_timer, at_ns > now ? at_ns - now : 0);
}

/* Moves what is due from the list at *at to due; returns the earliest deadline of the rest, 0 when
 * empty. */
static uint64_t list_take_due(struct pending **at, uint64_t now, struct queue *due, uint32_t *taken)
{
	uint64_t earliest = 0;

	while (*at) {
		struct pending *p = *at;

		if (p->deadline_ns <= now) {
			*at = p->next;
			queue_push(due, p);
			(*taken)++;
			continue;
		}
		if (!earliest || p->deadline_ns < earliest)
			earliest = p->deadline_ns;
		at = &p->next;
	}
	return earliest;
}

static void queue_fix_tail(struct queue *q)
{
	q->tail = &q->head;
	while (*q->tail)
		q->tail = &(*q->tail)->next;
}

static void on_deadline(void *arg)
{
	struct agentlink *link = arg;
	uint64_t now = clock_mono_ns(), earliest, at;
	struct queue unsent, unknown;
	uint32_t taken = 0;

	queue_init(&unsent);
	queue_init(&unknown);
	earliest = list_take_due(&link->queued.head, now, &unsent, &taken);
	link->queued.count -= taken;
	queue_fix_tail(&link->queued);
	taken = 0;
	for (unsigned int i = 0; i < BUCKETS; i++) {
		at = list_take_due(&link->sent[i], now, &unknown, &taken);
		if (at && (!earliest || at < earliest))
			earliest = at;
	}
	link->sent_count -= taken;
	link->armed_ns = 0;
	if (earliest)
		link_arm_deadline(link, earliest);
	link->refs++;
	queue_report(&unsent, AGENTLINK_NOT_SENT, "deadline passed before the agent was reached");
	queue_report(&unknown, AGENTLINK_UNKNOWN, "deadline passed before the agent answered");
	link_unref(link);
}

/* ---- sending ---- */

/* One LinkRequest of commands that are encoded already: each travels as an "unknown field" with the
 * number of `commands`. */
static int link_send_some(struct agentlink *link)
{
	static ProtobufCMessageUnknownField fields[MESSAGE_COMMANDS_MAX];
	Fsb__Agent__V1__LinkRequest request = FSB__AGENT__V1__LINK_REQUEST__INIT;
	struct pending *p = link->queued.head;
	unsigned int n = 0;
	size_t bytes = 0;
	int rc;

	for (; p && n < MESSAGE_COMMANDS_MAX && bytes < MESSAGE_BYTES_MAX; p = p->next) {
		fields[n++] = (ProtobufCMessageUnknownField){
			.tag = 2,
			.wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED,
			.len = p->len,
			.data = p->data,
		};
		bytes += p->len;
	}
	request.base.n_unknown_fields = n;
	request.base.unknown_fields = fields;
	rc = gclient_send(link->call, &request.base);
	if (rc)
		return rc;
	while (n--) {
		p = queue_pop(&link->queued);
		p->deadline_ns = p->answer_by_ns;
		link_arm_deadline(link, p->deadline_ns);
		p->next = link->sent[p->seq % BUCKETS];
		link->sent[p->seq % BUCKETS] = p;
		link->sent_count++;
	}
	return 0;
}

void agentlink_flush(struct agentlink *link)
{
	/* A failed send leaves the rest queued: the stream is closing, and on_close comes. */
	while (link->state == LINK_UP && link->queued.head) {
		if (link_send_some(link))
			break;
	}
}

static void on_flush(void *arg)
{
	struct agentlink *link = arg;

	link->flush_posted = false;
	if (!link->freed)
		agentlink_flush(link);
	link_unref(link);
}

static void link_post_flush(struct agentlink *link)
{
	if (link->flush_posted)
		return;
	link->refs++;
	link->flush_posted = true;
	if (gloop_post(link->loop, on_flush, link)) {
		link->refs--;
		link->flush_posted = false;
		agentlink_flush(link);
	}
}

static struct pending *pending_new(const Fsb__Agent__V1__Command *command)
{
	size_t len = fsb__agent__v1__command__get_packed_size(command), prefix;
	struct pending *p;

	p = malloc(sizeof(*p) + 10 + len);
	if (!p)
		return NULL;
	prefix = pb_put_varint(p->data, len);
	p->len = prefix + fsb__agent__v1__command__pack(command, p->data + prefix);
	return p;
}

int agentlink_command(struct agentlink *link, const Fsb__Agent__V1__Command *msg,
		      uint64_t deadline_ns, agentlink_ack_fn on_ack, void *arg)
{
	Fsb__Agent__V1__Command command = *msg;
	uint64_t now = clock_mono_ns();
	struct pending *p;

	if (link->queued.count + link->sent_count >= AGENTLINK_MAX_QUEUED)
		return -ENOBUFS;
	command.seq = link->next_seq;
	if (fsb__agent__v1__command__get_packed_size(&command) > COMMAND_BYTES_MAX)
		return -EMSGSIZE;
	p = pending_new(&command);
	if (!p)
		return -ENOMEM;
	p->seq = link->next_seq++;
	p->on_ack = on_ack;
	p->arg = arg;
	p->answer_by_ns = now + (deadline_ns ? deadline_ns : DEADLINE_NS);
	p->deadline_ns = p->answer_by_ns;
	if (link->reach_ns && now + link->reach_ns < p->deadline_ns)
		p->deadline_ns = now + link->reach_ns;
	queue_push(&link->queued, p);
	link_arm_deadline(link, p->deadline_ns);
	if (link->state == LINK_UP)
		link_post_flush(link);
	else if (link->state == LINK_IDLE)
		link_dial(link);
	return 0;
}

/* ---- the connection ---- */

static void link_hello_answered(struct agentlink *link, const Fsb__Agent__V1__HelloReply *hello)
{
	link->state = LINK_UP;
	link->backoff_ns = BACKOFF_MIN_NS;
	link->down_reported = false;
	gloop_timer_cancel(link->timer);
	if (link->handlers.on_up)
		link->handlers.on_up(link->handlers.arg, hello);
	agentlink_flush(link);
}

static void on_message(void *arg, const ProtobufCMessage *msg)
{
	const Fsb__Agent__V1__LinkResponse *reply = (const Fsb__Agent__V1__LinkResponse *)msg;
	struct agentlink *link = arg;

	if (link->freed)
		return;
	if (reply->hello && link->state == LINK_DIALLING)
		link_hello_answered(link, reply->hello);
	for (size_t i = 0; i < reply->n_acks; i++) {
		struct pending *p = sent_take(link, reply->acks[i]->seq);

		if (p)
			pending_report(p, AGENTLINK_ACKED, reply->acks[i], "");
	}
	for (size_t i = 0; i < reply->n_events; i++) {
		if (link->handlers.on_event)
			link->handlers.on_event(link->handlers.arg, reply->events[i]);
	}
}

/* After a loss or a failed attempt: try again later when told to stay up or when something waits.
 */
static void link_schedule(struct agentlink *link)
{
	if (link->state != LINK_IDLE || link->freed || (!link->keep_up && !link->queued.head))
		return;
	link->state = LINK_BACKOFF;
	gloop_timer_set(link->timer, link->backoff_ns);
	link->backoff_ns *= 2;
	if (link->backoff_ns > BACKOFF_MAX_NS)
		link->backoff_ns = BACKOFF_MAX_NS;
}

static void link_lost(struct agentlink *link, const char *reason)
{
	struct queue unknown;

	queue_init(&unknown);
	sent_take_all(link, &unknown);
	link->call = NULL;
	link->state = LINK_IDLE;
	gloop_timer_cancel(link->timer);
	link_schedule(link);
	queue_report(&unknown, AGENTLINK_UNKNOWN, reason);
	if (!link->down_reported && link->handlers.on_down)
		link->handlers.on_down(link->handlers.arg, reason);
	link->down_reported = true;
}

static void on_close(void *arg, const struct gresult *result)
{
	struct agentlink *link = arg;
	char reason[384];

	if (!link->freed) {
		snprintf(reason, sizeof(reason), "agent %s: link lost: %s: %s", link->address,
			 gstatus_name(result->status), result->message);
		link_lost(link, reason);
	}
	link_unref(link);
}

static int link_send_hello(struct agentlink *link)
{
	Fsb__Agent__V1__LinkRequest request = FSB__AGENT__V1__LINK_REQUEST__INIT;
	Fsb__Agent__V1__Hello hello = FSB__AGENT__V1__HELLO__INIT;

	hello.role = link->hello.role;
	hello.instance = link->instance;
	hello.controller_epoch = link->hello.controller_epoch;
	hello.participant = link->hello.participant;
	request.hello = &hello;
	return gclient_send(link->call, &request.base);
}

static void link_dial(struct agentlink *link)
{
	struct gstream_handlers handlers = {
		.on_message = on_message, .on_close = on_close, .arg = link};

	link->call = gclient_bidi(link->channel, "/fsb.agent.v1.AgentService/Link",
				  &fsb__agent__v1__link_response__descriptor, 0, &handlers);
	if (!link->call) {
		link->state = LINK_IDLE;
		link_schedule(link);
		return;
	}
	link->refs++;
	link->state = LINK_DIALLING;
	gloop_timer_set(link->timer, HELLO_TIMEOUT_NS);
	if (link_send_hello(link))
		gclient_cancel(link->call);
}

static void on_timer(void *arg)
{
	struct agentlink *link = arg;

	if (link->state == LINK_DIALLING) {
		gclient_cancel(link->call);
		return;
	}
	if (link->state != LINK_BACKOFF)
		return;
	link->state = LINK_IDLE;
	if (link->keep_up || link->queued.head)
		link_dial(link);
}

/* ---- life ---- */

struct agentlink *agentlink_new(struct gloop *loop, const char *address,
				const struct agentlink_hello *hello,
				const struct agentlink_handlers *handlers, struct err *err)
{
	struct agentlink *link = calloc(1, sizeof(*link));

	if (!link)
		goto nomem;
	link->refs = 1;
	link->loop = loop;
	link->hello = *hello;
	link->handlers = *handlers;
	link->next_seq = 1;
	link->backoff_ns = BACKOFF_MIN_NS;
	queue_init(&link->queued);
	link->instance = strdup(hello->instance ? hello->instance : "");
	link->address = strdup(address);
	link->timer = gloop_timer_new(loop, on_timer, link);
	link->deadline_timer = gloop_timer_new(loop, on_deadline, link);
	if (!link->instance || !link->address || !link->timer || !link->deadline_timer)
		goto nomem;
	link->channel = gchannel_new(loop, address, err);
	if (!link->channel)
		return agentlink_free(link);
	return link;
nomem:
	err_set(err, -ENOMEM, "link to agent '%s': out of memory", address);
	return agentlink_free(link);
}

struct agentlink *agentlink_free(struct agentlink *link)
{
	struct queue unknown;

	if (!link)
		return NULL;
	queue_init(&unknown);
	link->freed = true;
	sent_take_all(link, &unknown);
	queue_report(&unknown, AGENTLINK_UNKNOWN, "the link was closed");
	queue_report(&link->queued, AGENTLINK_NOT_SENT, "the link was closed");
	if (link->timer)
		gloop_timer_free(link->timer);
	if (link->deadline_timer)
		gloop_timer_free(link->deadline_timer);
	/* Reports the open call, now or later: on_close drops the call's reference. */
	if (link->channel)
		gchannel_free(link->channel);
	link_unref(link);
	return NULL;
}

void agentlink_set_reach_limit(struct agentlink *link, uint64_t limit_ns)
{
	link->reach_ns = limit_ns;
}

const char *agentlink_address(const struct agentlink *link)
{
	return link->address;
}

bool agentlink_is_up(const struct agentlink *link)
{
	return link->state == LINK_UP;
}

void agentlink_keep_up(struct agentlink *link, bool keep)
{
	link->keep_up = keep;
	if (keep && link->state == LINK_IDLE)
		link_dial(link);
}

void agentlink_set_epoch(struct agentlink *link, uint64_t controller_epoch)
{
	if (link->hello.controller_epoch == controller_epoch)
		return;
	link->hello.controller_epoch = controller_epoch;
	if (link->call)
		gclient_cancel(link->call);
}

const char *agentlink_code_name(int code)
{
	const ProtobufCEnumValue *value =
		protobuf_c_enum_descriptor_get_value(&fsb__agent__v1__ack_code__descriptor, code);

	return value ? value->name : "UNKNOWN";
}

struct gclient_call *agentlink_load_image(struct agentlink *link,
					  const Fsb__Agent__V1__LoadImageRequest *request,
					  uint64_t deadline_ns,
					  void (*on_done)(void *arg, const struct gresult *result,
							  const ProtobufCMessage *reply),
					  void *arg)
{
	return gclient_unary(link->channel, "/fsb.agent.v1.AgentService/LoadImage", &request->base,
			     &fsb__agent__v1__load_image_response__descriptor, deadline_ns, on_done,
			     arg);
}

struct gclient_call *agentlink_logs(struct agentlink *link,
				    const Fsb__Agent__V1__LogsRequest *request,
				    uint64_t deadline_ns, const struct gstream_handlers *handlers)
{
	return gclient_server_stream(link->channel, "/fsb.agent.v1.AgentService/Logs",
				     &request->base, &fsb__agent__v1__logs_chunk__descriptor,
				     deadline_ns, handlers);
}
