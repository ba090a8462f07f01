/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checker itself, on histories made by hand: of each rule of lin.h one history that an order
 * explains, and one beside it, as near as can be, that none does.
 */
#include "lin.h"
#include "rig.h"

#include <string.h>

/* Two agents of one slot, the first one with the image. */
static struct lin_history start(void)
{
	return (struct lin_history){.world = {.agents = 2,
					      .slots = {1, 1},
					      .image = {true, false},
					      .gangs_at_once = true}};
}

static struct lin_op *add(struct lin_history *h, uint64_t from, uint64_t to, enum lin_kind kind)
{
	struct lin_op *op = &h->ops[h->count++];

	*op = (struct lin_op){.from = from, .to = to, .kind = kind};
	return op;
}

/* The handle of what is reserved under a name is the name, too. */
static reg_sandbox_id handle(uint32_t no)
{
	return (reg_sandbox_id){no, 1};
}

static struct lin_member *reserve(struct lin_history *h, uint64_t from, uint64_t to, uint8_t name,
				  uint8_t agent, uint8_t slot)
{
	struct lin_op *op = add(h, from, to, LIN_RESERVE);

	op->n = 1;
	op->member[0] = (struct lin_member){.name = name,
					    .rid = LIN_NONE,
					    .image = 1,
					    .sandbox = handle(name),
					    .agent = agent,
					    .slot = slot};
	return &op->member[0];
}

static struct lin_member *refuse(struct lin_history *h, uint64_t from, uint64_t to, uint8_t name,
				 enum reg_status status, reg_sandbox_id other)
{
	struct lin_member *m = reserve(h, from, to, name, 0, 0);

	m->status = h->ops[h->count - 1].status = status;
	m->sandbox = other;
	return m;
}

static void move(struct lin_history *h, uint64_t from, uint64_t to, enum lin_kind kind, uint32_t no,
		 enum reg_status status)
{
	struct lin_op *op = add(h, from, to, kind);

	op->sandbox = handle(no);
	op->status = status;
}

static void stop(struct lin_history *h, uint64_t from, uint64_t to, uint32_t no,
		 enum reg_state before)
{
	move(h, from, to, LIN_STOP, no, REG_OK);
	h->ops[h->count - 1].state = before;
}

static struct lin_op *get(struct lin_history *h, uint64_t from, uint64_t to, uint8_t name,
			  enum reg_state state)
{
	struct lin_op *op = add(h, from, to, LIN_GET);

	op->name = name;
	op->status = state == REG_FREE ? REG_NOT_FOUND : REG_OK;
	op->state = state;
	op->sandbox = handle(name);
	return op;
}

static void judged(const struct lin_history *h, enum lin_verdict want, const char *what)
{
	rig_note("%s", what);
	CHECK_EQ(lin_judge(h), want);
}

static const reg_sandbox_id nobody = {0, 0};

static void test_slots(void **state)
{
	struct lin_history h = start();

	(void)state;
	(void)reserve(&h, 0, 10, 1, 0, 0);
	(void)reserve(&h, 5, 15, 2, 1, 0);
	judged(&h, LIN_YES, "two slots");
	h.ops[1].member[0].agent = 0;
	judged(&h, LIN_NO, "one slot twice");
	move(&h, 11, 12, LIN_ABORT, 1, REG_OK);
	judged(&h, LIN_YES, "one slot, one after the other");
	h.ops[2].from = 16, h.ops[2].to = 17;
	judged(&h, LIN_NO, "freed too late");
	h.ops[1].member[0].slot = 1;
	judged(&h, LIN_NO, "a slot that there is not");
}

