/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes of a world: forked when its arena exists, each attaches for itself and stays until
 * the session ends. The parent gives orders, the processes carry them out in step, results come
 * back in shared memory.
 */
#ifndef BENCH_CREW_H
#define BENCH_CREW_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "subject.h"

enum {
	BLOCKS_MAX = 64,
	SINGLES_MAX = 4096,
};

enum order_kind {
	ORDER_FILL,	 /* process 0: the base of the arena */
	ORDER_CALIBRATE, /* process 0: pairs per block */
	ORDER_RUN,	 /* join, fill the ring, measure; leases stay */
	ORDER_LEAVE,	 /* give all back, leave */
	ORDER_QUIT,
};

/* One subject in one world by so many processes. */
struct lane {
	const struct subject *subject;
	uint32_t processes;
	bool foreign;
	void *shared;
	uint32_t ring;	/* leases per process */
	uint32_t pairs; /* per block */
};

struct order {
	enum order_kind kind;
	struct lane lane;
	uint32_t blocks, singles;
	uint64_t block_ns; /* ORDER_CALIBRATE: about so long shall one take */
};

struct block {
	uint64_t begin, end; /* clock_mono_ns */
	uint64_t takes_ns;   /* subject->takes: the takes alone */
};

/* What one process hands back. */
struct seat_out {
	struct ring ring;
	struct tally tally;
	uint32_t pairs; /* ORDER_CALIBRATE */
	struct block block[BLOCKS_MAX];
	uint32_t give_ticks[SINGLES_MAX], take_ticks[SINGLES_MAX];
};

struct crew_shared {
	_Alignas(64) _Atomic uint32_t seq; /* grows with each order; futex */
	_Alignas(64) _Atomic uint32_t done;
	_Alignas(64) _Atomic uint32_t arrived; /* at the barriers of this order */
	_Alignas(64) struct order order;
	uint64_t room, image_room[WORLD_IMAGES]; /* free slots when nothing circulates */
	struct seat_out out[SEATS_MAX];
	struct reg_lease leases[SEATS_MAX][2][RING_MAX];
};

struct crew {
	struct crew_shared *shared;
	const struct world *world;
	char path[64]; /* of the arena; "": none */
	uint32_t seats;
	pid_t pids[SEATS_MAX];
};

/* Forks the processes; each has attached when it returns. keeps world. */
void crew_start(struct crew *crew, const struct world *world, const char *path, uint32_t seats);
/* Gives the order to all and waits until it is carried out. Ends the program when a process died.
 */
void crew_order(struct crew *crew, const struct order *order);
void crew_end(struct crew *crew);

/* In a process: waits until all that take part have come here for the n-th time. */
void crew_barrier(struct crew_shared *shared, uint32_t taking_part, uint32_t *n);

/* stint.c: in process idx. state lives from ORDER_RUN to ORDER_LEAVE. */
struct stint {
	struct crew_shared *shared;
	const struct world *world;
	struct reg *reg;
	uint32_t idx;
	void *self;
	struct ring ring;
	uint64_t image_room[WORLD_IMAGES];
	uint32_t barriers;
};
void stint_carry_out(struct stint *stint);

#endif
