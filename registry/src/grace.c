/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Grace periods over processes. liburcu's readers are private to one process; here each process
 * that has joined an arena runs one thread that completes a local synchronize_rcu() for every
 * number that somebody requests, and publishes that number for each of its participants. A grace
 * period is over when all live participants have published its number. Nobody waits for a dead one.
 */
#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"

#define STACK_BYTES (256 * 1024)     /* the thread calls nothing deep; sanitizers want some room */
#define POLL_NS	    (10 * NS_PER_MS) /* a death wakes nobody */

/* The low half (little endian) is the futex. It wraps, the number does not: only who falls asleep
 * on a value that is exactly 2^32 requests old would miss those, and each later one wakes it. */
static a32 *requested_futex(const struct reg *reg)
{
	return (a32 *)((uintptr_t)reg->hdr + offsetof(struct reg_header, gp_requested));
}

/* ---- the thread ---- */

struct batch {
	uint32_t n;
	uint32_t idx[REG_PARTICIPANTS_MAX];
	uint64_t done[REG_PARTICIPANTS_MAX];
};

static void behind(const struct reg *reg, uint64_t number, struct batch *ret)
{
	ret->n = 0;
	for (uint32_t i = 0; i < REG_PARTICIPANTS_MAX; i++) {
		struct reg_part *part = reg__part_own(reg, i) ? reg__part(reg, i) : NULL;
		/* relaxed: checked again by the CAS */
		uint64_t done =
			part ? atomic_load_explicit(&part->gp_done, memory_order_relaxed) : number;

		if (done >= number)
			continue;
		ret->idx[ret->n] = i;
		ret->done[ret->n++] = done;
	}
}

/*
 * That number and no newer one: a request that came while we synchronised is served by the next
 * round. The CAS fails when the participant left and the index has a new owner, who began with a
 * number of its own that is at least as new.
 */
static bool serve(struct reg *reg, uint64_t number)
{
	struct batch batch;

	behind(reg, number, &batch);
	if (!batch.n)
		return false;
	urcu_bp_synchronize_rcu();
	for (uint32_t i = 0; i < batch.n; i++)
		/* release [Q2]: pairs with reg__grace_done; the sections that ended before */
		(void)atomic_compare_exchange_strong_explicit(
			&reg__part(reg, batch.idx[i])->gp_done, &batch.done[i], number,
			memory_order_release, memory_order_relaxed);
	/* release [Q3]: pairs with reg_synchronize; the numbers before the wake-up's */
	atomic_fetch_add_explicit(&reg->hdr->gp_served, 1, memory_order_release);
	reg__futex_wake(&reg->hdr->gp_served);
	return true;
}

static void *grace_main(void *arg)
{
	struct reg *reg = arg;

	/* relaxed: a flag on its own, of this process */
	while (!atomic_load_explicit(&reg->grace_stop, memory_order_relaxed)) {
		/* acquire [Q1]: pairs with reg__grace_start; what was unpublished before */
		uint64_t number =
			atomic_load_explicit(&reg->hdr->gp_requested, memory_order_acquire);

		if (!serve(reg, number))
			(void)reg__futex_wait(requested_futex(reg), (uint32_t)number, UINT64_MAX);
	}
	return NULL;
}

/* Under reg->roles. Takes no signal of the program's, and has no part in keeping it alive. */
enum reg_status reg__grace_thread_start(struct reg *reg)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int r;

	if (reg->grace_running)
		return REG_OK;
	atomic_store_explicit(&reg->grace_stop, 0, memory_order_relaxed); /* before the thread */
	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&reg->grace_thread, &attr, grace_main, reg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	reg->grace_running = r == 0;
	return r ? REG_IO : REG_OK;
}

/* Under reg->roles, when the last participant of this mapping has left. */
void reg__grace_thread_stop(struct reg *reg)
{
	struct timespec until;

	if (!reg->grace_running)
		return;
	/* relaxed: see grace_main; the wake-up is repeated until the thread has ended */
	atomic_store_explicit(&reg->grace_stop, 1, memory_order_relaxed);
	do {
		reg__futex_wake(requested_futex(reg));
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += NS_PER_MS;
		if (until.tv_nsec >= (long)NS_PER_S) {
			until.tv_nsec -= (long)NS_PER_S;
			until.tv_sec++;
		}
	} while (pthread_timedjoin_np(reg->grace_thread, NULL, &until));
	reg->grace_running = false;
}

/* ---- fork: the child has neither the thread nor a participant ---- */

static pthread_mutex_t mapped_lock = PTHREAD_MUTEX_INITIALIZER;
static struct reg *mapped;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void fork_prepare(void)
{
	pthread_mutex_lock(&mapped_lock);
	urcu_bp_before_fork(); /* waits for a synchronisation that is under way */
}

static void fork_parent(void)
{
	urcu_bp_after_fork_parent();
	pthread_mutex_unlock(&mapped_lock);
}

/* The byte locks stayed with the parent, so the arena does not count the child. */
static void fork_child(void)
{
	urcu_bp_after_fork_child(); /* forgets the readers of threads that are not here */
	for (struct reg *reg = mapped; reg; reg = reg->mapped_next) {
		reg->grace_running = false;
		for (int i = 0; i < REG_PARTICIPANTS_MAX / 64; i++)
			/* relaxed: alone */
			atomic_store_explicit(&reg->own[i], 0, memory_order_relaxed);
	}
	pthread_mutex_unlock(&mapped_lock);
}