static void test_keys(void **state)
{
	struct lin_history h = start();
	struct lin_member *m;

	(void)state;
	(void)reserve(&h, 0, 10, 1, 0, 0);
	m = reserve(&h, 20, 30, 1, 1, 0);
	m->sandbox = handle(9);
	judged(&h, LIN_NO, "a name twice");
	m->name = 2;
	judged(&h, LIN_YES, "two names");
	h.ops[0].member[0].rid = m->rid = 3;
	judged(&h, LIN_NO, "a request id twice");
	m->rid = 4;
	h.ops[0].member[0].ports = 1, m->ports = 3, m->agent = 0;
	h.world.slots[0] = 2, m->slot = 1;
	judged(&h, LIN_NO, "a port twice on one agent");
	m->agent = 1, m->slot = 0;
	judged(&h, LIN_YES, "a port on two agents");
	m->sandbox = handle(1);
	judged(&h, LIN_NO, "a handle twice");
}

static void test_full(void **state)
{
	struct lin_history h = start();

	(void)state;
	(void)reserve(&h, 0, 10, 1, 0, 0);
	(void)refuse(&h, 20, 30, 2, REG_NO_CAPACITY, nobody);
	judged(&h, LIN_NO, "a slot was free all the time");
	(void)reserve(&h, 25, 40, 3, 1, 0);
	judged(&h, LIN_YES, "the last one is in flight");
	h.ops[2].from = 31;
	judged(&h, LIN_NO, "the last one came later");
	h.ops[2].from = 11, h.ops[2].to = 12;
	judged(&h, LIN_YES, "all taken before");
	move(&h, 13, 14, LIN_ABORT, 1, REG_OK);
	judged(&h, LIN_NO, "one freed before");
	h.ops[3].to = 21;
	judged(&h, LIN_YES, "one on its way out");
	/* each slot was taken at some moment of the call, but not all of them at one */
	h = start();
	(void)reserve(&h, 0, 10, 1, 0, 0);
	(void)refuse(&h, 20, 100, 2, REG_NO_CAPACITY, nobody);
	move(&h, 30, 40, LIN_ABORT, 1, REG_OK);
	(void)reserve(&h, 50, 60, 3, 1, 0);
	judged(&h, LIN_NO, "never full at one moment");
	h.ops[3].from = 39;
	judged(&h, LIN_YES, "full for a moment");
}

static void test_ports(void **state)
{
	struct lin_history h = start();
	struct lin_member *m;

	(void)state;
	h.world.slots[1] = 2;
	reserve(&h, 0, 10, 1, 1, 0)->ports = 1;
	(void)reserve(&h, 0, 10, 2, 0, 0);
	m = refuse(&h, 20, 30, 3, REG_PORT_CONFLICT, nobody);
	m->ports = 2;
	judged(&h, LIN_NO, "nobody has that port");
	m->ports = 3;
	judged(&h, LIN_YES, "one of the ports in use, the other agent full");
	h.ops[2].status = m->status = REG_NO_CAPACITY;
	judged(&h, LIN_NO, "there is a free slot");
	h.world.slots[1] = 1;
	judged(&h, LIN_YES, "there is none");
	h.ops[2].status = m->status = REG_PORT_CONFLICT;
	m->ports = 2;
	judged(&h, LIN_NO, "there is none, and no port is the reason");
	h.world.slots[1] = 2, m->ports = 3;
	move(&h, 12, 14, LIN_ABORT, 2, REG_OK);
	judged(&h, LIN_NO, "the other agent has room");
	(void)refuse(&h, 15, 22, 4, REG_NAME_EXISTS, handle(1));
	h.ops[4].member[0].name = 1;
	h.ops[4].member[0].ports = 2;
	judged(&h, LIN_YES, "one in flight tried the port");
}

