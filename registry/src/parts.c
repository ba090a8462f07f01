/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Participants: who is attached, proven by a POSIX record lock that each holds on its own byte of
 * the arena file (dropped at death, held while stopped, right across pid namespaces). Joining takes
 * the lock first and the word second, so that a dead participant's index is not given away before
 * it was reaped.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Byte numbers are offsets far behind the file's end: a lock needs no data there. */
#define LOCK_BASE (INT64_C(1) << 62)

int reg__lock_byte(const struct reg *reg, uint64_t byte, short type)
{
	struct flock fl = {.l_type = type,
			   .l_whence = SEEK_SET,
			   .l_start = LOCK_BASE + (off_t)byte,
			   .l_len = 1};

	return fcntl(reg->fd, F_SETLK, &fl) ? -errno : 0;
}

/* By another process: locks of our own are not reported. */
bool reg__byte_locked(const struct reg *reg, uint64_t byte)
{
	struct flock fl = {.l_type = F_WRLCK,
			   .l_whence = SEEK_SET,
			   .l_start = LOCK_BASE + (off_t)byte,
			   .l_len = 1};

	return fcntl(reg->fd, F_GETLK, &fl) || fl.l_type != F_UNLCK;
}

int32_t reg__lock_holder(const struct reg *reg, uint64_t byte)
{
	struct flock fl = {.l_type = F_WRLCK,
			   .l_whence = SEEK_SET,
			   .l_start = LOCK_BASE + (off_t)byte,
			   .l_len = 1};

	return fcntl(reg->fd, F_GETLK, &fl) || fl.l_type == F_UNLCK ? 0 : fl.l_pid;
}

enum reg_status reg_own(struct reg *reg)
{
	int r = reg__lock_byte(reg, REG_LOCK_OWNER, F_WRLCK);

	if (r)
		return r == -EAGAIN || r == -EACCES ? REG_IN_USE : REG_IO;
	reg->owner = true;
	return REG_OK;
}

struct reg_part *reg__part(const struct reg *reg, uint32_t idx)
{
	uint64_t off = reg->span[REGION_PARTS].off + (uint64_t)idx * sizeof(struct reg_part);

	if (idx >= REG_PARTICIPANTS_MAX || !reg__ensured(reg, off, sizeof(struct reg_part)))
		return NULL;
	return (struct reg_part *)(void *)(reg->base + off);
}

bool reg__part_own(const struct reg *reg, uint32_t idx)
{
	/* relaxed: process-local; set and cleared under the mutex, for others a figure */
	return atomic_load_explicit(&reg->own[idx / 64], memory_order_relaxed) >> (idx % 64) & 1;
}

/* Set before the word says LIVE and cleared after it says so no more: our own locks are not visible
 * to us, and who is LIVE without a lock is dead. */
static void own_set(struct reg *reg, uint32_t idx, bool own)
{
	uint64_t bit = UINT64_C(1) << (idx % 64);

	/* relaxed: under the mutex; the word that follows publishes it */
	if (own)
		atomic_fetch_or_explicit(&reg->own[idx / 64], bit, memory_order_relaxed);
	else
		atomic_fetch_and_explicit(&reg->own[idx / 64], ~bit, memory_order_relaxed);
}

static void part_reset(struct reg_part *part)
{
	/* relaxed: for humans */
	atomic_store_explicit(&part->pid, (uint32_t)getpid(), memory_order_relaxed);
	reg__counters_join(part);
}

static void parts_high_raise(struct reg *reg, uint32_t idx)
{
	/* relaxed: only grows; the CAS looks again */
	uint32_t now = atomic_load_explicit(&reg->hdr->parts_high, memory_order_relaxed);

	while (now <= idx)
		/* seq_cst [F2] [Q4]: pairs with release_under_way and reg__grace_done; raised
		 * before anything is released, or read, under that index */
		if (atomic_compare_exchange_weak_explicit(&reg->hdr->parts_high, &now, idx + 1,
							  memory_order_seq_cst,
							  memory_order_relaxed))
			return;
}

/* REG_OK, REG_IN_USE (try the next index), or an error. */
static enum reg_status join_at(struct reg *reg, uint32_t idx, enum reg_kind kind)
{
	uint64_t off = reg->span[REGION_PARTS].off + (uint64_t)idx * sizeof(struct reg_part);
	enum reg_status st = reg__ensure(reg, off, sizeof(struct reg_part));

	if (st)
		return st;
	struct reg_part *part = reg__part(reg, idx);
	/* relaxed: checked again by the CAS */
	uint64_t w = atomic_load_explicit(&part->word, memory_order_relaxed);

	if (BITS_GET(w, 0, 8) != PART_FREE || reg__part_own(reg, idx))
		return REG_IN_USE;
	if (reg__lock_byte(reg, REG_LOCK_PART(idx), F_WRLCK))
		return REG_IN_USE;
	/* relaxed: once more, now that nobody else can join or reap here */
	w = atomic_load_explicit(&part->word, memory_order_relaxed);
	uint64_t next = part_word(PART_LIVE, kind, (uint32_t)BITS_GET(w, 32, 32) + 1);

