/* SPDX-License-Identifier: Apache-2.0 */
/* Creates through the real program: what the agent and the registry see, refusals, STRONG, broken
 * links, repeats, batches. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "stack.h"

static Fastpath__V1__CreateRequest request(const char *name)
{
	Fastpath__V1__CreateRequest req = FASTPATH__V1__CREATE_REQUEST__INIT;
	static char image[] = "busybox", text[300];

	snprintf(text, sizeof(text), "%s", name);
	req.image = image;
	req.name = text;
	return req;
}

static int create(const Fastpath__V1__CreateRequest *req)
{
	return CALL_FASTPATH("CreateSandbox", req, create_response);
}

static void said(const char *word)
{
	if (!strstr(s.err.msg, word))
		fail_msg("'%s' does not say '%s'", s.err.msg, word);
}

static uint32_t slots_held(void)
{
	struct reg_books books;

	reg_books(s.me, &books);
	return books.slots_held;
}

/* What the worker gives back behind the reply. */
static void until_released(void)
{
	uint64_t until = clock_mono_ns() + 10 * NS_PER_S;

	while (slots_held() && clock_mono_ns() < until)
		stack_serve(10);
	assert_int_equal(slots_held(), 0);
}

static int get(const char *name)
{
	Fastpath__V1__GetRequest req = FASTPATH__V1__GET_REQUEST__INIT;
	char text[300];

	snprintf(text, sizeof(text), "%s", name);
	req.sandbox_name = text;
	return CALL_FASTPATH("GetSandbox", &req, sandbox_info);
}

static void delete_all(void)
{
	Fsb__V1__ListSandboxesRequest list = FSB__V1__LIST_SANDBOXES_REQUEST__INIT;
	struct reg_sandbox_view view;
	uint32_t cursor = 0;

	while (reg_next(s.me, &cursor, NULL, &view)) {
		Fsb__V1__DeleteSandboxRequest req = FSB__V1__DELETE_SANDBOX_REQUEST__INIT;

		req.name = view.name;
		req.wait = true;
		/* A stop that was under way may be through by now. */
		if (CALL_FSB("Delete", &req, delete_sandbox_response) != G_OK)
			assert_int_equal(s.status, G_NOT_FOUND);
	}
	assert_int_equal(CALL_FSB("List", &list, list_sandboxes_response), G_OK);
	assert_int_equal(((const Fsb__V1__ListSandboxesResponse *)s.reply)->n_items, 0);
	assert_int_equal(slots_held(), 0);
	s.mode = START_ACK;
	s.starts = s.stops = s.removes = s.fences = s.metas = 0;
}

static void test_create_get_list_delete(void **state)
{
	Fastpath__V1__CreateRequest req = request("one");
	Fastpath__V1__ListRequest list = FASTPATH__V1__LIST_REQUEST__INIT;
	Fastpath__V1__DeleteRequest del = FASTPATH__V1__DELETE_REQUEST__INIT;
	const Fastpath__V1__CreateResponse *created;
	const Fastpath__V1__SandboxInfo *info;
	char arg[] = "hello", *args[] = {arg};

	req.n_args = 1;
	req.args = args;
	assert_int_equal(create(&req), G_OK);
	created = s.reply;
	assert_int_equal(strlen(created->sandbox_id), 32);
	assert_string_equal(created->sandbox_name, "one");
	assert_string_equal(created->agent_pod, "agent-0");
	assert_int_equal(s.starts, 1);
	assert_string_equal(s.last_image, "busybox");
	assert_string_equal(s.last_arg, "hello");
	assert_int_equal(get("one"), G_OK);
	info = s.reply;
	assert_string_equal(info->phase, "Running");
	assert_string_equal(info->image, "docker.io/library/busybox:latest");
	assert_string_equal(info->namespace_, "default");
	assert_int_equal(CALL_FASTPATH("ListSandboxes", &list, list_response), G_OK);
	assert_int_equal(((const Fastpath__V1__ListResponse *)s.reply)->n_items, 1);
	del.sandbox_name = req.name;
	assert_int_equal(CALL_FASTPATH("DeleteSandbox", &del, delete_response), G_OK);
	assert_true(((const Fastpath__V1__DeleteResponse *)s.reply)->success);
	stack_until(&s.stops, 1);
	delete_all();
	assert_int_equal(get("one"), G_NOT_FOUND);
	said("sandboxes.sandbox.fast.io \"one\" not found");
	assert_int_equal(CALL_FASTPATH("DeleteSandbox", &del, delete_response), G_NOT_FOUND);
}

