/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is measured, behind one table of functions: every algorithm meets the same agents, the same
 * fill, the same ring of held leases and the same clock. One pair gives back the oldest lease of
 * the ring and takes a new one in its place.
 */
#ifndef BENCH_SUBJECT_H
#define BENCH_SUBJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "registry/registry.h"
#include "world.h"

enum {
	SEATS_MAX = 16,	 /* processes of a case */
	RING_MAX = 2048, /* leases of one process */
	UNIT_MAX = 1000, /* members of a batch */
	PREPARED = 256,	 /* requests that are ready before the clock starts */
};

/* What one process counted in a stint, in memory shared with the parent. */
struct tally {
	uint64_t takes;
	uint64_t refused;	     /* no capacity */
	uint64_t refused_while_free; /* of these: a slot was certainly free throughout the call */
	uint64_t conflicts;	     /* every agent had one of the ports in use */
	uint64_t misses;	     /* placed where the image is not */
	uint64_t misses_with_room;   /* of these: one with the image certainly had room */
};

/* The leases of one process. Releases of one's own: src and dst are one array. Foreign releases:
 * src is what the neighbour took in its last round, and the arrays change places at the end. */
struct ring {
	struct reg_lease *src, *dst;
	uint32_t size, pos;
	struct reg_lease *mine[2], *neighbours[2];
	uint32_t round;
	bool foreign;
	struct tally *tally;
};

void ring_init(struct ring *ring, struct reg_lease (*all)[2][RING_MAX], uint32_t seat,
	       uint32_t seats, uint32_t size, bool foreign);
void ring_turn(struct ring *ring);
/* The i-th lease that this process has taken and nobody has given back. */
struct reg_lease *ring_live(struct ring *ring, uint32_t i);

static inline void ring_next(struct ring *ring, uint32_t by)
{
	ring->pos += by;
	if (ring->pos == ring->size)
		ring_turn(ring);
}

/* One process of a stint. */
struct seat {
	uint32_t idx, count;
	const struct world *world;
	struct reg *reg; /* attached by this process */
	void *shared;	 /* what shared_new returned */
	uint32_t lease_count;
	/* free slots that nobody can have taken while a call runs, at least: of agents with each
	 * image, and of all */
	const uint64_t *image_room;
	uint64_t room;
	struct tally *tally;
};

struct subject {
	const char *name;
	const char *what;
	uint32_t ring;	    /* leases at most; 0: the share of what circulates */
	uint32_t unit;	    /* members that one take takes; 0: 1 */
	bool arena;	    /* runs on the registry */
	bool hidden;	    /* its leases have no keys: the books don't count them */
	bool takes;	    /* takes alone are timed, what gives back is not */
	bool apart;	    /* each process has slots of its own */
	bool checks;	    /* finds violations; its times mean nothing */
	uint32_t block_max; /* pairs between two looks at the clock; 0: PREPARED */
	/* In the parent before the processes exist: memory that they will share. NULL: none. */
	void *(*shared_new)(const struct world *world);
	/* In each process at the start of a stint. */
	void *(*enter)(const struct seat *seat);
	/* What a caller has ready (names, ids) for the next n takes. Not timed. NULL: nothing. */
	void (*prepare)(void *self, uint32_t n);
	void (*pairs)(void *self, struct ring *ring, uint32_t n);
	/* The halves, for filling the ring and for single timing. A refused take leaves leases of
	 * agent UINT32_MAX, which give ignores. */
	bool (*take)(void *self, struct reg_lease *lease);
	void (*give)(void *self, struct reg_lease *lease);
	void (*leave)(void *self);
	/* In the parent, when all have left: slots too many, too few, or twice. NULL: see arena. */
	uint64_t (*unbalanced)(const void *shared, const struct world *world);
};

static inline bool lease_none(const struct reg_lease *lease)
{
	return lease->agent.idx == UINT32_MAX;
}

static inline bool lease_refused(struct reg_lease *lease)
{
	lease->agent.idx = UINT32_MAX;
	return false;
}

/* A subject's loop, with its halves called directly. */
#define SUBJECT_PAIRS(prefix)                                                                      \
	static void prefix##_pairs(void *self, struct ring *ring, uint32_t n)                      \
	{                                                                                          \
		for (uint32_t i = 0; i < n; i++) {                                                 \
			prefix##_give(self, &ring->src[ring->pos]);                                \
			(void)prefix##_take(self, &ring->dst[ring->pos]);                          \
			ring_next(ring, 1);                                                        \
		}                                                                                  \
	}

/* Anonymous memory that children share, touched. Aborts when there is none. */
void *shared_memory(uint64_t bytes);

/* NULL: no such one. */
const struct subject *subject_find(const char *name);

extern const struct subject subject_cas_pair, subject_cas_bare, subject_cas_private,
	subject_cas_contended;
extern const struct subject subject_seed, subject_fast_scan, subject_scan_private;
extern const struct subject subject_best_of_three;
extern const struct subject subject_stripes_slot, subject_stripes_full;
extern const struct subject subject_slot, subject_full, subject_full_cold, subject_life;
extern const struct subject subject_batch64, subject_singles64, subject_gang1000;
extern const struct subject subject_checker;

#endif