static void test_refused_keys(void **state)
{
	struct lin_history h = start();

	(void)state;
	(void)reserve(&h, 0, 10, 1, 0, 0);
	(void)refuse(&h, 20, 30, 1, REG_NAME_EXISTS, handle(1));
	judged(&h, LIN_YES, "the name is taken");
	h.ops[1].status = h.ops[1].member[0].status = REG_NAME_TERMINATING;
	judged(&h, LIN_NO, "and not being stopped");
	stop(&h, 11, 12, 1, REG_RESERVED);
	judged(&h, LIN_NO, "marked only");
	h.ops[2].from = 24;
	move(&h, 25, 26, LIN_ABORT, 1, REG_OK);
	judged(&h, LIN_NO, "stopped at a time that is none");
	h.ops[2].to = 25;
	judged(&h, LIN_YES, "on its way out");
	h.ops[1].member[0].name = 2;
	judged(&h, LIN_NO, "another name");
	/* a handle that nobody was given: only by one that was refused itself */
	h = start();
	(void)refuse(&h, 0, 10, 1, REG_NAME_EXISTS, handle(7));
	judged(&h, LIN_NO, "there is nobody");
	(void)refuse(&h, 5, 15, 1, REG_REQUEST_SEEN, handle(8));
	h.ops[1].member[0].rid = 3;
	reserve(&h, 0, 2, 8, 0, 0)->rid = 3;
	judged(&h, LIN_YES, "one in flight had it for a moment");
	h.ops[1].member[0].hash = 1;
	judged(&h, LIN_NO, "the same request id for something else is no repeat");
	h.ops[1].status = h.ops[1].member[0].status = REG_REQUEST_MISMATCH;
	judged(&h, LIN_YES, "but a mismatch");
	h.ops[1].from = 11;
	judged(&h, LIN_NO, "in flight at another time");
}

static void test_image(void **state)
{
	struct lin_history h = start();

	(void)state;
	reserve(&h, 10, 20, 1, 1, 0)->image = 0;
	judged(&h, LIN_NO, "the agent with the image had room");
	(void)reserve(&h, 0, 12, 2, 0, 0);
	move(&h, 13, 14, LIN_ABORT, 2, REG_OK);
	judged(&h, LIN_YES, "for a moment it had none");
	h.ops[2].from = 4, h.ops[2].to = 5, h.ops[1].to = 3;
	judged(&h, LIN_NO, "that was before the call");
	h.ops[0].member[0].image = 1;
	judged(&h, LIN_YES, "nobody has that image");
}

static void test_transitions(void **state)
{
	struct lin_history h = start();

	(void)state;
	(void)reserve(&h, 0, 10, 1, 0, 0);
	move(&h, 11, 20, LIN_STARTING, 1, REG_OK);
	move(&h, 21, 30, LIN_COMMIT, 1, REG_OK);
	stop(&h, 31, 40, 1, REG_RUNNING);
	move(&h, 41, 50, LIN_STOPPED, 1, REG_OK);
	judged(&h, LIN_YES, "a life");
	h.ops[3].state = REG_STARTING;
	judged(&h, LIN_NO, "not what it was before");
	h.ops[3].from = 22;
	judged(&h, LIN_NO, "marked while starting, so the commit says DELETING");
	h.ops[2].status = REG_DELETING;
	judged(&h, LIN_YES, "and it does");
	h.ops[2].from = h.ops[2].to = 21;
	judged(&h, LIN_NO, "not before the mark");
	h.ops[2].to = 30;
	move(&h, 51, 60, LIN_STOPPED, 1, REG_STALE);
	judged(&h, LIN_YES, "a second end is refused");
	h.ops[5].from = 20, h.ops[5].to = 40;
	judged(&h, LIN_NO, "but not before the first one");
	h.ops[5].status = REG_OK;
	judged(&h, LIN_NO, "nor done");
}