static void test_bad_requests_start_nothing(void **state)
{
	Fastpath__V1__CreateRequest req = request("Bad_Name");
	int32_t port = 65536;
	char empty[] = "", image[] = "UPPER", pool[] = "no-such-pool";

	assert_int_equal(create(&req), G_INVALID_ARGUMENT);
	said("Bad_Name");
	req = request("bad");
	req.image = empty;
	assert_int_equal(create(&req), G_INVALID_ARGUMENT);
	said("image is empty");
	req.image = image;
	assert_int_equal(create(&req), G_INVALID_ARGUMENT);
	said("UPPER");
	req = request("bad");
	req.n_exposed_ports = 1;
	req.exposed_ports = &port;
	assert_int_equal(create(&req), G_INVALID_ARGUMENT);
	said("invalid port 65536: must be between 1 and 65535");
	req = request("bad");
	req.pool_ref = pool;
	assert_int_equal(create(&req), G_NOT_FOUND);
	said("pool 'no-such-pool' does not exist in namespace 'default'; known pools: "
	     "default-pool");
	req = request("bad");
	req.failure_policy = FASTPATH__V1__FAILURE_POLICY__AUTO_RECREATE;
	assert_int_equal(create(&req), G_UNIMPLEMENTED);
	said("lifecycle engine");
	assert_int_equal(s.starts, 0);
	delete_all();
}

static void test_refusal_of_the_agent_undoes(void **state)
{
	static const struct {
		int ack, status;
	} cases[] = {
		{FSB__AGENT__V1__ACK_CODE__IMAGE_NOT_FOUND, G_NOT_FOUND},
		{FSB__AGENT__V1__ACK_CODE__BAD_SPEC, G_INVALID_ARGUMENT},
		{FSB__AGENT__V1__ACK_CODE__RESOURCES, G_RESOURCE_EXHAUSTED},
		{FSB__AGENT__V1__ACK_CODE__INTERNAL, G_INTERNAL},
	};
	Fastpath__V1__CreateRequest req = request("refused");

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		s.mode = START_REFUSE;
		s.refuse_code = cases[i].ack;
		assert_int_equal(create(&req), cases[i].status);
		said("agent 'agent-0'");
		assert_int_equal(slots_held(), 0);
	}
	s.mode = START_REFUSE;
	s.refuse_code = FSB__AGENT__V1__ACK_CODE__IMAGE_NOT_FOUND;
	assert_int_equal(create(&req), G_NOT_FOUND);
	said("fsb-ctl image load");
	delete_all();
}

static void test_duplicate_and_capacity(void **state)
{
	Fastpath__V1__CreateRequest req = request("twin");
	char name[16];

	assert_int_equal(create(&req), G_OK);
	assert_int_equal(create(&req), G_ALREADY_EXISTS);
	said("already exists");
	assert_int_equal(s.starts, 1);
	for (int i = 1; i < 8; i++) {
		snprintf(name, sizeof(name), "fill-%d", i);
		req = request(name);
		assert_int_equal(create(&req), G_OK);
	}
	req = request("over");
	assert_int_equal(create(&req), G_RESOURCE_EXHAUSTED);
	said("insufficient capacity or port conflict in pool default-pool");
	delete_all();
}

