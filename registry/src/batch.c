/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several reservations in one pass: records, keys and slots of all, then one store that makes all
 * of them visible. The first one is the head; the others, CLAIMED with a mark, are what the head
 * is. Gangs (all or nothing) of a pool are placed one behind another, so that two do not take the
 * slots from under each other; who waits does so for a bounded time, and nobody waits in a lock.
 *
 * If we die before the head's store: CLAIMED records of ours, which the reaper takes back. After
 * it: members that are RESERVED, by mark or by word, of a dead owner, nothing sent: taken back as
 * well.
 */
#include "internal.h"

#include <sched.h>

#include "base/clock.h"

#define CHUNK	       16		/* members whose lines are fetched together */
#define GANG_WAIT_NS   (50 * NS_PER_MS) /* for a gang that is being placed */
#define WAITS_PER_LOOK 64		/* pauses between two looks at the clock */

struct batch {
	struct reg_self *me;
	const struct reg_request *reqs;
	struct reg_lease *leases;
	enum reg_status *status;
	uint32_t n;
	bool all;
	uint32_t pool; /* of the first one, and whether all are of it */
	bool one_pool;
	/* the last names that were looked up, and the rows */
	const char *pool_ns, *pool_named, *image_named;
	struct reg_row pool_row, image_row;
	bool swept;	       /* a row went while we placed: once more */
	enum reg_status first; /* refusal, of the lowest member */
	uint32_t first_at;
};

/* ---- admission ---- */

uint64_t reg__gang_look(const struct reg_self *me, uint32_t pool)
{
	const struct reg_pool *row = reg__pool(me->reg, pool);

	/* acquire [L1]: pairs with gang_leave; before the pass over the slots */
	return row ? atomic_load_explicit(&row->gang, memory_order_acquire) : 0;
}

/*
 * Until another one than me has left: its number then, or the one under which it was waited for in
 * vain. Who stands still or died delays each of the others once: they remember the number.
 */
static uint64_t wait_for_gang(struct reg_self *me, const struct reg_pool *row)
{
	uint64_t since = 0, w;

	for (uint32_t i = 1;; i++) {
		/* acquire [L1]: as above */
		w = atomic_load_explicit(&row->gang, memory_order_acquire);
		if (gang_owner(w) == REG_NIL || w == me->gang_given_up)
			return w;
		if (i == 1)
			reg__count(me, REG_COUNT_GANG_WAIT);
		reg__pause();
		if (i % WAITS_PER_LOOK)
			continue;
		uint64_t now = clock_mono_ns();

		since = since ? since : now;
		if (now - since > GANG_WAIT_NS)
			me->gang_given_up = w;
		(void)sched_yield();
	}
}

/* False: somebody else stands in the way; then we go on all the same. */
static bool gang_enter(struct reg_self *me, struct reg_pool *row)
{
	for (;;) {
		uint64_t w = wait_for_gang(me, row);

		if (gang_owner(w) != REG_NIL)
			return false;
		/* acquire [L1]: what the one before took or gave back */
		if (atomic_compare_exchange_strong_explicit(&row->gang, &w, gang_take(w, me->idx),
							    memory_order_acquire,
							    memory_order_relaxed))
			return true;
	}
}

static void gang_leave(struct reg_pool *row)
{
	/* relaxed: ours. Release [L1]: pairs with the looks; what we took or gave back before it */
	atomic_store_explicit(&row->gang,
			      gang_give(atomic_load_explicit(&row->gang, memory_order_relaxed)),
			      memory_order_release);
}

/*
 * A gang may have caused the refusal by what it held in passing: once more in its place, where no
 * other one is at work. Not when nobody was at it, or when who is stands still.
 */
enum reg_status reg__place_admitted(struct reg_self *me, uint32_t pool, uint32_t image,
				    uint64_t before, enum reg_status refusal, struct reg_lease *ret)
{
	struct reg_pool *row = reg__pool(me->reg, pool);
	enum reg_status st;

	if (!row || (gang_owner(before) == REG_NIL && reg__gang_look(me, pool) == before) ||
	    !gang_enter(me, row))
		return refusal;
	st = reg__place(me, pool, image, ret->sandbox.idx, ret);
	gang_leave(row);
	return st;
}

