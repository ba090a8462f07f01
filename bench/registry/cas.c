/* SPDX-License-Identifier: Apache-2.0 */
/* The floor: one uncontended compare-and-swap that takes a word, one that gives it back. Nothing is
 * chosen. */
#include <stdatomic.h>
#include <stddef.h>

#include "base/err.h"
#include "subject.h"

/* On a cache line of its own. */
static _Alignas(64) _Atomic uint64_t word;

static void take(void)
{
	uint64_t expected = 0;

	base_bug(!atomic_compare_exchange_strong_explicit(&word, &expected, 1, memory_order_acquire,
							  memory_order_relaxed));
}

static void give(void)
{
	uint64_t expected = 1;

	base_bug(!atomic_compare_exchange_strong_explicit(&word, &expected, 0, memory_order_release,
							  memory_order_relaxed));
}

static void *cas_open(uint32_t agents)
{
	(void)agents;
	return &word;
}

static void cas_pairs(void *self, uint32_t n)
{
	(void)self;
	for (uint32_t i = 0; i < n; i++) {
		take();
		give();
	}
}

static void cas_reserve(void *self)
{
	(void)self;
	take();
}

static void cas_release(void *self)
{
	(void)self;
	give();
}

static uint64_t cas_unbalanced(void *self)
{
	(void)self;
	return atomic_load_explicit(&word, memory_order_relaxed); /* one thread only */
}

const struct subject subject_cas = {
	.name = "cas_pair",
	.what = "an uncontended compare-and-swap to take a word, one to give it back: the floor",
	.open = cas_open,
	.pairs = cas_pairs,
	.reserve = cas_reserve,
	.release = cas_release,
	.unbalanced = cas_unbalanced,
	.close = cas_unbalanced,
};