static void test_ports_and_endpoints(void **state)
{
	Fastpath__V1__CreateRequest req = request("port-a");
	const Fastpath__V1__CreateResponse *created;
	const Fastpath__V1__SandboxInfo *info;
	int32_t port = 8080;

	req.n_exposed_ports = 1;
	req.exposed_ports = &port;
	assert_int_equal(create(&req), G_OK);
	created = s.reply;
	assert_int_equal(created->n_endpoints, 1);
	assert_string_equal(created->endpoints[0], "127.0.0.1:8080");
	assert_int_equal(get("port-a"), G_OK);
	info = s.reply;
	assert_string_equal(info->endpoints[0], "127.0.0.1:8080");
	req = request("port-b");
	req.n_exposed_ports = 1;
	req.exposed_ports = &port;
	assert_int_equal(create(&req), G_RESOURCE_EXHAUSTED);
	said("insufficient capacity or port conflict in pool default-pool: every agent");
	said("8080");
	delete_all();
}

static void test_request_id(void **state)
{
	Fastpath__V1__CreateRequest req = request("again");
	char rid[] = "rid-1", id[64], image[] = "alpine";

	req.request_id = rid;
	assert_int_equal(create(&req), G_OK);
	snprintf(id, sizeof(id), "%s", ((const Fastpath__V1__CreateResponse *)s.reply)->sandbox_id);
	assert_string_equal(s.last_request_id, "rid-1");
	assert_int_equal(create(&req), G_OK);
	assert_string_equal(((const Fastpath__V1__CreateResponse *)s.reply)->sandbox_id, id);
	req.consistency_mode = FASTPATH__V1__CONSISTENCY_MODE__STRONG;
	assert_int_equal(create(&req), G_OK);
	assert_int_equal(s.starts, 1);
	req.image = image;
	assert_int_equal(create(&req), G_INVALID_ARGUMENT);
	said("rid-1");
	delete_all();
}

static void test_strong_is_stored_first(void **state)
{
	Fastpath__V1__CreateRequest req = request("strong");

	req.consistency_mode = FASTPATH__V1__CONSISTENCY_MODE__STRONG;
	assert_int_equal(create(&req), G_OK);
	assert_true(s.start_stored > 0);
	delete_all();
}

static int fsb_create(const char *name, bool stored, uint64_t deadline_ns)
{
	Fsb__V1__CreateSandboxRequest req = FSB__V1__CREATE_SANDBOX_REQUEST__INIT;
	Fsb__V1__SandboxOptions options = FSB__V1__SANDBOX_OPTIONS__INIT;
	Fsb__V1__SandboxSpec spec = FSB__V1__SANDBOX_SPEC__INIT;
	ProtobufCMessage *msg = NULL;
	char text[64], image[] = "busybox";

	snprintf(text, sizeof(text), "%s", name);
	req.name = text;
	req.spec = &spec;
	req.options = &options;
	spec.image = image;
	if (stored)
		options.wait_for = FSB__V1__WAIT_FOR__WAIT_STORED;
	else
		options.consistency = FSB__V1__CONSISTENCY__CONSISTENCY_STRONG;
	s.reply_arena = pb_free(s.reply_arena);
	if (gclient_unary_wait(s.channel, "/fsb.v1.SandboxService/CreateSandbox", &req.base,
			       &fsb__v1__sandbox__descriptor, deadline_ns, &s.status,
			       &s.reply_arena, &msg, &s.err))
		return s.status;
	s.reply = msg;
	return G_OK;
}