void reg__gangs_reap(struct reg *reg, uint32_t dead)
{
	for (uint32_t i = 0; i < reg__cells_high(reg, CELLS_POOLS); i++) {
		struct reg_pool *row = reg__pool(reg, i);
		/* relaxed: checked again by the CAS */
		uint64_t w = row ? atomic_load_explicit(&row->gang, memory_order_relaxed) : 0;

		if (gang_owner(w) == dead)
			/* release [L1]: its records and slots were taken back before */
			(void)atomic_compare_exchange_strong_explicit(&row->gang, &w, gang_give(w),
								      memory_order_release,
								      memory_order_relaxed);
	}
}

/* Free slots of those that may be taken: by the slot words, or by the masks, which are hints. */
static uint32_t free_on(const struct reg *reg, uint32_t agent, uint32_t slots, bool words)
{
	uint32_t room = 0;

	for (uint32_t i = 0; words && i < slots; i++) {
		a64 *slot = reg__slot(reg, agent, i);

		/* relaxed: counting; the claims decide */
		room += slot &&
			word_state(atomic_load_explicit(slot, memory_order_relaxed)) == SLOT_FREE;
	}
	for (uint32_t at = 0; !words && at < slots; at += REG_CHUNK_SLOTS) {
		const a64 *mask = reg__mask(reg, agent, at / REG_CHUNK_SLOTS);
		uint64_t valid =
			slots - at >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << (slots - at)) - 1;
		/* relaxed: a hint */
		uint64_t used = mask ? atomic_load_explicit(mask, memory_order_relaxed) : valid;

		room += (uint32_t)__builtin_popcountll(valid & ~used);
	}
	return room;
}

/* Free slots of the pool, counted no further than to `enough`: by masks, or by the slot words. */
static uint32_t room_in(struct reg_self *me, uint32_t pool, uint32_t enough, bool words)
{
	const struct reg *reg = me->reg;
	const a64 *bits = reg__pool_bits(reg, pool);
	uint32_t high = reg__cells_high(reg, CELLS_AGENTS), room = 0;

	for (uint32_t w = 0; bits && w * 64 < high && room < enough; w++) {
		/* acquire [G3]: pairs with pool_move; the agent's row before its bit */
		uint64_t m = atomic_load_explicit(&bits[w], memory_order_acquire);

		for (; m && room < enough; m &= m - 1) {
			uint32_t agent = w * 64 + (uint32_t)__builtin_ctzll(m);
			const struct reg_agent *a = reg__agent(reg, agent);
			/* relaxed: a capacity as of some moment of the call */
			uint64_t hot = a ? atomic_load_explicit(&a->hot, memory_order_relaxed) : 0;

			/* as in the pass over the words: who freed a slot beyond the limit may
			 * stand still before it raised that */
			if (words && a && hot_slots(hot) < hot_capacity(hot)) {
				reg__agent_limit(me->reg, agent);
				hot = atomic_load_explicit(&a->hot, memory_order_relaxed);
			}
			if (a && hot_ready(hot))
				room += free_on(reg, agent, hot_slots(hot), words);
		}
	}
	return room;
}

/* ---- the members ---- */

static void note(struct batch *b, uint32_t i, enum reg_status st)
{
	b->status[i] = st;
	if (st && (!b->first || i < b->first_at)) {
		b->first = st;
		b->first_at = i;
	}
}

static void refuse(struct batch *b, uint32_t i, uint32_t pool, enum reg_status st)
{
	reg__refused(b->me, pool, st);
	note(b, i, st);
}

/* Refused although it had a record and its keys: these go. */
static void give_up(struct batch *b, uint32_t i, uint32_t pool, enum reg_status st)
{
	reg__undo(b->me, b->leases[i].sandbox.idx);
	b->leases[i].sandbox = (reg_sandbox_id){0};
	refuse(b, i, pool, st);
}

