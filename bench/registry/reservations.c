/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry through its public header, and (slot) through its entry for measuring: one process's
 * side of each case. The arena is arena.c's.
 */
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "base/err.h"
#include "registry/bench.h"
#include "request.h"

struct user {
	struct reg_self *me;
	struct requests *requests;
	struct seat seat;
	/* slot */
	struct reg_bench_target target[WORLD_IMAGES];
	struct reg_lease *opened; /* records */
	uint32_t opened_count;
	/* batches */
	struct reg_request batch[UNIT_MAX];
	enum reg_status status[UNIT_MAX];
};

static struct user *user_new(const struct seat *seat, enum request_kind kind)
{
	struct user *user = calloc(1, sizeof(*user));

	base_bug(!user);
	user->seat = *seat;
	user->requests = requests_new(seat->world, kind, seat->idx);
	must(reg_join(seat->reg, REG_KIND_WORKER, &user->me), "reg_join");
	return user;
}

static void user_leave(void *self)
{
	struct user *user = self;

	(void)reg_leave(user->me);
	requests_free(user->requests);
	free(user->opened);
	free(user);
}

/* Where the last ones were placed. With ports an agent with the image may rightly be passed over.
 */
static void audit(struct user *user)
{
	const struct world *world = user->seat.world;
	struct tally *tally = user->seat.tally;

	for (uint32_t i = 0; i < user->requests->next; i++) {
		const struct request *r = &user->requests->one[i];

		if (r->agent == UINT32_MAX || world->by_id[r->agent]->image_bits >> r->image & 1)
			continue;
		tally->misses++;
		tally->misses_with_room += !world->spec.ports && user->seat.image_room[r->image];
	}
}

static void user_prepare(void *self, uint32_t n)
{
	struct user *user = self;

	audit(user);
	requests_prepare(user->requests, n);
}

static __attribute__((noinline, cold)) bool refused(struct user *user, enum reg_status status,
						    struct reg_lease *lease)
{
	struct tally *tally = user->seat.tally;

	if (status == REG_PORT_CONFLICT) {
		tally->conflicts++;
		return lease_refused(lease);
	}
	if (status != REG_NO_CAPACITY)
		must(status, "a reservation");
	tally->refused++;
	tally->refused_while_free += !user->seat.world->spec.ports && user->seat.room;
	return lease_refused(lease);
}

/* ---- full: reg_reserve and reg_abort ---- */

static void *full_enter(const struct seat *seat)
{
	return user_new(seat, REQUEST_FULL);
}

static bool full_take(void *self, struct reg_lease *lease)
{
	struct user *user = self;
	struct request *r = &user->requests->one[user->requests->next++];
	enum reg_status status = reg_reserve(user->me, &r->req, lease);

	if (__builtin_expect(status != REG_OK, 0))
		return refused(user, status, lease);
	r->agent = lease->agent.idx;
	return true;
}

static void full_give(void *self, struct reg_lease *lease)
{
	struct user *user = self;

	if (!lease_none(lease))
		must(reg_abort(user->me, lease), "reg_abort");
}

SUBJECT_PAIRS(full)

/* ---- slot: the decision and nothing else ---- */

static void *slot_enter(const struct seat *seat)
{
	struct user *user = user_new(seat, REQUEST_LEAST);

	for (uint32_t i = 0; i < WORLD_IMAGES; i++)
		must(reg_bench_target(user->me, WORLD_NAMESPACE, WORLD_POOL, world_image(i),
				      &user->target[i]),
		     "reg_bench_target");
	user->opened = calloc(2 * (size_t)seat->lease_count, sizeof(*user->opened));
	base_bug(!user->opened);
	return user;
}

/* At the first use of a place in the ring. */
static __attribute__((noinline, cold)) void slot_open(struct user *user, struct reg_lease *lease)
{
	base_bug(user->opened_count == 2 * user->seat.lease_count);
	must(reg_bench_open(user->me, &user->requests->one[0].req, lease), "reg_bench_open");
	user->opened[user->opened_count++] = *lease;
}

static bool slot_take(void *self, struct reg_lease *lease)
{
	struct user *user = self;
	struct request *r = &user->requests->one[user->requests->next++];
	enum reg_status status;

	if (__builtin_expect(!lease->sandbox.gen, 0))
		slot_open(user, lease);
	status = reg_bench_take(user->me, &user->target[r->image], lease);
	if (__builtin_expect(status != REG_OK, 0))
		return refused(user, status, lease);
	r->agent = lease->agent.idx;
	return true;
}

