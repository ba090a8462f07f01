/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random walks through every call, several participants in turn: what the registry answers, the
 * score of the agent that it chooses, its views and its books equal what a brute-force oracle says.
 * A walk that differs is shrunk and printed with its seed.
 */
#include "walk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { WALKS_SHORT = 200, WALKS_LONG = 3000, SHRINK_SECONDS = 100, FIRST_SEED = 1 };

/* Shared with the children that walk. */
struct shared {
	struct walk walk;
	struct walk_sum sum;
	uint64_t from, count, at; /* seeds */
	bool loud, quiet;
	char path[128];
};

static void silence(void)
{
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	(void)dup2(fd, 1);
	(void)dup2(fd, 2);
}

static void walks_child(struct rig *rig, void *arg)
{
	struct shared *shared = arg;

	(void)rig;
	for (uint64_t i = 0; i < shared->count; i++) {
		shared->at = shared->from + i;
		walk_make(&shared->walk, shared->at);
		walk_run(&shared->walk, shared->path, false, &shared->sum);
	}
}

static void script_child(struct rig *rig, void *arg)
{
	struct shared *shared = arg;

	(void)rig;
	if (shared->quiet)
		silence();
	walk_run(&shared->walk, shared->path, shared->loud, &shared->sum);
}

/* A crash or a hang is a difference, too. */
static bool fails(const struct rig *rig, struct shared *shared)
{
	return rig_join_status(rig_fork_bare(rig, script_child, shared)) != 0;
}

/* Takes away parts of the script as long as it still fails: halves, quarters, … single operations.
 */
static void shrink(const struct rig *rig, struct shared *shared)
{
	static struct walk best;
	uint64_t deadline = clock_mono_ns() + SHRINK_SECONDS * NS_PER_S;

	shared->quiet = true;
	best = shared->walk;
	for (uint32_t part = best.count / 2; part && clock_mono_ns() < deadline;) {
		bool smaller = false;

		for (uint32_t at = 0; at + part <= best.count && clock_mono_ns() < deadline;) {
			shared->walk = best;
			memmove(&shared->walk.ops[at], &shared->walk.ops[at + part],
				(best.count - at - part) * sizeof(best.ops[0]));
			shared->walk.count = best.count - part;
			if (fails(rig, shared)) {
				best = shared->walk;
				smaller = true;
			} else {
				at += part;
			}
		}
		if (!smaller || part > best.count / 2)
			part /= 2;
	}
	shared->walk = best;
	shared->quiet = false;
}

/* Shrinks and shows the walk that the child ended with. */
static void explain(const struct rig *rig, struct shared *shared)
{
	uint32_t before;

	walk_make(&shared->walk, shared->at);
	before = shared->walk.count;
	(void)fprintf(stderr, "seed %llu differs; shrinking its %u operations\n",
		      (unsigned long long)shared->at, before);
	if (fails(rig, shared))
		shrink(rig, shared);
	shared->loud = true;
	printf("seed %llu, world %s, %u of %u operations:\n", (unsigned long long)shared->at,
	       shared->walk.world.name, shared->walk.count, before);
	CHECK(fails(rig, shared)); /* it depends on its script alone */
	(void)fprintf(stderr, "repeat it with FSB_SEED=%llu\n", (unsigned long long)shared->at);
}

static void print_sum(const struct walk_sum *sum)
{
	printf("%llu operations:", (unsigned long long)sum->ops);
	for (unsigned i = 0; i < WALK_KIND_MAX; i++)
		printf(" %s %llu", walk_kind_name(i), (unsigned long long)sum->by_kind[i]);
	printf("\nreserve:");
	for (int i = 0; i < REG_STATUS_MAX; i++)
		if (sum->by_status[i])
			printf(" %s %llu", reg_status_name((enum reg_status)i),
			       (unsigned long long)sum->by_status[i]);
	printf("\nbatches whole %llu, undone %llu; agents and pools swept %llu\n",
	       (unsigned long long)sum->batches_all, (unsigned long long)sum->batches_undone,
	       (unsigned long long)sum->swept);
}

/* A test of everything has to have met everything. */
static void check_sum(const struct walk_sum *sum, uint64_t at_least)
{
	static const enum reg_status met[] = {REG_OK,
					      REG_NO_POOL,
					      REG_NO_CAPACITY,
					      REG_PORT_CONFLICT,
					      REG_REQUEST_SEEN,
					      REG_REQUEST_MISMATCH,
					      REG_NAME_TERMINATING,
					      REG_NAME_EXISTS,
					      REG_LIMIT_SANDBOXES};

	CHECK(sum->ops >= at_least);
	for (unsigned i = 0; i < sizeof(met) / sizeof(met[0]); i++) {
		rig_note("%s was never met", reg_status_name(met[i]));
		CHECK(sum->by_status[met[i]] > 0);
	}
	for (unsigned i = 0; i < WALK_KIND_MAX; i++) {
		rig_note("%s was never done", walk_kind_name(i));
		CHECK(sum->by_kind[i] > 0);
	}
	CHECK(sum->batches_all > 0 && sum->batches_undone > 0 && sum->heavy > 0);
	CHECK(sum->swept > 0 && sum->reclaimed > 0);
}

static void test_oracle(void **state)
{
	const char *seed = getenv("FSB_SEED");
	struct shared *shared = rig_shared_alloc(sizeof(*shared));
	struct rig rig;

	(void)state;
	rig_path(&rig);
	memcpy(shared->path, rig.path, sizeof(shared->path));
	shared->from = seed && *seed ? strtoull(seed, NULL, 0) : FIRST_SEED;
	shared->count = seed && *seed ? 1 : rig_long() ? WALKS_LONG : WALKS_SHORT;
	if (RIG_SANITIZED && shared->count > 1 && !rig_long())
		shared->count /= 10;
	if (rig_join_status(rig_fork_bare(&rig, walks_child, shared)) != 0) {
		explain(&rig, shared);
		CHECK(!"registry and oracle agree");
	}
	print_sum(&shared->sum);
	if (shared->count >= WALKS_SHORT)
		check_sum(&shared->sum, rig_long() ? 5000000 : 300000);
	rig_shared_free(shared, sizeof(*shared));
	(void)alarm(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_oracle)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
