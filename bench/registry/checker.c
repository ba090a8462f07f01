/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refusals and placements without the image that were certainly wrong, while several processes take
 * and free the last few slots, their own and each other's.
 *
 * The proof is by counting. K slots are free when nobody holds one. Who takes announces it first:
 * held grows, then started; held falls after the slot was freed. A caller reads started (s0), then
 * held (h), then announces itself, calls, and reads started again (s1). Whoever may hold a slot
 * when the call begins is in h or, having announced itself after the look at held, in R = s1 - s0 -
 * 1, and so is whoever takes one during the call. So at least K - h - R slots were free from the
 * beginning to the end, and untouched: if that is positive, a refusal was wrong.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "arena.h"
#include "base/err.h"
#include "request.h"

struct mailbox {
	_Alignas(64) _Atomic uint32_t full;
	struct reg_lease lease;
};

struct checks {
	_Alignas(64) _Atomic uint64_t held;
	_Alignas(64) _Atomic uint64_t started;
	struct mailbox mailbox[SEATS_MAX];
};

struct checker {
	struct reg_self *me;
	struct requests *requests;
	struct seat seat;
	struct checks *checks;
	uint64_t turn;
};

static void *checks_new(const struct world *world)
{
	return shared_memory(sizeof(struct checks));
}

static void *checker_enter(const struct seat *seat)
{
	struct checker *c = calloc(1, sizeof(*c));

	base_bug(!c);
	c->seat = *seat;
	c->checks = seat->shared;
	c->requests = requests_new(seat->world, REQUEST_FULL, seat->idx);
	must(reg_join(seat->reg, REG_KIND_WORKER, &c->me), "reg_join");
	return c;
}

static void free_slot(struct checker *c, const struct reg_lease *lease)
{
	must(reg_stop(c->me, lease->sandbox, REG_STOP_DELETE, NULL), "reg_stop");
	must(reg_stopped(c->me, lease->sandbox, NULL), "reg_stopped");
	/* seq_cst: after the slot was freed */
	atomic_fetch_sub(&c->checks->held, 1);
}

/* K slots that are free when nobody holds one: in the pool, or of agents with the hot image. */
static void judge(struct checker *c, enum reg_status status, const struct reg_lease *lease,
		  int64_t others)
{
	const struct world *world = c->seat.world;
	struct tally *tally = c->seat.tally;

	if (status == REG_NO_CAPACITY) {
		tally->refused++;
		tally->refused_while_free += world->spec.free_slots > others;
		return;
	}
	must(status, "reg_reserve of a checker");
	if (world->by_id[lease->agent.idx]->image_bits & 1)
		return;
	tally->misses++;
	tally->misses_with_room += world->spec.free_hot_slots > others;
}

static bool take_checked(struct checker *c, struct reg_lease *lease)
{
	static const struct reg_started started = {.started_unix_ns = 1, .start_ns = 1000};
	struct checks *checks = c->checks;
	struct request *r = &c->requests->one[0];
	enum reg_status status;

	requests_prepare(c->requests, 1);
	r->req.image = world_image(0);
	/* seq_cst, all of them: the proof above needs one order */
	uint64_t s0 = atomic_load(&checks->started), h = atomic_load(&checks->held);

	atomic_fetch_add(&checks->held, 1);
	atomic_fetch_add(&checks->started, 1);
	status = reg_reserve(c->me, &r->req, lease);
	judge(c, status, lease, (int64_t)(h + atomic_load(&checks->started) - s0 - 1));
	if (status != REG_OK) {
		atomic_fetch_sub(&checks->held, 1);
		return false;
	}
	must(reg_starting(c->me, lease), "reg_starting");
	must(reg_commit(c->me, lease, &started), "reg_commit");
	return true;
}

static void empty_mailbox(struct checker *c)
{
	struct mailbox *box = &c->checks->mailbox[c->seat.idx];

	/* acquire: the lease before the mark */
	if (!atomic_load_explicit(&box->full, memory_order_acquire))
		return;
	free_slot(c, &box->lease);
	/* release: read before it is overwritten */
	atomic_store_explicit(&box->full, 0, memory_order_release);
}

/* Into the neighbour's mailbox, every other time and when there is room. */
static bool hand_over(struct checker *c, const struct reg_lease *lease)
{
	struct mailbox *box = &c->checks->mailbox[(c->seat.idx + 1) % c->seat.count];

	if (c->seat.count == 1 || ++c->turn % 2 ||
	    atomic_load_explicit(&box->full, memory_order_acquire))
		return false;
	box->lease = *lease;
	/* release: the lease before the mark */
	atomic_store_explicit(&box->full, 1, memory_order_release);
	return true;
}

static void checker_pairs(void *self, struct ring *ring, uint32_t n)
{
	struct checker *c = self;

	for (uint32_t i = 0; i < n; i++) {
		struct reg_lease lease;

		empty_mailbox(c);
		if (take_checked(c, &lease) && !hand_over(c, &lease))
			free_slot(c, &lease);
	}
}

static void checker_leave(void *self)
{
	struct checker *c = self;

	empty_mailbox(c);
	(void)reg_leave(c->me);
	requests_free(c->requests);
	free(c);
}

const struct subject subject_checker = {
	.name = "checker",
	.what = "the last free slots taken and freed in turn; wrong refusals and misses are "
		"counted",
	.arena = true,
	.checks = true,
	.shared_new = checks_new,
	.enter = checker_enter,
	.pairs = checker_pairs,
	.leave = checker_leave,
};