	own_set(reg, idx, true);
	parts_high_raise(reg, idx);
	/* seq_cst [P1] [Q4]: pairs with reg__reap_holdings (our predecessor's holdings were taken
	 * back before) and with reg__grace_done */
	if (BITS_GET(w, 0, 8) != PART_FREE ||
	    !atomic_compare_exchange_strong_explicit(&part->word, &w, next, memory_order_seq_cst,
						     memory_order_relaxed)) {
		own_set(reg, idx, false);
		(void)reg__lock_byte(reg, REG_LOCK_PART(idx), F_UNLCK);
		return REG_IN_USE;
	}
	/*
	 * LIVE, then the look at the number, then reading. Who asked for a grace period and did not
	 * see us LIVE asked before this look, so we read what it published; who saw us waits until
	 * this number is at least its own. A plain store of LIVE could pass the look.
	 * seq_cst load [Q1] [Q4]; relaxed store: at most a number that is older than it could be
	 */
	atomic_store_explicit(&part->gp_done,
			      atomic_load_explicit(&reg->hdr->gp_requested, memory_order_seq_cst),
			      memory_order_relaxed);
	part_reset(part);
	if (kind == REG_KIND_WORKER)
		reg__homes_move(reg);
	return REG_OK;
}

static bool owns_any(const struct reg *reg)
{
	uint64_t all = 0;

	for (int i = 0; i < REG_PARTICIPANTS_MAX / 64; i++)
		/* relaxed: under the mutex */
		all |= atomic_load_explicit(&reg->own[i], memory_order_relaxed);
	return all;
}

static struct reg_self *self_free(struct reg_self *me)
{
	free(me->excluded);
	free(me->agent_marks);
	free(me->pool_marks);
	free(me->image_marks);
	free(me);
	return NULL;
}

static struct reg_self *self_new(struct reg *reg)
{
	struct reg_self *me = calloc(1, sizeof(*me));

	if (!me)
		return NULL;
	me->excluded = calloc(reg->agent_words, sizeof(uint64_t));
	me->agent_marks = calloc(reg->agent_words, sizeof(uint64_t));
	me->pool_marks = calloc((reg->max[CELLS_POOLS] + 63) / 64, sizeof(uint64_t));
	me->image_marks = calloc((reg->max[CELLS_IMAGES] + 63) / 64, sizeof(uint64_t));
	if (!me->excluded || !me->agent_marks || !me->pool_marks || !me->image_marks)
		return self_free(me);
	me->reg = reg;
	reg__floors_void(me);
	return me;
}

static enum reg_status join_any(struct reg *reg, enum reg_kind kind, struct reg_self *me)
{
	for (uint32_t idx = 0; idx < REG_PARTICIPANTS_MAX; idx++) {
		enum reg_status st = join_at(reg, idx, kind);

		if (st == REG_IN_USE)
			continue;
		if (st)
			return st;
		me->idx = idx;
		me->part = reg__part(reg, idx);
		me->rotor = idx * 7;
		return REG_OK;
	}
	return REG_LIMIT_PARTICIPANTS;
}

enum reg_status reg_join(struct reg *reg, enum reg_kind kind, struct reg_self **ret)
{
	struct reg_self *me = self_new(reg);
	enum reg_status st;

	if (!me)
		return REG_IO;
	pthread_mutex_lock(&reg->roles);
	st = reg__grace_thread_start(reg);
	if (!st)
		st = join_any(reg, kind, me);
	if (st && !owns_any(reg))
		reg__grace_thread_stop(reg);
	pthread_mutex_unlock(&reg->roles);
	if (st) {
		self_free(me);
		return st;
	}
	*ret = me;
	return REG_OK;
}

static bool holds_started(struct reg_self *me)
{
	uint32_t high = reg__cells_high(me->reg, CELLS_RECORDS);

	for (uint32_t i = 0; i < high; i++) {
		a64 *word = reg__cell(me->reg, CELLS_RECORDS, i);
		/* relaxed: our own records change by us alone */
		uint64_t w = word ? atomic_load_explicit(word, memory_order_relaxed) : 0;

		if (word_state(w) == REG_STARTING && word_owner(w) == me->idx)
			return true;
	}
	return false;
}

/* Holdings, the word, and the lock last: nobody else can join there or reap in between. */
struct reg_self *reg_leave(struct reg_self *me)
{
	struct reg_reap_result res = {0};

	if (!me)
		return NULL;
	pthread_mutex_lock(&me->reg->roles);
	/* relaxed: ours until we are gone */
	uint64_t w = atomic_load_explicit(&me->part->word, memory_order_relaxed), next;