static void slot_give(void *self, struct reg_lease *lease)
{
	struct user *user = self;

	if (!lease_none(lease))
		reg_bench_give(user->me, lease);
}

static void slot_leave(void *self)
{
	struct user *user = self;

	for (uint32_t i = 0; i < user->opened_count; i++)
		reg_bench_close(user->me, &user->opened[i]);
	user_leave(user);
}

SUBJECT_PAIRS(slot)

/* ---- life: from reserve to the confirmed stop, by any process ---- */

static bool life_take(void *self, struct reg_lease *lease)
{
	static const struct reg_started started = {.started_unix_ns = 1, .start_ns = 1000};
	struct user *user = self;

	if (!full_take(self, lease))
		return false;
	must(reg_starting(user->me, lease), "reg_starting");
	must(reg_commit(user->me, lease, &started), "reg_commit");
	return true;
}

static void life_give(void *self, struct reg_lease *lease)
{
	struct user *user = self;

	if (lease_none(lease))
		return;
	must(reg_stop(user->me, lease->sandbox, REG_STOP_DELETE, NULL), "reg_stop");
	must(reg_stopped(user->me, lease->sandbox, NULL), "reg_stopped");
}

SUBJECT_PAIRS(life)

/* ---- batches ---- */

static void batch_prepare(void *self, uint32_t n)
{
	struct user *user = self;

	user_prepare(self, n);
	for (uint32_t i = 0; i < n; i++)
		user->batch[i] = user->requests->one[i].req;
}

static bool batch_take(struct user *user, struct reg_lease *leases, uint32_t n)
{
	enum reg_status status =
		reg_reserve_batch(user->me, user->batch, n, true, leases, user->status);

	if (status != REG_OK) {
		for (uint32_t i = 1; i < n; i++)
			(void)lease_refused(&leases[i]);
		return refused(user, status, &leases[0]);
	}
	for (uint32_t i = 0; i < n; i++)
		user->requests->one[user->requests->next++].agent = leases[i].agent.idx;
	return true;
}

static bool batch64_take(void *self, struct reg_lease *leases)
{
	return batch_take(self, leases, 64);
}

static bool gang1000_take(void *self, struct reg_lease *leases)
{
	return batch_take(self, leases, 1000);
}

static bool singles64_take(void *self, struct reg_lease *leases)
{
	bool all = true;

	for (uint32_t i = 0; i < 64; i++)
		all &= full_take(self, &leases[i]);
	return all;
}

static void give64(void *self, struct reg_lease *leases)
{
	for (uint32_t i = 0; i < 64; i++)
		full_give(self, &leases[i]);
}

static void give1000(void *self, struct reg_lease *leases)
{
	for (uint32_t i = 0; i < 1000; i++)
		full_give(self, &leases[i]);
}

#define RESERVATION(subject_name, prefix, text)                                                    \
	.name = subject_name, .what = text, .arena = true, .enter = full_enter,                    \
	.prepare = user_prepare, .pairs = prefix##_pairs, .take = prefix##_take,                   \
	.give = prefix##_give, .leave = user_leave

const struct subject subject_full = {
	RESERVATION("full", full, "reserve (20-byte name, request id, 512-byte spec) and abort"),
};

const struct subject subject_full_cold = {
	RESERVATION("full_cold", full, "full, with 2048 leases in turn"),
	.ring = RING_MAX,
};

const struct subject subject_life = {
	RESERVATION("life", life, "reserve, starting, commit, stop, stopped"),
};

const struct subject subject_slot = {
	.name = "slot",
	.what = "the slot decision alone, by the registry's entry for measuring",
	.arena = true,
	.hidden = true,
	.enter = slot_enter,
	.prepare = user_prepare,
	.pairs = slot_pairs,
	.take = slot_take,
	.give = slot_give,
	.leave = slot_leave,
};

#define BATCH(subject_name, n, take_fn, give_fn, text)                                             \
	.name = subject_name, .what = text, .arena = true, .unit = (n), .ring = (n),               \
	.takes = true, .enter = full_enter, .prepare = batch_prepare, .take = take_fn,             \
	.give = give_fn, .leave = user_leave, .block_max = 4

const struct subject subject_batch64 = {
	BATCH("batch64", 64, batch64_take, give64, "reserve of 64 at once, all or nothing"),
};

const struct subject subject_singles64 = {
	BATCH("singles64", 64, singles64_take, give64, "64 reserves one by one"),
};

const struct subject subject_gang1000 = {
	BATCH("gang1000", 1000, gang1000_take, give1000, "reserve of 1000, all or nothing"),
};