/* All or nothing: a repeat of the whole batch wants every first result, any other refusal is the
 * end. */
static bool hopeless(const struct batch *b)
{
	return b->all && b->first && b->first != REG_REQUEST_SEEN;
}

struct member {
	struct reg_want want;
	reg_sandbox_id id;
	uint32_t pool;
};

/* Members name the same pool and image by the same pointers, as a rule. */
static bool pool_row(struct batch *b, const struct reg_request *req)
{
	if (b->pool_named == req->pool && b->pool_ns == req->ns)
		return true;
	if (!reg__pool_of(b->me, req->ns, reg__text_len(req->ns, REG_NAMESPACE_MAX), req->pool,
			  reg__text_len(req->pool, REG_NAME_MAX), &b->pool_row))
		return false;
	b->pool_ns = req->ns;
	b->pool_named = req->pool;
	return true;
}

static void image_row(struct batch *b, const struct reg_request *req)
{
	if (b->image_named == req->image)
		return;
	b->image_named = req->image;
	if (!reg__image_of(b->me, req->image, reg__text_len(req->image, REG_IMAGE_MAX),
			   &b->image_row))
		b->image_row = (struct reg_row){REG_NIL, 0};
}

/* Checked, with its pool, its keys and the lines that they need on their way. */
static void member_prepare(struct batch *b, struct member *m, uint32_t i)
{
	const struct reg_request *req = &b->reqs[i];
	struct reg *reg = b->me->reg;
	enum reg_status st = reg__request_check(req, &m->want);

	b->status[i] = REG_OK;
	b->leases[i] = (struct reg_lease){.agent = {REG_NIL}};
	m->pool = REG_NIL;
	if (!st && !pool_row(b, req))
		st = REG_NO_POOL;
	if (st) {
		refuse(b, i, REG_NIL, st);
		return;
	}
	m->pool = b->pool_row.idx;
	b->pool = b->pool == REG_NIL ? m->pool : b->pool;
	b->one_pool &= b->pool == m->pool;
	reg__want_keys(&m->want);
	reg__index_prefetch(reg, INDEX_NAMES, m->want.name_hash);
	if (m->want.request_id_len)
		reg__index_prefetch(reg, INDEX_REQUESTS, m->want.request_hash);
}

/* Its record, filled. What is short may come back from a member before it: not refused yet. */
static void member_record(struct batch *b, struct member *m, uint32_t i)
{
	m->id = (reg_sandbox_id){0};
	if (b->status[i] || reg__rec_take(b->me, &m->id))
		return;
	reg__rec_prefetch(b->me, m->want.req, m->id.idx);
}

static void member_fill(struct batch *b, struct member *m, uint32_t i)
{
	if (m->id.gen && reg__rec_fill(b->me, &m->want, m->pool, 1, m->id))
		m->id.gen = 0;
}

/* Request id before name: a repeat of the same request is told so, and not that its name exists. */
static void member_keys(struct batch *b, struct member *m, uint32_t i)
{
	struct reg_lease *lease = &b->leases[i];
	enum reg_status st = REG_OK;

	if (b->status[i])
		return;
	if (!m->id.gen)
		st = reg__rec_new(b->me, &m->want, m->pool, 1, &m->id);
	if (st) {
		refuse(b, i, m->pool, st);
		return;
	}
	*lease = (struct reg_lease){.sandbox = m->id, .agent = {REG_NIL}};
	st = reg__request_claim(b->me->reg, &m->want, lease);
	if (!st)
		st = reg__name_claim(b->me->reg, &m->want, lease);
	if (st) { /* the lease has the other one's handle now */
		reg__undo(b->me, m->id.idx);
		refuse(b, i, m->pool, st);
	}
}

static uint32_t pool_of(const struct batch *b, uint32_t i)
{
	return reg__rec_pool(reg__rec_held(b->me->reg, b->leases[i].sandbox.idx));
}

