/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement: which agent, which slot, whose ports. Hints nominate the least loaded agent: at the
 * caller's own homes first, elsewhere when a lower load is published there; a CAS on a slot word
 * decides. Before refusing, one authoritative pass over the slot words of every candidate; what it
 * found is remembered under the pool's release number, so that the next refusal is quick and the
 * next release undoes it. Lock free.
 */
#include "place.h"
#include "seat.h"

#include <string.h>

/* The score of a missing image, and how far under concurrency a load may be above the lowest. */
#define IMAGE_MISSING 1000
#define SLACK	      2

#define INLINE	      static inline __attribute__((always_inline))

/* ---- one agent ---- */

struct search {
	uint32_t record, pool, image, stripes;
	struct reg_rec *rec;
	struct reg_pool *row;
	uint32_t port_count;
	bool conflict;	/* some agent with room had a port in use */
	bool undecided; /* by one who may yet lose it */
	uint16_t ports[REG_PORTS_MAX];
};

static inline void choice_fill(const struct reg_self *me, const struct search *s,
			       const struct reg_floor *f, struct choice *c)
{
	c->pool = f->pool_bits;
	c->pool_stripes = f->pool_bits - me->reg->stripe_words;
	c->image = f->image_bits;
	c->image_stripes = f->image_bits ? f->image_bits - me->reg->stripe_words : NULL;
	c->excluded = s->port_count ? me->excluded : NULL;
	c->stripes = s->stripes;
	c->homes = me->homes ? homes_pattern(me->homes) : ~UINT64_C(0);
}

/* The claim of a slot that has come true is written down in the record, unless the agent has
 * changed before it: REG_STALE. hot: as of a moment behind the claim. */
INLINE enum reg_status written(struct reg_self *me, const struct search *s,
			       const struct reg_agent *a, uint64_t hot, uint32_t agent,
			       uint32_t slot, uint32_t gen, struct reg_lease *ret)
{
	ret->agent.gen = hot_gen(hot);
	if (__builtin_expect(!reg__claim_stands(a, hot, slot, s->pool), 0)) {
		reg__slot_free(me, agent, slot, gen, s->record);
		return REG_STALE;
	}
	/* release [R3]: pairs with record_matches in index.c */
	atomic_store_explicit(&s->rec->place, place_make(agent, slot, gen), memory_order_release);
	(void)FAILPOINT("reserve.placed");
	if (__builtin_expect(s->port_count, 0)) {
		enum reg_status st = reg__ports_claim(me->reg, agent, s->record, ret->sandbox.gen);

		if (st) {
			reg__unplace(me, s->record, s->rec, ret->sandbox.gen);
			return st;
		}
	}
	ret->agent.idx = agent;
	ret->slot = slot;
	ret->slot_gen = gen;
	return REG_OK;
}

/*
 * Slot, placement, ports, in this order; undone in reverse. Dying after the slot: the reaper finds
 * the slot by our index. After the placement: by the record, which is CLAIMED and ours. REG_OK,
 * REG_STALE (no free slot there), REG_PORT_CONFLICT, or a lack of memory.
 */
static inline enum reg_status take_on(struct reg_self *me, const struct search *s, uint32_t agent,
				      uint32_t slot, struct reg_lease *ret)
{
	struct reg_agent *a = reg__agent(me->reg, agent);
	uint32_t gen;
	uint64_t hot;

	if (!a)
		return REG_STALE;
	if (slot == REG_NIL) {
		if (!agent_claim(me, a, agent, s->record, false, &slot, &gen, &hot))
			return REG_STALE;
	} else {
		if (!reg__slot_take(me, agent, slot, s->record, &gen))
			return REG_STALE;
		hot = atomic_load_explicit(&a->hot, memory_order_seq_cst); /* [U2] */
	}
	return written(me, s, a, hot, agent, slot, gen, ret);
}