static void test_store_away(void **state)
{
	s.store_writes = false;
	/* The client's deadline passes first. */
	assert_int_equal(fsb_create("away", false, 300 * NS_PER_MS), G_DEADLINE_EXCEEDED);
	until_released();
	assert_int_equal(s.starts, 0);
	/* No fsb-crdsync at all: noticed long before the deadline. */
	s.store = reg_leave(s.store);
	assert_int_equal(fsb_create("away", false, 30 * NS_PER_S), G_UNAVAILABLE);
	said("fsb-crdsync");
	assert_int_equal(s.starts, 0);
	assert_int_equal(fsb_create("away", true, 30 * NS_PER_S), G_UNAVAILABLE);
	said("stopped");
	assert_int_equal(s.starts, 1);
	stack_until(&s.stops, 1);
	assert_int_equal(reg_join(s.reg, REG_KIND_CRDSYNC, &s.store), REG_OK);
	s.store_writes = true;
	delete_all();
}

static void test_wait_for_stored(void **state)
{
	const Fsb__V1__Sandbox *sandbox;

	assert_int_equal(fsb_create("stored", true, 10 * NS_PER_S), G_OK);
	sandbox = s.reply;
	assert_true(sandbox->stored);
	assert_non_null(sandbox->timings);
	assert_true(sandbox->timings->reserve_ns > 0);
	assert_true(sandbox->timings->total_ns >= sandbox->timings->agent_ns);
	assert_int_equal(sandbox->timings->start_ns, 1000000);
	delete_all();
}

static void test_broken_link_is_fenced(void **state)
{
	Fastpath__V1__CreateRequest req = request("broken");

	s.mode = START_DROP_RUNS;
	assert_int_equal(create(&req), G_OK);
	assert_true(s.fences >= 1);
	delete_all();
	s.mode = START_DROP;
	req = request("broken");
	assert_int_equal(create(&req), G_UNAVAILABLE);
	said("nothing was started");
	assert_true(s.fences >= 1);
	assert_int_equal(slots_held(), 0);
	delete_all();
}

static void test_silent_agent(void **state)
{
	s.mode = START_HOLD;
	assert_int_equal(fsb_create("silent", false, 500 * NS_PER_MS), G_DEADLINE_EXCEEDED);
	stack_until(&s.fences, 1);
	until_released();
	delete_all();
}

/* ---- batches ---- */

struct batch {
	int members, started, failed, messages, ended, status;
	bool seen[256], summary;
	char name[64];
};

static void on_message(void *arg, const ProtobufCMessage *msg)
{
	const Fsb__V1__CreateBatchResponse *reply = (const Fsb__V1__CreateBatchResponse *)msg;
	struct batch *b = arg;

	assert_false(b->summary);
	b->messages++;
	for (size_t i = 0; i < reply->n_members; i++) {
		const Fsb__V1__BatchMember *m = reply->members[i];

		assert_in_range(m->index, 0, 255);
		assert_false(b->seen[m->index]);
		b->seen[m->index] = true;
		b->members++;
		if (m->code == G_OK) {
			char name[80];

			b->started++;
			snprintf(name, sizeof(name), "set-%d", m->index);
			assert_string_equal(m->sandbox->name, name);
		} else {
			b->failed++;
			assert_true(*m->message);
		}
	}
	if (reply->summary) {
		b->summary = true;
		assert_int_equal(reply->summary->started, b->started);
		assert_int_equal(reply->summary->failed, b->failed);
	}
}

static void on_close(void *arg, const struct gresult *result)
{
	struct batch *b = arg;

	b->ended = 1;
	b->status = result->status;
	snprintf(s.err.msg, sizeof(s.err.msg), "%s", result->message);
}

static struct batch run_batch(int32_t count, int mode, Fsb__V1__MemberOverride **overrides,
			      size_t n_overrides, const char *request_id)
{
	Fsb__V1__CreateBatchRequest req = FSB__V1__CREATE_BATCH_REQUEST__INIT;
	Fsb__V1__SandboxOptions options = FSB__V1__SANDBOX_OPTIONS__INIT;
	Fsb__V1__SandboxSpec spec = FSB__V1__SANDBOX_SPEC__INIT;
	struct batch b = {0};
	const struct gstream_handlers handlers = {on_message, on_close, &b};
	char name[] = "set", image[] = "busybox", rid[64];

	snprintf(rid, sizeof(rid), "%s", request_id);
	req.name = name;
	req.count = count;
	req.mode = (Fsb__V1__BatchMode)mode;
	req.spec = &spec;
	req.options = &options;
	req.overrides = overrides;
	req.n_overrides = n_overrides;
	options.request_id = rid;
	spec.image = image;
	assert_non_null(gclient_server_stream(
		s.channel, "/fsb.v1.SandboxService/CreateBatch", &req.base,
		&fsb__v1__create_batch_response__descriptor, 20 * NS_PER_S, &handlers));
	stack_until(&b.ended, 1);
	return b;
}

