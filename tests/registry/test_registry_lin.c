/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linearisability: recorded histories of concurrent calls, by threads and by processes, are judged
 * by the checker of lin.h. A history counts only when its calls overlap. Built a second and a third
 * time against registries with a deliberate fault, which the checker has to find.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "lin.h"
#include "lin_record.h"

/* Open at once, at the busiest moment of the history, and of each call on average. */
#define OVERLAP_MOST 3
#define OVERLAP_MEAN 3.0

enum { HISTORIES_SHORT = 100, HISTORIES_LONG = 2500 };

struct sum {
	uint32_t judged, thrown_away, wrong, too_hard;
	uint32_t calls, by_kind[LIN_LIST + 1], by_status[REG_STATUS_MAX];
	double mean; /* sum of the histories' means */
	uint32_t least_most, most;
	double least_mean;
};

static void count(struct sum *sum, const struct lin_history *h, const struct lin_overlap *overlap)
{
	sum->judged++;
	sum->calls += h->count;
	for (uint32_t i = 0; i < h->count; i++) {
		sum->by_kind[h->ops[i].kind]++;
		if (h->ops[i].kind == LIN_RESERVE)
			sum->by_status[h->ops[i].status]++;
	}
	sum->mean += overlap->mean;
	if (overlap->most > sum->most)
		sum->most = overlap->most;
	if (sum->judged == 1 || overlap->most < sum->least_most)
		sum->least_most = overlap->most;
	if (sum->judged == 1 || overlap->mean < sum->least_mean)
		sum->least_mean = overlap->mean;
}

static void judge(struct sum *sum, const struct lin_history *h, uint64_t seed)
{
	struct lin_overlap overlap;

	lin_overlap(h, &overlap);
	if (overlap.most < OVERLAP_MOST || overlap.mean < OVERLAP_MEAN) {
		sum->thrown_away++;
		return;
	}
	count(sum, h, &overlap);
	switch (lin_judge(h)) {
	case LIN_YES:
		return;
	case LIN_NO:
		if (!sum->wrong++) {
			(void)fprintf(stderr, "no order explains this history (round %llu):\n",
				      (unsigned long long)seed);
			lin_print(h, stderr);
		}
		return;
	case LIN_TOO_HARD:
		sum->too_hard++;
	}
}

static void print_sum(const struct sum *sum, const char *what)
{
	printf("%s: %u histories of %u calls, %u thrown away; calls open at once: mean %.2f (least "
	       "%.2f), most %u (least %u)\n",
	       what, sum->judged, sum->calls, sum->thrown_away, sum->mean / sum->judged,
	       sum->least_mean, sum->most, sum->least_most);
	printf("reserve:");
	for (int i = 0; i < REG_STATUS_MAX; i++)
		if (sum->by_status[i])
			printf(" %s %u", reg_status_name((enum reg_status)i), sum->by_status[i]);
	printf("; %u wrong, %u undecided\n", sum->wrong, sum->too_hard);
}

/* Rounds until enough histories overlap. The scheduler decides the order, so a seed repeats the
 * round, but not its history. */
static void record(struct rig *rig, struct rec_shared *shared, const char *what)
{
	static struct lin_history h;
	uint32_t want = rig_long() ? HISTORIES_LONG : HISTORIES_SHORT;
	struct sum sum = {0};

	for (uint64_t seed = 1; sum.judged < want; seed++) {
		rig_note("%s, round %llu", what, (unsigned long long)seed);
		rec_round(rig, shared, seed, &h);
		CHECK_SOUND(rig);
		judge(&sum, &h, seed);
		CHECK(seed < 50 * (uint64_t)want); /* else this machine lets nothing overlap */
#ifdef LIN_EXPECT_WRONG
		if (sum.wrong)
			break;
#endif
	}
	rec_over(shared);
	print_sum(&sum, what);
	CHECK_EQ(sum.too_hard, 0);
#ifdef LIN_EXPECT_WRONG
	CHECK(sum.wrong > 0);
#else
	CHECK_EQ(sum.wrong, 0);
	CHECK(sum.by_status[REG_OK] > 0 && sum.by_status[REG_NO_CAPACITY] > 0 &&
	      sum.by_status[REG_NAME_EXISTS] > 0);
#endif
}

/* ---- processes ---- */
struct job {
	struct rec_shared *shared;
	uint32_t no;
};

static void process_worker(struct rig *rig, void *arg)
{
	const struct job *job = arg;

	rec_worker(job->shared, rig->me, job->no);
}

static void prepare(struct rig *rig)
{
	rec_prepare();
	for (int a = 0; a < LIN_AGENTS; a++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "a%d", a);
		(void)rig_agent(rig, name, LIN_SLOTS);
	}
}

static void test_processes(void **state)
{
	struct rig *rig = *state;
	struct rec_shared *shared = rig_shared_alloc(sizeof(*shared));
	struct job job = {.shared = shared};
	pid_t pids[REC_WORKERS];

	RIG_SKIP_PROCESSES();
	prepare(rig);
	for (job.no = 0; job.no < REC_WORKERS; job.no++)
		pids[job.no] = rig_fork(rig, process_worker, &job);
	record(rig, shared, "processes");
	for (uint32_t i = 0; i < REC_WORKERS; i++)
		rig_join(pids[i]);
	rig_shared_free(shared, sizeof(*shared));
}

/* ---- threads ---- */
struct thread {
	pthread_t id;
	struct reg_self *me;
	struct job job;
};

static void *thread_worker(void *arg)
{
	const struct thread *thread = arg;

	rec_worker(thread->job.shared, thread->me, thread->job.no);
	return NULL;
}

static void test_threads(void **state)
{
	struct rig *rig = *state;
	struct rec_shared *shared = rig_shared_alloc(sizeof(*shared));
	struct thread threads[REC_WORKERS];

	prepare(rig);
	for (uint32_t i = 0; i < REC_WORKERS; i++) {
		threads[i].job = (struct job){shared, i};
		CHECK_OK(reg_join(rig->reg, REG_KIND_WORKER, &threads[i].me));
		CHECK_EQ(pthread_create(&threads[i].id, NULL, thread_worker, &threads[i]), 0);
	}
	record(rig, shared, "threads");
	for (uint32_t i = 0; i < REC_WORKERS; i++) {
		CHECK_EQ(pthread_join(threads[i].id, NULL), 0);
		(void)reg_leave(threads[i].me);
	}
	rig_shared_free(shared, sizeof(*shared));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_processes, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_threads, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