/* slot REG_NIL: any by the mask, which nominates only. */
static inline enum reg_status try_agent(struct reg_self *me, struct search *s, uint32_t agent,
					uint32_t slot, struct reg_lease *ret)
{
	enum reg_status st = REG_PORT_CONFLICT;

	if (!s->port_count ||
	    !reg__ports_taken(me->reg, agent, s->ports, s->port_count, &s->undecided))
		st = take_on(me, s, agent, slot, ret);
	if (__builtin_expect(st == REG_PORT_CONFLICT, 0)) {
		s->conflict = true;
		me->excluded[agent / 64] |= UINT64_C(1) << (agent % 64);
	}
	return st;
}

/* So many failures in a row are a storm or a damaged arena, whose hints heal to what is not so; the
 * pass over the words ends either way and decides. */
#define FAILED_NOMINATIONS_MAX 1000

/* ---- nominations ---- */

/* The least loaded candidate by hint, by a pass over all of the pool; REG_NIL: none has room.
 * Repeats only when a hint changed between the two looks. */
static __attribute__((noinline)) uint32_t best_anywhere(struct reg_self *me, const struct search *s,
							const struct reg_floor *f,
							int16_t *ret_hint)
{
	struct choice c;

	choice_fill(me, s, f, &c);
	for (;;) {
		int16_t best = REG_HINT_FULL;
		uint32_t at = me->rotor / REG_STRIPE;
		uint32_t agent = reg__scan_lowest(me, &c, 0, &at, &best);

		*ret_hint = best;
		if (agent != REG_NIL || best == REG_HINT_FULL)
			return agent;
	}
}

/* A whole pass over my homes: what it finds is the new floor, and published for the others. */
static uint32_t pass_at_home(struct reg_self *me, const struct search *s, const struct choice *c,
			     struct reg_floor *f, uint32_t others, int16_t *ret_hint)
{
	uint32_t seen[REG_HOMES] = {0}, at = f->stripe, agent;
	int16_t best = REG_HINT_FULL;

	for (uint32_t homes = others ? me->homes : 0; homes; homes &= homes - 1) {
		uint32_t home = (uint32_t)__builtin_ctz(homes);

		seen[home] = reg__low_word(me, s->row, f->image, home);
	}
	agent = reg__scan_lowest(me, c, floor_value(me, f), &at, &best);
	*ret_hint = best;
	if (s->port_count) /* without those whose ports conflict: says nothing about the rest */
		return agent;
	f->stripe = at;
	if (best <= floor_value(me, f)) /* came meanwhile: no whole pass */
		return agent;
	reg__floor_raise(me, f, best);
	for (uint32_t homes = others ? me->homes : 0; homes; homes &= homes - 1) {
		uint32_t home = (uint32_t)__builtin_ctz(homes);

		reg__low_raise(me, s->row, f->image, home, c, seen[home], best, SLACK);
	}
	return agent;
}

/* None of those that I have released lately will do. */
static __attribute__((noinline)) uint32_t best_at_home(struct reg_self *me, const struct search *s,
						       struct reg_floor *f, uint32_t others,
						       int16_t *ret_hint)
{
	struct choice c;
	uint32_t agent;

	*ret_hint = floor_value(me, f);
	if (*ret_hint == REG_HINT_FULL)
		return REG_NIL;
	choice_fill(me, s, f, &c);
	agent = reg__scan_first(me, &c, *ret_hint, &f->stripe);
	if (agent != REG_NIL)
		return agent;
	do
		agent = pass_at_home(me, s, &c, f, others, ret_hint);
	while (agent == REG_NIL && *ret_hint != REG_HINT_FULL); /* taken meanwhile */
	return agent;
}

/* Passes over those of the other homes that may have less than mine. */
static uint32_t steal(struct reg_self *me, const struct search *s, const struct reg_floor *f,
		      uint32_t others, const int16_t lows[REG_HOMES], int step, uint32_t agent,
		      int16_t *best)
{
	struct choice c, there;

	choice_fill(me, s, f, &c);
	there = c;

	for (; others; others &= others - 1) {
		uint32_t home = (uint32_t)__builtin_ctz(others), at = me->rotor / REG_STRIPE, a;
		int16_t found = REG_HINT_FULL;
		uint32_t seen;

		if (lows[home] >= *best)
			continue;
		seen = s->port_count ? 0 : reg__low_word(me, s->row, f->image, home);
		there.homes = homes_pattern(1u << home);
		a = reg__scan_lowest(me, &there, lows[home], &at, &found);
		if (found > lows[home])
			reg__low_raise(me, s->row, f->image, home, &c, seen, found, step);
		if (a == REG_NIL || found >= *best)
			continue;
		agent = a;
		*best = found;
	}
	return agent;
}