	if (holds_started(me)) {
		next = part_word(PART_LEFT, BITS_GET(w, 8, 8), (uint32_t)(w >> 32));
	} else {
		reg__reap_holdings(me, me->idx, NULL, NULL, &res);
		next = part_word(PART_FREE, 0, (uint32_t)(w >> 32));
	}
	reg__cells_offer(me);
	/* release [P1]: pairs with join_at and the reaper; what we wrote before. LEFT: whoever
	 * reaps next asks the agents. */
	atomic_store_explicit(&me->part->word, next, memory_order_release);
	reg__homes_move(me->reg);
	own_set(me->reg, me->idx, false);
	if (!owns_any(me->reg))
		reg__grace_thread_stop(me->reg);
	(void)reg__lock_byte(me->reg, REG_LOCK_PART(me->idx), F_UNLCK);
	pthread_mutex_unlock(&me->reg->roles);
	return self_free(me);
}

uint32_t reg_self_idx(const struct reg_self *me)
{
	return me->idx;
}

struct reg *reg_self_reg(const struct reg_self *me)
{
	return me->reg;
}

bool reg_participant_next(struct reg_self *me, uint32_t *cursor, struct reg_participant *ret)
{
	for (uint32_t i = *cursor; i < REG_PARTICIPANTS_MAX; i++) {
		struct reg_part *part = reg__part(me->reg, i);
		/* relaxed: for humans */
		uint64_t w = part ? atomic_load_explicit(&part->word, memory_order_relaxed) : 0;

		if (BITS_GET(w, 0, 8) == PART_FREE)
			continue;
		*ret = (struct reg_participant){
			.idx = i,
			.incarnation = (uint32_t)BITS_GET(w, 32, 32),
			.kind = (enum reg_kind)BITS_GET(w, 8, 8),
			/* relaxed: for humans */
			.pid = (int32_t)atomic_load_explicit(&part->pid, memory_order_relaxed),
		};
		reg__counters_since_join(part, ret);
		ret->alive =
			BITS_GET(w, 0, 8) == PART_LIVE &&
			(reg__part_own(me->reg, i) || reg__byte_locked(me->reg, REG_LOCK_PART(i)));
		*cursor = i + 1;
		return true;
	}
	*cursor = REG_PARTICIPANTS_MAX;
	return false;
}

/* ---- waking up ---- */

void reg__futex_wake(a32 *word)
{
	(void)syscall(SYS_futex, (uintptr_t)word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

int reg__futex_wait(a32 *word, uint32_t seen, uint64_t timeout_ns)
{
	struct timespec ts = {.tv_sec = (time_t)(timeout_ns / 1000000000),
			      .tv_nsec = (long)(timeout_ns % 1000000000)};

	return syscall(SYS_futex, (uintptr_t)word, FUTEX_WAIT, seen,
		       timeout_ns == UINT64_MAX ? NULL : &ts, NULL, 0)
		       ? -errno
		       : 0;
}

uint32_t reg_watch_seq(const struct reg_self *me)
{
	/* acquire [W1]: pairs with reg__watchers_wake; the change before the number */
	return atomic_load_explicit(&me->part->wake, memory_order_acquire);
}

void reg_watch_wait(struct reg_self *me, uint32_t seen, uint64_t timeout_ns)
{
	if (reg_watch_seq(me) == seen)
		(void)reg__futex_wait(&me->part->wake, seen, timeout_ns);
}

static void part_wake(struct reg_part *part)
{
	/* release [W1]: pairs with reg_watch_seq */
	atomic_fetch_add_explicit(&part->wake, 1, memory_order_release);
	reg__futex_wake(&part->wake);
}

void reg_watch_kick(struct reg_self *me)
{
	part_wake(me->part);
}

enum reg_status reg_watch(struct reg_self *me, reg_sandbox_id sandbox)
{
	struct reg_rec *rec;
	a64 *word;
	uint64_t w;

	if (!reg__rec_is(me->reg, sandbox, &rec, &word, &w))
		return REG_STALE;
	/* seq_cst [W2]: pairs with reg__watchers_wake: either the changer sees the bit or we,
	 * looking afterwards, the change */
	atomic_fetch_or_explicit(&rec->watchers, UINT64_C(1) << (me->idx % 64),
				 memory_order_seq_cst);
	return REG_OK;
}

void reg__watchers_call(struct reg *reg, uint64_t mask)
{
	for (; mask; mask &= mask - 1) {
		for (uint32_t i = (uint32_t)__builtin_ctzll(mask); i < REG_PARTICIPANTS_MAX;
		     i += 64) {
			struct reg_part *part = reg__part(reg, i);

			/* relaxed: a wake too many is harmless, and who joins later has watched
			 * nothing yet */
			if (part &&
			    BITS_GET(atomic_load_explicit(&part->word, memory_order_relaxed), 0,
				     8) == PART_LIVE)
				part_wake(part);
		}
	}
}
