/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is measured, behind one table of functions, so that every algorithm meets the same agents,
 * the same fill, the same ring of held leases and the same clock. Included from C++ (main.cc).
 */
#ifndef BENCH_SUBJECT_H
#define BENCH_SUBJECT_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the agents that each subject is given (world.c) ---- */

enum {
	WORLD_IMAGES_PER_AGENT = 8,
	WORLD_WANTED =
		2, /* images that requests ask for in turn; each is on one half of the agents */
	WORLD_OTHERS = 62, /* images that nobody asks for */
	WORLD_RING = 256,  /* leases in the ring */
};

struct world_agent {
	char name[32];
	uint32_t slots; /* 16..64 */
	uint32_t held;	/* of the fill without a ring, as lowest-load-first leaves it */
	uint8_t images[WORLD_IMAGES_PER_AGENT]; /* indexes for world_image(); one of them is a
						   wanted one */
};

struct world {
	uint32_t agent_count;
	uint32_t fill; /* sandboxes held while measuring: a quarter of all slots */
	struct world_agent *agents;
};

#define WORLD_NAMESPACE "default"
#define WORLD_POOL	"default-pool"

/* The same agents at each call with the same count. Aborts when out of memory. gives. */
struct world *world_new(uint32_t agents);
struct world *world_free(struct world *world);
/* Canonical reference; 0..WORLD_WANTED-1 are the wanted ones. */
const char *world_image(uint32_t idx);

/* ---- one algorithm ---- */

struct subject {
	const char *name;
	const char *what; /* one line for --list */
	bool by_agents;	  /* measured for each number of agents */
	/* Builds the agents and fills them; aborts when it can't. Subjects may share what they
	 * build. */
	void *(*open)(uint32_t agents);
	/* Anything that a caller would have ready (names, ids) for the next n reserves. Not timed.
	 */
	void (*prepare)(void *self, uint32_t n);
	/* n times: reserve a fresh one, release the oldest of the ring and put the fresh one in its
	 * place. */
	void (*pairs)(void *self, uint32_t n);
	/* The halves of a pair, to be timed singly. */
	void (*reserve)(void *self);
	void (*release)(void *self);
	/* Between cases: what the books say that they should not. 0: they balance. */
	uint64_t (*unbalanced)(void *self);
	/* Releases everything; what is left then is counted, too. */
	uint64_t (*close)(void *self);
};

/* Ends with NULL. */
extern const struct subject *const subjects[];

extern const struct subject subject_cas, subject_seed, subject_fast_scan;
extern const struct subject subject_alone, subject_full, subject_full_cold;

/* ---- timing (measure.c) ---- */

struct quantiles {
	uint64_t p50, p90, p99, p999, max;
};

struct measurement {
	uint32_t pairs_per_block;
	struct quantiles reserve, release,
		pair; /* ns, each singly timed; a clock read is in each */
	uint32_t samples;
	uint64_t unbalanced;
};

/* Median of back-to-back clock reads. */
uint64_t measure_clock_cost_ns(void);
/* Pairs that take about block_ns together; at least 1. */
uint32_t measure_block_size(const struct subject *subject, void *self, uint64_t block_ns);
/* Prepares and times one block; returns its ns. */
uint64_t measure_block(const struct subject *subject, void *self, uint32_t pairs);
/* Times single operations for at most budget_ns and fills all of *ret but unbalanced. */
void measure_singly(const struct subject *subject, void *self, uint64_t budget_ns,
		    struct measurement *ret);
/* Median; sorts. */
double measure_median(double *values, uint32_t count);

#ifdef __cplusplus
}
#endif

#endif