/* The homes that have stripes at all. */
static uint32_t homes_in_use(uint32_t stripes)
{
	return stripes < REG_HOMES ? (1u << stripes) - 1 : (1u << REG_HOMES) - 1;
}

/* The best of the other homes, when one may have less than mine. Exact unless somebody else is
 * placing at the same time: then the load may be SLACK above the lowest. */
static __attribute__((noinline)) uint32_t compare(struct reg_self *me, const struct search *s,
						  const struct reg_floor *f, uint32_t others,
						  uint32_t agent, int16_t *hint)
{
	int16_t lows[REG_HOMES], lowest = reg__low_of(s->row, f->image, others, lows);
	bool busy;

	if (*hint <= lowest)
		return agent;
	busy = reg__others_placing(me);
	if (busy && agent != REG_NIL && *hint <= lowest + SLACK)
		return agent;
	return steal(me, s, f, others, lows, busy ? SLACK : 1, agent, hint);
}

/* The least loaded candidate by hint, REG_NIL: none has room. */
static inline uint32_t nominate(struct reg_self *me, const struct search *s, struct reg_floor *f,
				int16_t *ret_hint)
{
	uint32_t others, agent;

	if (__builtin_expect(!me->homes, 0))
		return best_anywhere(me, s, f, ret_hint);
	/* acquire [N4]: pairs with reg__pool_void; before the pass */
	uint64_t moves = atomic_load_explicit(&s->row->moves, memory_order_acquire);

	if (__builtin_expect(f->moves != moves, 0))
		reg__floor_moved(me, f, moves);
	others = homes_in_use(s->stripes) & ~me->homes;
	agent = floor_fresh(me, f, s->port_count ? me->excluded : NULL, ret_hint);
	if (agent == REG_NIL)
		agent = best_at_home(me, s, f, others, ret_hint);
	return others && *ret_hint ? compare(me, s, f, others, agent, ret_hint) : agent;
}

/* An agent without the image, when even the score of that is less than the load there. */
static __attribute__((noinline)) uint32_t without_image(struct reg_self *me, const struct search *s,
							uint32_t image, uint32_t agent,
							int16_t hint)
{
	int16_t other_hint;
	uint32_t other = nominate(me, s, floor_of(me, s->pool, REG_NIL), &other_hint);

	/* the two may share a place in the table: the caller's floor is the image's again */
	(void)floor_of(me, s->pool, image);
	return other != REG_NIL && other_hint + IMAGE_MISSING < hint ? other : agent;
}

/* The lowest score. */
static inline uint32_t nominate_by_score(struct reg_self *me, const struct search *s,
					 struct reg_floor *f)
{
	int16_t hint;
	uint32_t agent = nominate(me, s, f, &hint);

	if (__builtin_expect(hint < IMAGE_MISSING, 1) || agent == REG_NIL || f->image == REG_NIL)
		return agent;
	return without_image(me, s, f->image, agent, hint);
}

/* A nomination failed: its agent's hints are healed, so that the nominations end. */
static __attribute__((noinline)) void failed_at(struct reg_self *me, uint32_t agent)
{
	(void)reg__agent_heal(me->reg, agent);
	reg__pause();
}

