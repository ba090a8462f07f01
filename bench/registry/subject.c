/* SPDX-License-Identifier: Apache-2.0 */
/* The list of subjects, and the ring of leases that all of them turn. */
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "subject.h"

const struct subject *subject_find(const char *name)
{
	static const struct subject *const all[] = {
		&subject_cas_pair,	&subject_cas_bare,     &subject_cas_private,
		&subject_cas_contended, &subject_seed,	       &subject_fast_scan,
		&subject_best_of_three, &subject_stripes_slot, &subject_stripes_full,
		&subject_slot,		&subject_full,	       &subject_full_cold,
		&subject_life,		&subject_batch64,      &subject_singles64,
		&subject_scan_private,	&subject_gang1000,     &subject_checker,
	};

	for (uint32_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (strcmp(all[i]->name, name) == 0)
			return all[i];
	return NULL;
}

void *shared_memory(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	base_bug(p == MAP_FAILED);
	return p;
}

void ring_init(struct ring *ring, struct reg_lease (*all)[2][RING_MAX], uint32_t seat,
	       uint32_t seats, uint32_t size, bool foreign)
{
	struct reg_lease(*neighbour)[RING_MAX] = all[(seat + 1) % seats];

	base_bug(size > RING_MAX);
	*ring = (struct ring){
		.size = size,
		.mine = {all[seat][0], all[seat][1]},
		.neighbours = {neighbour[0], neighbour[1]},
		.foreign = foreign,
	};
	ring->src = foreign ? ring->neighbours[0] : ring->mine[0];
	ring->dst = foreign ? ring->mine[1] : ring->mine[0];
}

void ring_turn(struct ring *ring)
{
	ring->pos = 0;
	if (!ring->foreign)
		return;
	ring->round ^= 1;
	ring->src = ring->neighbours[ring->round];
	ring->dst = ring->mine[ring->round ^ 1];
}

struct reg_lease *ring_live(struct ring *ring, uint32_t i)
{
	return i < ring->pos ? &ring->dst[i] : &ring->mine[ring->round][i];
}