static void test_batch(void **state)
{
	Fsb__V1__MemberOverride over = FSB__V1__MEMBER_OVERRIDE__INIT, *overs[] = {&over, &over};
	char word[] = "special", *words[] = {word};
	struct batch b;

	over.index = 7;
	over.n_args = 1;
	over.args = words;
	b = run_batch(8, FSB__V1__BATCH_MODE__ALL_OR_NOTHING, overs, 1, "rid");
	assert_int_equal(b.status, G_OK);
	assert_int_equal(b.started, 8);
	assert_true(b.summary);
	assert_int_equal(s.starts, 8);
	assert_string_equal(s.last_arg, "special");
	assert_string_equal(s.last_request_id, "rid/7");
	/* A repeat returns the same members and starts nothing. */
	b = run_batch(8, FSB__V1__BATCH_MODE__ALL_OR_NOTHING, overs, 1, "rid");
	assert_int_equal(b.status, G_OK);
	assert_int_equal(b.started, 8);
	assert_int_equal(s.starts, 8);
	delete_all();
	b = run_batch(8, FSB__V1__BATCH_MODE__PARTIAL, overs, 2, "");
	assert_int_equal(b.status, G_INVALID_ARGUMENT);
	said("member 7 has two overrides");
	over.index = 8;
	b = run_batch(8, FSB__V1__BATCH_MODE__PARTIAL, overs, 1, "");
	assert_int_equal(b.status, G_INVALID_ARGUMENT);
	said("members 0 to 7");
	b = run_batch(0, FSB__V1__BATCH_MODE__PARTIAL, NULL, 0, "");
	assert_int_equal(b.status, G_INVALID_ARGUMENT);
	said("count 0");
	delete_all();
}

static void test_batch_beyond_capacity(void **state)
{
	struct batch b = run_batch(10, FSB__V1__BATCH_MODE__PARTIAL, NULL, 0, "");

	assert_int_equal(b.status, G_OK);
	assert_int_equal(b.started, 8);
	assert_int_equal(b.failed, 2);
	delete_all();
	b = run_batch(10, FSB__V1__BATCH_MODE__ALL_OR_NOTHING, NULL, 0, "");
	assert_int_equal(b.status, G_RESOURCE_EXHAUSTED);
	said("insufficient capacity");
	assert_int_equal(b.started, 0);
	assert_int_equal(b.members, 10);
	assert_int_equal(s.starts, 0);
	delete_all();
}

static void test_batch_rolls_back(void **state)
{
	struct batch b;

	s.mode = START_DROP_RUNS;
	s.refuse_code = 0;
	/* The first start breaks the link; all are fenced: the first runs, the others do not. */
	b = run_batch(4, FSB__V1__BATCH_MODE__ALL_OR_NOTHING, NULL, 0, "");
	assert_int_equal(b.status, G_UNAVAILABLE);
	assert_int_equal(b.started, 0);
	assert_int_equal(b.members, 4);
	assert_true(s.stops >= 1);
	assert_int_equal(slots_held(), 0);
	delete_all();
}

#ifdef FSB_FAILPOINTS
enum { TWICE = 4 };

/* What the first call of a batch wrote into the registry; then a process that repeats its
 * reservation and stands still with all request ids and nothing visible; then its end. */