/* Nominations until one succeeds or no hint shows room. */
static inline enum reg_status by_hint(struct reg_self *me, struct search *s, struct reg_floor *f,
				      struct reg_lease *ret)
{
	for (uint32_t agent, failed = 0; (agent = nominate_by_score(me, s, f)) != REG_NIL;) {
		enum reg_status st = try_agent(me, s, agent, REG_NIL, ret);

		if (__builtin_expect(st == REG_OK, 1)) {
			reg__count(me, me->homes >> home_of(agent) & 1 ? REG_COUNT_HOME_HIT
								       : REG_COUNT_STEAL);
			return st;
		}
		if (st != REG_STALE && st != REG_PORT_CONFLICT)
			return st;
		if (st == REG_STALE) {
			reg__count(me, REG_COUNT_NOMINATION_FAILED);
			if (++failed == FAILED_NOMINATIONS_MAX)
				break;
			failed_at(me, agent);
		}
	}
	return REG_STALE;
}

/* ---- the authoritative pass ---- */

/* A free word below the capacity is room only while no more are held in all: an agent may hold some
 * beyond a capacity that shrank. */
static bool room_by_words(const struct reg *reg, uint32_t agent, uint32_t slots)
{
	uint32_t held = 0;

	for (uint32_t i = 0; i < REG_SLOTS_PER_AGENT_MAX && held < slots; i++) {
		a64 *slot = reg__slot(reg, agent, i);

		if (!slot)
			return true;
		/* seq_cst [F1]: as in by_word */
		held += word_state(atomic_load_explicit(slot, memory_order_seq_cst)) != SLOT_FREE;
	}
	return held < slots;
}

/* The authoritative pass: every slot word of every candidate. */
static enum reg_status by_word(struct reg_self *me, struct search *s, const struct choice *c,
			       struct reg_lease *ret)
{
	for (uint32_t w = 0; w < c->stripes; w++) {
		for (uint64_t m = choice_agents(c, w); m; m &= m - 1) {
			uint32_t agent = w * 64 + (uint32_t)__builtin_ctzll(m);
			const struct reg_agent *a = reg__agent(me->reg, agent);
			/* seq_cst [F1]: after the pool was marked as being refused */
			uint64_t hot = a ? atomic_load_explicit(&a->hot, memory_order_seq_cst) : 0;

			/* who freed a slot beyond the limit may stand still before it raised that
			 */
			if (hot_slots(hot) < hot_capacity(hot)) {
				reg__agent_limit(me->reg, agent);
				hot = atomic_load_explicit(&a->hot,
							   memory_order_seq_cst); /* [F1] */
			}
			for (uint32_t i = 0; hot_ready(hot) && i < hot_slots(hot); i++) {
				a64 *slot = reg__slot(me->reg, agent, i);
				enum reg_status st;

				/* seq_cst [F1]: a release before our mark is seen here, one after
				 * it clears the mark */
				if (!slot || word_state(atomic_load_explicit(
						     slot, memory_order_seq_cst)) != SLOT_FREE)
					continue;
				if (!room_by_words(me->reg, agent, hot_capacity(hot)))
					break;
				(void)reg__agent_heal(me->reg, agent);
				/* exactly this word: its mask bit may be in the hands of one who
				 * stands still */
				st = try_agent(me, s, agent, i, ret);
				if (st == REG_PORT_CONFLICT)
					break;
				if (st != REG_STALE)
					return st;
			}
		}
	}
	return REG_STALE;
}

/* How often a pass is repeated while a port that is in the way is held by a reservation that is not
 * decided yet. One who stands still keeps his ports: after so many passes it is a conflict. */
#define PORT_PASSES 64

/* Without what hints and earlier attempts say about ports. */
static enum reg_status by_word_decided(struct reg_self *me, struct search *s, uint32_t image,
				       struct reg_lease *ret)
{
	enum reg_status st = REG_STALE;
	struct choice c;

	choice_fill(me, s, floor_of(me, s->pool, image), &c);
	for (int n = 0; n < PORT_PASSES && st == REG_STALE; n++) {
		s->undecided = false;
		if (s->port_count)
			memset(me->excluded, 0, s->stripes * sizeof(uint64_t));
		st = by_word(me, s, &c, ret);
		if (!s->undecided)
			break;
		reg__pause();
	}
	return st;
}

