/* SPDX-License-Identifier: Apache-2.0 */
/* Orders by futex in shared memory; the processes are pinned to the processors in turn and die with
 * the parent. */
#include "crew.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

static void wait_change(_Atomic uint32_t *word, uint32_t seen, const struct timespec *limit)
{
	(void)syscall(SYS_futex, word, FUTEX_WAIT, seen, limit, NULL, 0);
}

static void wake_all(_Atomic uint32_t *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

void crew_barrier(struct crew_shared *shared, uint32_t taking_part, uint32_t *n)
{
	uint32_t spins = 0;

	if (taking_part == 1)
		return;
	++*n;
	/* acq_rel: what was done before the barrier is seen behind it */
	atomic_fetch_add_explicit(&shared->arrived, 1, memory_order_acq_rel);
	while (atomic_load_explicit(&shared->arrived, memory_order_acquire) < taking_part * *n) {
		if (++spins < 20000)
			__builtin_ia32_pause();
		else
			(void)sched_yield(); /* somebody else has the processor of the other one */
	}
}

/* To the seat-th processor of those that we may use. */
static void pin(uint32_t seat)
{
	cpu_set_t may, one;
	uint32_t left;

	if (sched_getaffinity(0, sizeof(may), &may) != 0 || CPU_COUNT(&may) == 0)
		return;
	left = seat % (uint32_t)CPU_COUNT(&may);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &may) || left--)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		(void)sched_setaffinity(0, sizeof(one), &one);
		return;
	}
}

_Noreturn static void serve(struct crew *crew, uint32_t idx)
{
	struct crew_shared *shared = crew->shared;
	struct stint stint = {.shared = shared, .world = crew->world, .idx = idx};
	uint32_t seen = 0;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin(idx);
	/* What the parent attached is not ours. */
	if (crew->path[0] && reg_attach(crew->path, &stint.reg) != REG_OK)
		_exit(3);
	for (;;) {
		uint32_t seq;

		atomic_fetch_add_explicit(&shared->done, 1, memory_order_acq_rel);
		wake_all(&shared->done);
		/* acquire: the order before its number */
		while ((seq = atomic_load_explicit(&shared->seq, memory_order_acquire)) == seen)
			wait_change(&shared->seq, seen, NULL);
		seen = seq;
		if (shared->order.kind == ORDER_QUIT)
			break;
		stint_carry_out(&stint);
	}
	if (stint.reg)
		(void)reg_detach(stint.reg);
	_exit(0);
}

static void check_alive(const struct crew *crew)
{
	for (uint32_t i = 0; i < crew->seats; i++) {
		int status;

		if (waitpid(crew->pids[i], &status, WNOHANG) == 0)
			continue;
		(void)fprintf(stderr, "bench_registry: process %u of a case ended with %d\n", i,
			      status);
		if (crew->path[0])
			(void)unlink(crew->path);
		exit(1);
	}
}

static void wait_done(const struct crew *crew)
{
	const struct timespec second = {.tv_sec = 1};
	_Atomic uint32_t *done = &crew->shared->done;
	uint32_t now;

	/* acquire: results before the count */
	while ((now = atomic_load_explicit(done, memory_order_acquire)) < crew->seats) {
		wait_change(done, now, &second);
		if (atomic_load_explicit(done, memory_order_acquire) == now)
			check_alive(crew);
	}
}

void crew_start(struct crew *crew, const struct world *world, const char *path, uint32_t seats)
{
	base_bug(seats > SEATS_MAX);
	*crew = (struct crew){.world = world, .seats = seats};
	(void)snprintf(crew->path, sizeof(crew->path), "%s", path);
	crew->shared = shared_memory(sizeof(*crew->shared));
	(void)fflush(NULL); /* or each child would write it again */
	for (uint32_t i = 0; i < seats; i++) {
		crew->pids[i] = fork();
		base_bug(crew->pids[i] < 0);
		if (crew->pids[i] == 0)
			serve(crew, i);
	}
	wait_done(crew);
}

static void give_order(struct crew *crew, const struct order *order)
{
	struct crew_shared *shared = crew->shared;

	shared->order = *order;
	/* relaxed: published by seq */
	atomic_store_explicit(&shared->done, 0, memory_order_relaxed);
	atomic_store_explicit(&shared->arrived, 0, memory_order_relaxed);
	/* release: the order before its number */
	atomic_fetch_add_explicit(&shared->seq, 1, memory_order_release);
	wake_all(&shared->seq);
}

void crew_order(struct crew *crew, const struct order *order)
{
	give_order(crew, order);
	wait_done(crew);
}

void crew_end(struct crew *crew)
{
	give_order(crew, &(struct order){.kind = ORDER_QUIT});
	for (uint32_t i = 0; i < crew->seats; i++)
		while (waitpid(crew->pids[i], NULL, 0) < 0 && errno == EINTR)
			;
	(void)munmap(crew->shared, sizeof(*crew->shared));
}