static void test_looks(void **state)
{
	struct lin_history h = start();
	struct lin_op *op;

	(void)state;
	(void)reserve(&h, 0, 10, 1, 0, 0);
	op = get(&h, 11, 12, 1, REG_FREE);
	judged(&h, LIN_NO, "reserved and not found");
	op->from = 9;
	judged(&h, LIN_YES, "not found while it was reserved");
	op = get(&h, 2, 3, 1, REG_RESERVED);
	judged(&h, LIN_NO, "found, then not found");
	h.ops[1].from = 1;
	judged(&h, LIN_YES, "not found, then found");
	op->agent = 1;
	judged(&h, LIN_NO, "elsewhere");
	op->agent = 0, op->deleting = true;
	judged(&h, LIN_NO, "nobody asked for its end");
	op->deleting = false, op->state = REG_RUNNING;
	judged(&h, LIN_NO, "it does not run");
	op->state = REG_RESERVED, op->sandbox = handle(5);
	judged(&h, LIN_NO, "nobody was given that handle");
	h = start();
	(void)reserve(&h, 0, 10, 1, 0, 0);
	op = add(&h, 11, 20, LIN_LIST);
	judged(&h, LIN_NO, "not in the list");
	op->seen[op->n++] = handle(1);
	judged(&h, LIN_YES, "in the list");
	op->seen[op->n++] = handle(1);
	judged(&h, LIN_NO, "in it twice");
	op->n = 1;
	move(&h, 10, 11, LIN_ABORT, 1, REG_OK);
	judged(&h, LIN_YES, "aborted meanwhile");
	h.ops[0].to = 8, h.ops[2].from = 9, h.ops[2].to = 10;
	judged(&h, LIN_NO, "aborted before");
}

static void test_gangs(void **state)
{
	struct lin_history h = start();
	struct lin_member *m = reserve(&h, 0, 10, 1, 0, 0);
	struct lin_op *op = &h.ops[0];

	(void)state;
	m[1] = (struct lin_member){
		.name = 2, .rid = LIN_NONE, .image = 1, .sandbox = handle(2), .agent = 1};
	op->n = 2;
	get(&h, 3, 4, 1, REG_RESERVED)->worker = 1;
	get(&h, 5, 6, 2, REG_FREE)->worker = 1;
	judged(&h, LIN_NO, "half a gang");
	h.world.gangs_at_once = false;
	judged(&h, LIN_YES, "half a gang, where that is allowed");
	h.world.gangs_at_once = true;
	h.ops[1].from = 7, h.ops[1].to = 8;
	judged(&h, LIN_YES, "none, then all");
	h = start();
	m = refuse(&h, 0, 10, 1, REG_OK, handle(1));
	m[1] = (struct lin_member){.name = 2, .status = REG_NO_CAPACITY};
	h.ops[0].n = 2;
	h.ops[0].status = REG_NO_CAPACITY;
	judged(&h, LIN_NO, "room for both");
	(void)reserve(&h, 1, 2, 3, 0, 0);
	judged(&h, LIN_YES, "room for one");
	(void)refuse(&h, 3, 4, 5, REG_NO_CAPACITY, nobody);
	judged(&h, LIN_YES, "the gang holds the other one for a moment");
	h.ops[0].to = 2;
	judged(&h, LIN_NO, "it is over by then");
}

static void test_overlap(void **state)
{
	struct lin_history h = start();
	struct lin_overlap overlap;

	(void)state;
	(void)get(&h, 0, 10, 1, REG_FREE);
	(void)get(&h, 5, 15, 1, REG_FREE);
	(void)get(&h, 10, 20, 1, REG_FREE);
	(void)get(&h, 30, 40, 1, REG_FREE);
	lin_overlap(&h, &overlap);
	CHECK_EQ(overlap.most, 3);
	CHECK_EQ(overlap.mean * 100, 250); /* 3, 3, 3, 1 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slots),	     cmocka_unit_test(test_keys),
		cmocka_unit_test(test_full),	     cmocka_unit_test(test_ports),
		cmocka_unit_test(test_refused_keys), cmocka_unit_test(test_image),
		cmocka_unit_test(test_transitions),  cmocka_unit_test(test_looks),
		cmocka_unit_test(test_gangs),	     cmocka_unit_test(test_overlap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
