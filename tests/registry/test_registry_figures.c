/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters and histograms: each participant counts in its own lines, the sums are read over all of
 * them, and never go down when a participant leaves, dies, is reaped, or another takes its place.
 */
#include <signal.h>
#include <string.h>

#include "rig.h"
#include "rig_proc.h"

static uint64_t refused_sum(const struct reg_counters *c)
{
	uint64_t sum = 0;

	for (int i = 0; i < REG_STATUS_MAX; i++)
		sum += c->refused[i];
	return sum;
}

static void check_not_lower(const struct reg_counters *before, const struct reg_counters *now)
{
	for (int i = 0; i < REG_COUNT_MAX; i++) {
		rig_note("%s", reg_counter_name((enum reg_counter)i));
		CHECK(now->count[i] >= before->count[i]);
	}
	for (int i = 0; i < REG_STATUS_MAX; i++) {
		rig_note("refused: %s", reg_status_name((enum reg_status)i));
		CHECK(now->refused[i] >= before->refused[i]);
	}
	rig_note(" ");
}

static void test_names(void **state)
{
	(void)state;
	for (int i = 0; i < REG_COUNT_MAX; i++) {
		CHECK(*reg_counter_name((enum reg_counter)i));
		CHECK(*reg_counter_text((enum reg_counter)i));
		for (int j = 0; j < i; j++)
			CHECK(strcmp(reg_counter_name((enum reg_counter)i),
				     reg_counter_name((enum reg_counter)j)) != 0);
	}
	CHECK_STR(reg_counter_name(REG_COUNT_MAX), "?");
	CHECK_STR(reg_counter_text(REG_COUNT_MAX), "?");
}

/* Every refusal under its own reason, and nothing else. */
static void test_refusals(void **state)
{
	struct rig *rig = *state;
	struct reg_request req = rig_request("a"), no_pool = rig_request("b");
	struct reg_request bad = rig_request(""), full = rig_request("c");
	struct reg_request reqs[3] = {rig_request("d"), rig_request("e"), rig_request("f")};
	struct reg_lease lease, other, leases[3];
	enum reg_status status[3];
	struct reg_counters c;

	(void)rig_agent(rig, "agent", 1);
	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	CHECK_ST(reg_reserve(rig->me, &req, &other), REG_NAME_EXISTS);
	no_pool.pool = "nowhere";
	CHECK_ST(reg_reserve(rig->me, &no_pool, &other), REG_NO_POOL);
	CHECK_ST(reg_reserve(rig->me, &bad, &other), REG_INVALID);
	CHECK_ST(reg_reserve(rig->me, &full, &other), REG_NO_CAPACITY);
	CHECK_ST(reg_reserve_batch(rig->me, reqs, 3, false, leases, status), REG_NO_CAPACITY);
	reg_counters_get(rig->reg, &c);
	CHECK_EQ(c.count[REG_COUNT_RESERVED], 1);
	CHECK_EQ(c.refused[REG_NAME_EXISTS], 1);
	CHECK_EQ(c.refused[REG_NO_POOL], 1);
	CHECK_EQ(c.refused[REG_INVALID], 1);
	CHECK_EQ(c.refused[REG_NO_CAPACITY], 4);
	CHECK_EQ(refused_sum(&c), 7);
	CHECK_OK(reg_abort(rig->me, &lease));
	(void)rig_run(rig, &req);
	reg_counters_get(rig->reg, &c);
	CHECK_EQ(c.count[REG_COUNT_RESERVED], 2);
	CHECK_EQ(c.count[REG_COUNT_ABORTED], 1);
	CHECK_EQ(c.count[REG_COUNT_COMMITTED], 1);
}

static void one_of_each_fn(struct rig *rig, void *arg)
{
	struct reg_request req = rig_request("one"), none = rig_request("two");
	struct reg_lease lease;

	none.pool = "nowhere";
	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	CHECK_ST(reg_reserve(rig->me, &none, &lease), REG_NO_POOL);
	reg_hist_add(rig->me, REG_HIST_TOTAL, 1000);
	if (arg)
		(void)raise(SIGKILL);
}

/* Leaving and dying in turn, always on the same line. */
static void test_never_down(void **state)
{
	struct rig *rig = *state;
	struct reg_counters before = {0}, now;
	struct reg_hist_view hist;
	struct reg_reap_result result;
	bool die = false;

	(void)rig_agent(rig, "agent", 1);
	for (uint64_t round = 1; round <= 6; round++, die = !die) {
		pid_t pid = rig_fork(rig, one_of_each_fn, die ? rig : NULL);

		if (die)
			CHECK(rig_join_killed(pid));
		else
			rig_join(pid);
		reg_counters_get(rig->reg, &now);
		check_not_lower(&before, &now);
		CHECK_EQ(now.count[REG_COUNT_RESERVED], round);
		CHECK_EQ(now.refused[REG_NO_POOL], round);
		before = now;
		CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &result));
		reg_counters_get(rig->reg, &now);
		check_not_lower(&before, &now);
		CHECK_EQ(now.count[REG_COUNT_REAPED], round / 2);
		before = now;
		reg_hist_get(rig->reg, REG_HIST_TOTAL, &hist);
		CHECK_EQ(hist.count, round);
	}
	CHECK_EQ(before.count[REG_COUNT_REAP_RELEASED], 3);
}