/*
 * Slots, and ports. A member of a partial batch waits for gangs as a single reservation does.
 * REG_CONFLICT: a row of its names went meanwhile.
 */
static enum reg_status try_place(struct batch *b, uint32_t pool, uint32_t i)
{
	struct reg_lease *lease = &b->leases[i];
	enum reg_status st;

	image_row(b, &b->reqs[i]);
	if (b->all)
		st = reg__place(b->me, pool, b->image_row.idx, lease->sandbox.idx, lease);
	else
		st = reg__place_single(b->me, pool, b->image_row.idx, lease);
	(void)FAILPOINT("batch.placed");
	if (!st && (!pool_row(b, &b->reqs[i]) || b->pool_row.idx != pool ||
		    !reg__rows_stand(b->me->reg, b->pool_row, b->image_row)))
		st = REG_CONFLICT;
	return st;
}

static void member_place(struct batch *b, uint32_t i)
{
	uint32_t pool;
	enum reg_status st;

	if (b->status[i])
		return;
	pool = pool_of(b, i);
	st = try_place(b, pool, i);
	if (st == REG_CONFLICT) {
		b->pool_named = b->image_named = NULL;
		b->swept = true;
		if (b->all)
			return;
		/* alone, until the rows stand */
		reg__undo(b->me, b->leases[i].sandbox.idx);
		b->leases[i].sandbox = (reg_sandbox_id){0};
		note(b, i, reg__reserve_hidden(b->me, &b->reqs[i], &b->leases[i]));
	} else if (st) {
		give_up(b, i, pool, st);
	}
}

/*
 * Records and keys, some at a time, so that the lines of one are on their way while another is
 * written; of a partial batch the slots, too, so that each member finds what those before it have
 * left. Returns how many members were looked at.
 */
static uint32_t take_members(struct batch *b)
{
	struct member m[CHUNK];
	uint32_t at = 0;

	for (; at < b->n && !hopeless(b); at += CHUNK) {
		uint32_t n = b->n - at < CHUNK ? b->n - at : CHUNK, i;

		for (i = 0; i < n; i++)
			member_prepare(b, &m[i], at + i);
		for (i = 0; i < n; i++)
			member_record(b, &m[i], at + i);
		for (i = 0; i < n; i++)
			member_fill(b, &m[i], at + i);
		for (i = 0; i < n; i++) {
			member_keys(b, &m[i], at + i);
			if (!b->all)
				member_place(b, at + i);
		}
	}
	return at < b->n ? at : b->n;
}

static void place_gang(struct batch *b)
{
	for (uint32_t i = 0; i < b->n && !b->first && !b->swept; i++)
		member_place(b, i);
}

/* Before anything is taken: a pool that has no room for all of them. The member that would find
 * none is the one in the way. */
static bool has_room(struct batch *b, uint32_t pool)
{
	uint32_t room = room_in(b->me, pool, b->n, false);

	if (room < b->n) /* masks nominate only */
		room = room_in(b->me, pool, b->n, true);
	if (room >= b->n)
		return true;
	give_up(b, room, pool, REG_NO_CAPACITY);
	return false;
}

/* ---- the end ---- */

static void undo_all(struct batch *b, uint32_t looked_at)
{
	for (uint32_t i = looked_at; i--;) {
		if (b->status[i])
			continue;
		reg__undo(b->me, b->leases[i].sandbox.idx);
		(void)FAILPOINT("batch.undone");
	}
	for (uint32_t i = looked_at; i < b->n; i++)
		b->status[i] = REG_OK;
}