/*
 * Somebody is between making a slot of the pool free and clearing the memo. Looked at before the
 * memo: who is not seen here has either not made it free yet, or has cleared the memo already.
 */
static bool release_under_way(const struct reg *reg, uint32_t pool)
{
	/* acquire [F2]: pairs with parts_high_raise */
	uint32_t high = atomic_load_explicit(&reg->hdr->parts_high, memory_order_acquire);

	for (uint32_t i = 0; i < high && i < REG_PARTICIPANTS_MAX; i++) {
		const struct reg_part *part = reg__part(reg, i);

		/* acquire [F2]: pairs with reg__slot_free */
		if (part &&
		    atomic_load_explicit(&part->releasing, memory_order_acquire) == pool + 1)
			return true;
	}
	return false;
}

static struct reg_full_memo *memo_of(struct reg_self *me, uint32_t pool, uint32_t image)
{
	/* the two groups of a request must not share a place: a refusal looks at both */
	return &me->memo[image == REG_NIL
				 ? pool * 31 % (FULL_MEMOS / 2)
				 : FULL_MEMOS / 2 + (pool * 31 + image) % (FULL_MEMOS / 2)];
}

/*
 * One group of candidates (those with the image; then all of the pool): hints, then the pass.
 * "Full" is remembered in this process under the pool's number; a release, or anything that makes
 * room, moves the number on when somebody may remember.
 */
static __attribute__((noinline)) enum reg_status by_pass(struct reg_self *me, struct search *s,
							 uint32_t image, struct reg_lease *ret)
{
	enum reg_status st;
	struct reg_full_memo *memo = memo_of(me, s->pool, image);
	bool look = release_under_way(me->reg, s->pool);
	/* seq_cst [F1]: pairs with reg__pool_full_clear; after the look at the releasers */
	uint64_t full = atomic_load_explicit(&s->row->full, memory_order_seq_cst);

	if (!look && !s->port_count && (full & 1) && memo->pool == s->pool + 1 &&
	    memo->image == image + 1 && memo->full == full) {
		reg__count(me, REG_COUNT_MEMO_REFUSED);
		return REG_STALE;
	}
	/* seq_cst [F1]: the mark before the pass */
	full = atomic_fetch_or_explicit(&s->row->full, 1, memory_order_seq_cst);
	reg__count(me, REG_COUNT_PASS);
	st = by_word_decided(me, s, image, ret);
	if (st == REG_OK) /* hints or floors were wrong */
		reg__floors_sink(me, s->pool, 0, ret->agent.idx / REG_STRIPE);
	if (st == REG_STALE && !s->port_count && !look)
		*memo = (struct reg_full_memo){s->pool + 1, image + 1, full | 1};
	return st;
}

static inline enum reg_status from_group(struct reg_self *me, struct search *s, struct reg_floor *f,
					 struct reg_lease *ret)
{
	uint32_t image = f->image;
	enum reg_status st = by_hint(me, s, f, ret);

	return __builtin_expect(st == REG_STALE, 0) ? by_pass(me, s, image, ret) : st;
}

/* All of them, so that an agent whose images change between the two passes is not missed by both;
 * who has the image had no room a moment ago. */
static __attribute__((noinline)) enum reg_status from_all(struct reg_self *me, struct search *s,
							  struct reg_lease *ret)
{
	return from_group(me, s, floor_of(me, s->pool, REG_NIL), ret);
}

static inline enum reg_status place(struct reg_self *me, struct search *s, struct reg_floor *f,
				    struct reg_lease *ret)
{
	enum reg_status st;

	if (__builtin_expect(foreign_any(s->row), 0))
		reg__foreign_take(me, s->pool, s->row);
	if (s->port_count)
		reg__ports_exclude(me->reg, s->ports, s->port_count, me->excluded, s->stripes);
	st = from_group(me, s, f, ret);
	if (__builtin_expect(st == REG_STALE && s->image != REG_NIL, 0))
		st = from_all(me, s, ret);
	if (__builtin_expect(st != REG_STALE, 1))
		return st;
	return s->conflict ? REG_PORT_CONFLICT : REG_NO_CAPACITY;
}