static struct reg_sandbox_view first[TWICE];
static pid_t hiding;

static void hide(void)
{
	struct reg_request reqs[TWICE];
	struct reg_lease leases[TWICE];
	enum reg_status status[TWICE];
	struct reg_self *me;
	struct reg *reg;

	for (int i = 0; i < TWICE; i++)
		reqs[i] = (struct reg_request){.ns = first[i].ns,
					       .pool = first[i].pool,
					       .name = first[i].name,
					       .id = first[i].id,
					       .image = first[i].image,
					       .request_id = first[i].request_id,
					       .request_hash = first[i].request_hash};
	if (reg_attach(s.arena, &reg) || reg_join(reg, REG_KIND_WORKER, &me))
		_exit(1);
	failpoint_set("batch.admitted=stop@1");
	(void)!reg_reserve_batch(me, reqs, TWICE, true, leases, status);
	_exit(2);
}

static void on_hidden_over(void *arg)
{
	struct reg_reap_result result;

	assert_int_equal(kill(hiding, SIGKILL), 0);
	assert_int_equal(waitpid(hiding, NULL, 0), hiding);
	assert_int_equal(reg_reap(s.me, NULL, NULL, &result), REG_OK);
	assert_int_equal(result.participants, 1);
	*(bool *)arg = true;
}

/* Single creates wait while the call that has their request_id is not visible yet; so do members.
 */
static void batch_waits(int mode, const char *rid)
{
	bool over = false;
	struct gloop_timer *timer = gloop_timer_new(s.loop, on_hidden_over, &over);
	struct batch b = run_batch(TWICE, mode, NULL, 0, rid);
	int status;

	assert_non_null(timer);
	assert_int_equal(b.status, G_OK);
	for (int i = 0; i < TWICE; i++) {
		char name[16];

		snprintf(name, sizeof(name), "set-%d", i);
		assert_int_equal(reg_get(s.me, "default", name, &first[i]), REG_OK);
	}
	delete_all();
	hiding = fork();
	assert_true(hiding >= 0);
	if (!hiding)
		hide();
	assert_int_equal(waitpid(hiding, &status, WUNTRACED), hiding);
	assert_true(WIFSTOPPED(status));
	gloop_timer_set(timer, 30 * NS_PER_MS);
	b = run_batch(TWICE, mode, NULL, 0, rid);
	assert_true(over); /* not before */
	assert_int_equal(b.status, G_OK);
	assert_int_equal(b.started, TWICE);
	assert_int_equal(s.starts, TWICE);
	gloop_timer_free(timer);
	delete_all();
}

static void test_batch_waits_for_its_first_call(void **state)
{
	batch_waits(FSB__V1__BATCH_MODE__ALL_OR_NOTHING, "whole");
	batch_waits(FSB__V1__BATCH_MODE__PARTIAL, "partial");
}
#endif

static int up(void **state)
{
	stack_up(8, NULL);
	return 0;
}

static int down(void **state)
{
	stack_down();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create_get_list_delete),
		cmocka_unit_test(test_bad_requests_start_nothing),
		cmocka_unit_test(test_refusal_of_the_agent_undoes),
		cmocka_unit_test(test_duplicate_and_capacity),
		cmocka_unit_test(test_ports_and_endpoints),
		cmocka_unit_test(test_request_id),
		cmocka_unit_test(test_strong_is_stored_first),
		cmocka_unit_test(test_store_away),
		cmocka_unit_test(test_wait_for_stored),
		cmocka_unit_test(test_broken_link_is_fenced),
		cmocka_unit_test(test_silent_agent),
		cmocka_unit_test(test_batch),
		cmocka_unit_test(test_batch_beyond_capacity),
		cmocka_unit_test(test_batch_rolls_back),
#ifdef FSB_FAILPOINTS
		cmocka_unit_test(test_batch_waits_for_its_first_call),
#endif
	};

	return cmocka_run_group_tests(tests, up, down);
}
