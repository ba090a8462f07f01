/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor: a word of 64 slots in shared memory; a pair takes a free bit and gives it back.
 * Nothing is chosen among agents. bare: one word with two values, no bit to look for. private: each
 * process on a line of its own; contended: all on one.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "base/err.h"
#include "subject.h"

struct line {
	_Alignas(64) _Atomic uint64_t word;
};

struct user {
	_Atomic uint64_t *word;
	unsigned int bit;
};

static void *lines_new(const struct world *world)
{
	(void)world;
	return shared_memory(SEATS_MAX * sizeof(struct line));
}

static void *enter_at(struct line *line)
{
	struct user *user = calloc(1, sizeof(*user));

	base_bug(!user);
	user->word = &line->word;
	return user;
}

static void *own_enter(const struct seat *seat)
{
	return enter_at((struct line *)seat->shared + seat->idx);
}

static void *common_enter(const struct seat *seat)
{
	return enter_at(seat->shared);
}

/* The first free bit, by load, count of trailing zeros and compare-and-swap. */
static inline unsigned int bit_take(_Atomic uint64_t *word)
{
	/* relaxed: checked by the CAS */
	uint64_t seen = atomic_load_explicit(word, memory_order_relaxed);
	unsigned int bit;

	do {
		base_bug(seen == UINT64_MAX);
		bit = (unsigned int)__builtin_ctzll(~seen);
		/* acquire: pairs with bit_give */
	} while (!atomic_compare_exchange_weak_explicit(word, &seen, seen | UINT64_C(1) << bit,
							memory_order_acquire,
							memory_order_relaxed));
	return bit;
}

static inline void bit_give(_Atomic uint64_t *word, unsigned int bit)
{
	/* relaxed: checked by the CAS */
	uint64_t seen = atomic_load_explicit(word, memory_order_relaxed);

	/* release: pairs with bit_take */
	while (!atomic_compare_exchange_weak_explicit(word, &seen, seen & ~(UINT64_C(1) << bit),
						      memory_order_release, memory_order_relaxed))
		;
}

static bool bit_take_one(void *self, struct reg_lease *lease)
{
	struct user *user = self;

	user->bit = bit_take(user->word);
	lease->agent.idx = 0;
	lease->slot = UINT32_MAX;
	return true;
}

static void bit_give_one(void *self, struct reg_lease *lease)
{
	struct user *user = self;

	if (!lease_none(lease))
		bit_give(user->word, user->bit);
}

static void bit_pairs(void *self, struct ring *ring, uint32_t n)
{
	struct user *user = self;
	unsigned int bit = user->bit;

	for (uint32_t i = 0; i < n; i++) {
		bit_give(user->word, bit);
		bit = bit_take(user->word);
	}
	user->bit = bit;
}

static bool bare_take(void *self, struct reg_lease *lease)
{
	const struct user *user = self;
	uint64_t expected = 0;

	lease->agent.idx = 0;
	lease->slot = UINT32_MAX;
	/* acquire: pairs with bare_give */
	base_bug(!atomic_compare_exchange_strong_explicit(
		user->word, &expected, 1, memory_order_acquire, memory_order_relaxed));
	return true;
}

static void bare_give(void *self, struct reg_lease *lease)
{
	const struct user *user = self;
	uint64_t expected = 1;

	/* release: pairs with bare_take */
	base_bug(!atomic_compare_exchange_strong_explicit(
		user->word, &expected, 0, memory_order_release, memory_order_relaxed));
}

static void bare_pairs(void *self, struct ring *ring, uint32_t n)
{
	struct reg_lease lease;

	for (uint32_t i = 0; i < n; i++) {
		bare_give(self, &lease);
		(void)bare_take(self, &lease);
	}
}

static uint64_t lines_unbalanced(const void *shared, const struct world *world)
{
	const struct line *lines = shared;
	uint64_t held = 0;

	(void)world;
	for (uint32_t i = 0; i < SEATS_MAX; i++)
		/* relaxed: nobody else runs */
		held += (uint64_t)__builtin_popcountll(
			atomic_load_explicit(&lines[i].word, memory_order_relaxed));
	return held;
}

#define CAS(subject_name, enter_fn, prefix, take_fn, give_fn, text)                                \
	.name = subject_name, .what = text, .ring = 1, .block_max = 8192, .shared_new = lines_new, \
	.enter = enter_fn, .pairs = prefix##_pairs, .take = take_fn, .give = give_fn,              \
	.leave = free, .unbalanced = lines_unbalanced

const struct subject subject_cas_pair = {
	CAS("cas_pair", own_enter, bit, bit_take_one, bit_give_one,
	    "a bit of a word taken and given back by compare-and-swap, alone: the floor"),
};

const struct subject subject_cas_bare = {
	CAS("cas_bare", own_enter, bare, bare_take, bare_give,
	    "two compare-and-swaps on one word, alone"),
};

const struct subject subject_cas_private = {
	CAS("cas_private", own_enter, bit, bit_take_one, bit_give_one,
	    "as cas_pair, each process on a line of its own"),
};

const struct subject subject_cas_contended = {
	CAS("cas_contended", common_enter, bit, bit_take_one, bit_give_one,
	    "as cas_pair, all processes on one word"),
};