/* CLAIMED → CLAIMED as a member of that head: from here on its fate is the head's. */
static void member_mark(struct batch *b, const struct reg_lease *head,
			const struct reg_lease *lease)
{
	struct reg *reg = b->me->reg;
	struct reg_rec *rec = reg__rec_held(reg, lease->sandbox.idx);
	a64 *word = reg__cell_held(reg, CELLS_RECORDS, lease->sandbox.idx);
	/* relaxed: ours */
	uint64_t w = atomic_load_explicit(word, memory_order_relaxed), next = w;

	(void)rec_to_member(w, b->me->idx, &next);
	/* release [R2] [R1]: the head's name before the mark; pairs with member_shown */
	__atomic_store_n(&rec->head, head_make(head->sandbox.idx, head->sandbox.gen),
			 __ATOMIC_RELEASE);
	atomic_store_explicit(word, next, memory_order_release);
	(void)FAILPOINT("batch.member-marked");
}

/* CLAIMED as a member → RESERVED, unless somebody who saw it was first. */
static void member_show(struct batch *b, const struct reg_lease *lease)
{
	struct reg *reg = b->me->reg;
	a64 *word = reg__cell_held(reg, CELLS_RECORDS, lease->sandbox.idx);
	/* relaxed: checked again by the CAS */
	uint64_t w = atomic_load_explicit(word, memory_order_relaxed), next;

	if (!rec_to_shown(w, &next))
		/* seq_cst [R1] [D3]: before the look at its dirty bit */
		(void)atomic_compare_exchange_strong_explicit(word, &w, next, memory_order_seq_cst,
							      memory_order_relaxed);
	(void)FAILPOINT("batch.member-shown");
	reg__dirty_mark(reg, lease->sandbox.idx, reg__rec_held(reg, lease->sandbox.idx), false);
}

/*
 * One store makes all of them visible: the head's word. Before it every member names the head;
 * after it each one is written down as RESERVED, by us or by whoever looks at it first, and marked
 * dirty after that, since who takes the bit of a record that is not RESERVED drops it.
 */
static uint32_t publish_all(struct batch *b)
{
	const struct reg_lease *head = NULL;
	uint32_t ok = 0;

	for (uint32_t i = 0; i < b->n; i++) {
		if (b->status[i])
			continue;
		ok++;
		if (head)
			member_mark(b, head, &b->leases[i]);
		else
			head = &b->leases[i];
	}
	if (!head)
		return 0;
	reg__publish(b->me, head);
	(void)FAILPOINT("batch.head-published");
	for (const struct reg_lease *l = head + 1; l < b->leases + b->n; l++)
		if (!b->status[l - b->leases])
			member_show(b, l);
	reg__count_add(b->me, REG_COUNT_RESERVED, ok - 1);
	return ok;
}

/* All or nothing. Keys are taken before the admission: a repeat of the batch must not wait for it.
 */
static enum reg_status reserve_gang(struct batch *b)
{
	uint32_t looked_at = take_members(b);
	struct reg_pool *row = b->first ? NULL : reg__pool(b->me->reg, b->pool);
	bool entered = row && b->n > 1 && gang_enter(b->me, row);

	(void)FAILPOINT("batch.admitted");
	if (!b->first && (!b->one_pool || has_room(b, b->pool)))
		place_gang(b);
	if (b->first || b->swept)
		undo_all(b, looked_at);
	else
		(void)publish_all(b);
	if (entered)
		gang_leave(row);
	return b->first ? b->first : (b->swept ? REG_CONFLICT : REG_OK);
}

enum reg_status reg_reserve_batch(struct reg_self *me, const struct reg_request *reqs, uint32_t n,
				  bool all, struct reg_lease *ret_leases,
				  enum reg_status *ret_status)
{
	struct batch b = {.me = me,
			  .reqs = reqs,
			  .leases = ret_leases,
			  .status = ret_status,
			  .n = n,
			  .all = all,
			  .pool = REG_NIL,
			  .one_pool = true};
	enum reg_status st;

	if (!n)
		return REG_OK;
	if (all) { /* again when a row of its names was swept under it */
		while ((st = reserve_gang(&b)) == REG_CONFLICT)
			b.swept = false;
		return st;
	}
	(void)take_members(&b);
	return publish_all(&b) ? REG_OK : b.first;
}