/* Who joins on a line that was used before begins at nothing, the sum goes on. */
static void test_since_join(void **state)
{
	struct rig *rig = *state;
	struct reg_participant part = {.idx = REG_PARTICIPANTS_MAX};
	struct reg_self *next;
	uint32_t cursor = 0;

	(void)rig_agent(rig, "agent", 1);
	rig_join(rig_fork(rig, one_of_each_fn, NULL));
	CHECK_OK(reg_join(rig->reg, REG_KIND_TOOL, &next));
	while (reg_participant_next(rig->me, &cursor, &part) && part.idx != reg_self_idx(next))
		;
	CHECK_EQ(part.idx, reg_self_idx(next));
	CHECK(part.incarnation > 1); /* the child's line */
	CHECK_EQ(part.reserved, 0);
	CHECK_EQ(part.refused, 0);
	(void)reg_leave(next);
}

/* What administration counts: an agent goes, and its row with its pool. */
static void test_reclaimed(void **state)
{
	struct rig *rig = *state;
	struct reg_sweep_result result;
	struct reg_counters c;

	CHECK_OK(reg_agent_remove(rig->me, rig_agent(rig, "agent", 1)));
	for (int i = 0; i < 2; i++) {
		CHECK_OK(reg_sweep(rig->me, &result));
		CHECK_OK(reg_synchronize(rig->me, UINT64_C(5000000000)));
	}
	CHECK_OK(reg_sweep(rig->me, &result));
	reg_counters_get(rig->reg, &c);
	CHECK_EQ(c.count[REG_COUNT_GRACE_PERIOD], 2);
	CHECK_EQ(c.count[REG_COUNT_RETIRED], 2);
	CHECK_EQ(c.count[REG_COUNT_RECLAIMED], 2);
}

/* From 50 ns to 60 s within an eighth, several participants merged. */
static void test_histogram_range(void **state)
{
	struct rig *rig = *state;
	struct reg_self *other;
	struct reg_hist_view view;

	CHECK_OK(reg_join(rig->reg, REG_KIND_TOOL, &other));
	for (int h = 0; h < REG_HIST_MAX; h++) {
		struct reg_self *me = h % 2 ? rig->me : other;

		for (uint64_t ns = 50, n = 1; ns <= UINT64_C(60000000000); ns = ns * 5 / 4, n++) {
			reg_hist_add(me, (enum reg_hist)h, ns);
			reg_hist_get(rig->reg, (enum reg_hist)h, &view);
			rig_note("stage %d, %llu ns", h, (unsigned long long)ns);
			CHECK_EQ(view.count, n);
			CHECK_EQ(view.max_ns, ns);
			CHECK_EQ(view.p999_ns, ns); /* the bucket's top is cut at the maximum */
		}
	}
	(void)reg_leave(other);
}

/* p50 … p99.9 of a known distribution, each participant having counted a part of it. */
static void test_histogram_quantiles(void **state)
{
	struct rig *rig = *state;
	struct reg_self *part[4];
	struct reg_hist_view view;

	for (int i = 0; i < 4; i++)
		CHECK_OK(reg_join(rig->reg, REG_KIND_TOOL, &part[i]));
	for (uint64_t i = 1; i <= 10000; i++)
		reg_hist_add(part[i % 4], REG_HIST_RESERVE, i * 10);
	for (int i = 0; i < 4; i++)
		(void)reg_leave(part[i]);
	reg_hist_get(rig->reg, REG_HIST_RESERVE, &view);
	CHECK_EQ(view.count, 10000);
	CHECK_EQ(view.max_ns, 100000);
	const struct {
		uint64_t have, want;
	} q[] = {{view.p50_ns, 50000},
		 {view.p90_ns, 90000},
		 {view.p99_ns, 99000},
		 {view.p999_ns, 99900}};

	for (int i = 0; i < 4; i++) {
		rig_note("quantile %d: %llu, wanted %llu", i, (unsigned long long)q[i].have,
			 (unsigned long long)q[i].want);
		CHECK(q[i].have >= q[i].want && q[i].have <= q[i].want + q[i].want / 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test_setup_teardown(test_refusals, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_never_down, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_since_join, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_reclaimed, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_histogram_range, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_histogram_quantiles, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