static __attribute__((noinline)) enum reg_status searched(struct reg_self *me, struct reg_floor *f,
							  uint32_t pool, uint32_t record,
							  struct reg_rec *rec,
							  struct reg_lease *ret)
{
	struct search s;

	s.stripes = (reg__cells_high(me->reg, CELLS_AGENTS) + REG_STRIPE - 1) / REG_STRIPE;
	if (!s.stripes)
		return REG_NO_CAPACITY;
	s.record = record;
	s.pool = pool;
	s.image = f->image;
	s.row = f->row;
	s.rec = rec;
	s.conflict = s.undecided = false;
	s.port_count = reg__rec_ports(rec, s.ports);
	return place(me, &s, f, ret);
}

/*
 * The usual case without all that a search may need: no ports, all homes mine or an agent without
 * load, and the last agent that I released is not above the floor; one attempt at its first free
 * slot. False: nothing is taken.
 */
INLINE bool by_fresh(struct reg_self *me, const struct search *s, const struct reg_floor *f,
		     struct reg_lease *ret)
{
	struct reg_agent *a;
	struct seat seat;
	uint32_t agent, gen;
	uint64_t hot, room;
	int16_t hint;

	/* acquire [N4]: as in nominate */
	if (atomic_load_explicit(&f->row->moves, memory_order_acquire) != f->moves ||
	    !f->fresh_count || f->sunk || s->port_count || foreign_any(f->row))
		return false;
	agent = f->fresh[f->fresh_count - 1];
	/* relaxed: a hint */
	hint = atomic_load_explicit(reg__hint(me->reg, agent), memory_order_relaxed);
	if (hint > floor_value(me, f) || hint >= IMAGE_MISSING || !floor_has(f, agent) ||
	    !me->homes || (hint && me->homes != (1u << REG_HOMES) - 1))
		return false;
	a = reg__agent(me->reg, agent);
	if (!a || !seat_at(me->reg, a, agent, 0, &seat))
		return false;
	/* relaxed, both: checked again by the CAS, and the claim by the hot word */
	hot = atomic_load_explicit(&a->hot, memory_order_relaxed);
	room = ~atomic_load_explicit(seat.mask, memory_order_relaxed);
	if (hot_slots(hot) < REG_CHUNK_SLOTS)
		room &= (UINT64_C(1) << hot_slots(hot)) - 1;
	if (!room || !hot_ready(hot))
		return false;
	seat_move(&seat, room);
	if (!seat_take(me, &seat, s->record, &hot, &gen)) {
		reg__count(me, REG_COUNT_LOST_CAS);
		return false;
	}
	if (written(me, s, a, hot, agent, seat.slot, gen, ret))
		return false;
	reg__count(me, me->homes >> home_of(agent) & 1 ? REG_COUNT_HOME_HIT : REG_COUNT_STEAL);
	return true;
}

enum reg_status reg__place(struct reg_self *me, uint32_t pool, uint32_t image, uint32_t record,
			   struct reg_lease *ret)
{
	struct reg_rec *rec = reg__rec(me->reg, record);
	enum reg_status st = REG_OK;
	struct reg_floor *f;

	homes_look(me); /* may void the floors */
	f = floor_of(me, pool, image);
	if (f && !f->image_bits && image != REG_NIL)
		f = floor_of(me, pool, REG_NIL);
	if (__builtin_expect(!f, 0))
		return REG_NO_CAPACITY;
	/* what is not set here, by_fresh does not look at */
	const struct search s = {.record = record,
				 .pool = pool,
				 .rec = rec,
				 .port_count = BITS_GET(rec->pool_and_consistency, 40, 8)};

	/* relaxed: see reg__others_placing */
	atomic_store_explicit(&me->part->placing, 1, memory_order_relaxed);
	if (__builtin_expect(!by_fresh(me, &s, f, ret), 0))
		st = searched(me, f, pool, record, rec, ret);
	atomic_store_explicit(&me->part->placing, 0, memory_order_relaxed);
	return st;
}