static void fork_hooks(void)
{
	base_bug(pthread_atfork(fork_prepare, fork_parent, fork_child) != 0);
}

void reg__grace_map(struct reg *reg)
{
	(void)pthread_once(&fork_once, fork_hooks);
	pthread_mutex_lock(&mapped_lock);
	reg->mapped_next = mapped;
	mapped = reg;
	pthread_mutex_unlock(&mapped_lock);
}

void reg__grace_unmap(struct reg *reg)
{
	pthread_mutex_lock(&mapped_lock);
	for (struct reg **at = &mapped; *at; at = &(*at)->mapped_next)
		if (*at == reg) {
			*at = reg->mapped_next;
			break;
		}
	pthread_mutex_unlock(&mapped_lock);
}

/* ---- asking for one ---- */

uint64_t reg__grace_start(struct reg *reg)
{
	/* seq_cst [Q1]: pairs with the grace threads and with joiners; what the caller unpublished
	 * comes before */
	uint64_t number =
		atomic_fetch_add_explicit(&reg->hdr->gp_requested, 1, memory_order_seq_cst) + 1;

	reg__futex_wake(requested_futex(reg));
	return number;
}

/* Lives, and has not passed number. */
static bool delays(const struct reg *reg, uint32_t idx, uint64_t number)
{
	const struct reg_part *part = reg__part(reg, idx);

	/* seq_cst [Q4]: pairs with join_at: who is not LIVE yet looks at gp_requested later */
	if (!part ||
	    BITS_GET(atomic_load_explicit(&part->word, memory_order_seq_cst), 0, 8) != PART_LIVE)
		return false;
	/* acquire [Q2]: pairs with serve */
	if (atomic_load_explicit(&part->gp_done, memory_order_acquire) >= number)
		return false;
	return reg__part_own(reg, idx) || reg__byte_locked(reg, REG_LOCK_PART(idx));
}

/* Every grace period up to this one is over. */
uint64_t reg__grace_passed(const struct reg *reg)
{
	uint64_t passed = UINT64_MAX;

#ifndef REG_BROKEN_NO_GRACE /* without the wait readers meet what was reclaimed */
	/* seq_cst [Q4]: as in reg__grace_done */
	uint32_t high = atomic_load_explicit(&reg->hdr->parts_high, memory_order_seq_cst);

	for (uint32_t i = 0; i < high && i < REG_PARTICIPANTS_MAX; i++) {
		/* acquire [Q2]: pairs with serve; looked at before delays looks at the word, so a
		 * joiner there begins with a newer number */
		const struct reg_part *part = reg__part(reg, i);
		uint64_t done =
			part ? atomic_load_explicit(&part->gp_done, memory_order_acquire) : 0;

		if (part && done < passed && delays(reg, i, passed))
			passed = done;
	}
#endif
	return passed;
}

bool reg__grace_done(const struct reg *reg, uint64_t number)
{
	/* seq_cst [Q4]: pairs with parts_high_raise, as the word */
	uint32_t high = atomic_load_explicit(&reg->hdr->parts_high, memory_order_seq_cst);

	for (uint32_t i = 0; i < high && i < REG_PARTICIPANTS_MAX; i++)
		if (delays(reg, i, number))
			return false;
	return true;
}

enum reg_status reg_synchronize(struct reg_self *me, uint64_t timeout_ns)
{
	struct reg *reg = me->reg;
	uint64_t number = reg__grace_start(reg), begun = clock_mono_ns(), spent;

	for (;;) {
		/* acquire [Q3]: pairs with serve */
		uint32_t seen = atomic_load_explicit(&reg->hdr->gp_served, memory_order_acquire);

		if (reg__grace_done(reg, number)) {
			reg__count(me, REG_COUNT_GRACE_PERIOD);
			return REG_OK;
		}
		spent = clock_mono_ns() - begun;
		if (spent >= timeout_ns)
			return REG_TIMEOUT;
		(void)reg__futex_wait(&reg->hdr->gp_served, seen,
				      timeout_ns - spent < POLL_NS ? timeout_ns - spent : POLL_NS);
	}
}

bool reg_laggard_next(struct reg_self *me, uint32_t *cursor, struct reg_laggard *ret)
{
	struct reg *reg = me->reg;
	/* relaxed: a figure */
	uint64_t number = atomic_load_explicit(&reg->hdr->gp_requested, memory_order_relaxed);

	while (*cursor < REG_PARTICIPANTS_MAX) {
		uint32_t i = (*cursor)++;

		if (!delays(reg, i, number))
			continue;
		*ret = (struct reg_laggard){
			.idx = i,
			.pid = reg__lock_holder(reg, REG_LOCK_PART(i)),
			/* relaxed: figures */
			.incarnation = (uint32_t)(atomic_load_explicit(&reg__part(reg, i)->word,
								       memory_order_relaxed) >>
						  32),
			.done = atomic_load_explicit(&reg__part(reg, i)->gp_done,
						     memory_order_relaxed),
		};
		return true;
	}
	return false;
}
