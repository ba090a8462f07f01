/* SPDX-License-Identifier: Apache-2.0 */
/* What the load tools count and draw with: histogram, distributions, random numbers, table, and
 * deadlines in their order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "dist.h"
#include "due.h"
#include "hist.h"
#include "rng.h"
#include "table.h"

/* ---- histogram ---- */

static void cells_cover_all_values(void **state)
{
	uint32_t last = 0;

	for (uint64_t ns = 0; ns < 4096; ns++) {
		uint32_t cell = hist_cell(ns);

		assert_true(cell == last || cell == last + 1);
		assert_true(ns <= hist_cell_end(cell));
		assert_true(!cell || ns > hist_cell_end(cell - 1));
		last = cell;
	}
	for (uint32_t cell = 1; cell < HIST_CELLS; cell++) {
		uint64_t end = hist_cell_end(cell), begin = hist_cell_end(cell - 1) + 1;

		assert_int_equal(hist_cell(end), cell);
		assert_int_equal(hist_cell(begin), cell);
		/* the promised precision */
		assert_true((end - begin) * 128 <= begin);
	}
	assert_int_equal(hist_cell((UINT64_C(1) << HIST_TOP_BIT) - 1), HIST_CELLS - 1);
	assert_int_equal(hist_cell(UINT64_MAX), HIST_CELLS - 1);
}

static int ascending(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return a < b ? -1 : a > b;
}

/* Against sorting: never below the true quantile and at most 1/128 above it. */
static void quantiles_match_sorting(void **state)
{
	enum { N = 20000 };
	static const double qs[] = {0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1};
	static uint64_t values[N];
	struct hist *hist = calloc(1, sizeof(*hist));
	struct rng rng;

	assert_non_null(hist);
	rng_seed(&rng, 7);
	for (int i = 0; i < N; i++) {
		values[i] = (uint64_t)rng_exp(&rng, i % 10 ? 50e3 : 20e6);
		hist_add(hist, values[i]);
	}
	qsort(values, N, sizeof(values[0]), ascending);
	assert_int_equal(hist->min_ns, values[0]);
	assert_int_equal(hist->max_ns, values[N - 1]);
	for (size_t i = 0; i < sizeof(qs) / sizeof(qs[0]); i++) {
		size_t rank = (size_t)(qs[i] * N + 0.999999);
		uint64_t want = values[rank ? rank - 1 : 0], got = hist_quantile(hist, qs[i]);

		assert_true(got >= want);
		assert_true(got - want <= want / 128 + 1);
	}
	free(hist);
}

static void empty_and_single(void **state)
{
	struct hist *hist = calloc(1, sizeof(*hist));

	assert_non_null(hist);
	assert_int_equal(hist_quantile(hist, 0.5), 0);
	assert_true(hist_mean(hist) == 0);
	hist_add(hist, 123456789);
	assert_int_equal(hist_quantile(hist, 0), 123456789);
	assert_int_equal(hist_quantile(hist, 1), 123456789);
	hist_add(hist, UINT64_C(1) << 50);
	assert_int_equal(hist_quantile(hist, 1), UINT64_C(1) << 50);
	hist_clear(hist);
	assert_int_equal(hist->count, 0);
	free(hist);
}

/* ---- distributions ---- */

static void dist_syntax(void **state)
{
	static const struct {
		const char *text;
		enum dist_kind kind;
		uint64_t a, b;
	} good[] = {
		{"0", DIST_FIXED, 0, 0},
		{"250", DIST_FIXED, 250000, 0},
		{"1.5us", DIST_FIXED, 1500, 0},
		{"2ms", DIST_FIXED, 2000000, 0},
		{"0.5s", DIST_FIXED, 500000000, 0},
		{"uniform:100:2ms", DIST_UNIFORM, 100000, 2000000},
		{"uniform:5:5", DIST_UNIFORM, 5000, 5000},
		{"exp:700us", DIST_EXP, 700000, 0},
	};
	static const char *const bad[] = {
		"",	 "x",	 "-1",	 "1m",	   "1 ms",	" 1",	       "nan",
		"0x10",	 "1e3",	 "exp:", "exp:-1", "uniform:1", "uniform:2:1", "uniform:1:2:3",
		"3601s", "1us2", "."};
	struct dist d;
	struct err err;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(dist_parse("--x", good[i].text, &d, &err), 0);
		assert_int_equal(d.kind, good[i].kind);
		assert_int_equal(d.a_ns, good[i].a);
		assert_int_equal(d.b_ns, good[i].b);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (dist_parse("--x", bad[i], &d, &err) >= 0)
			fail_msg("'%s' was taken", bad[i]);
		assert_non_null(strstr(err.msg, "--x"));
	}
}

static void fraction_syntax(void **state)
{
	static const char *const bad[] = {"", "1.1", "-0", "x", "0.5x", "1e-1", "inf"};
	double value = 2;

	assert_int_equal(fraction_parse("--p", "0.25", 1, &value, NULL), 0);
	assert_true(value == 0.25);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (fraction_parse("--p", bad[i], 1, &value, NULL) >= 0)
			fail_msg("'%s' was taken", bad[i]);
	}
	assert_true(value == 0.25);
}

static void draws(void **state)
{
	enum { N = 100000 };
	const struct dist uniform = {DIST_UNIFORM, 1000, 3000}, exp = {DIST_EXP, 1000, 0};
	struct rng rng, again;
	double sum_u = 0, sum_e = 0;
	int above = 0;

	rng_seed(&rng, 42);
	for (int i = 0; i < N; i++) {
		uint64_t u = dist_draw(&uniform, &rng), e = dist_draw(&exp, &rng);

		assert_in_range(u, 1000, 3000);
		sum_u += (double)u;
		sum_e += (double)e;
		above += e > 1000;
	}
	/* means within five standard errors; an exponential exceeds its mean with odds of 1/e */
	assert_in_range((uint64_t)(sum_u / N), 1990, 2010);
	assert_in_range((uint64_t)(sum_e / N), 984, 1016);
	assert_in_range(above, 36788 - 763, 36788 + 763);
	rng_seed(&rng, 9);
	rng_seed(&again, 9);
	for (int i = 0; i < 100; i++)
		assert_int_equal(rng_u64(&rng), rng_u64(&again));
}

/* ---- table ---- */

struct entry {
	struct table_node node;
	char name[16];
};

static struct entry *find(const struct table *table, const char *name)
{
	uint64_t hash = table_hash(name, 3);
	struct table_node *node = table_chain(table, hash);

	while (node && (node->hash != hash || strcmp(((struct entry *)node)->name, name)))
		node = node->next;
	return (struct entry *)node;
}

static void table_grows_and_shrinks(void **state)
{
	enum { N = 5000 };
	static struct entry entries[N];
	struct table table = {0};

	assert_null(find(&table, "e0"));
	for (int i = 0; i < N; i++) {
		snprintf(entries[i].name, sizeof(entries[i].name), "e%d", i);
		assert_int_equal(
			table_add(&table, &entries[i].node, table_hash(entries[i].name, 3)), 0);
	}
	for (int i = 0; i < N; i += 2)
		table_del(&table, &entries[i].node);
	for (int i = 0; i < N; i++)
		assert_ptr_equal(find(&table, entries[i].name), i % 2 ? &entries[i] : NULL);
	assert_int_equal(table.count, N / 2);
	table_done(&table);
}

/* ---- deadlines ---- */

enum { ITEMS = 300 };

struct timed {
	struct due_item item; /* first */
	bool cancelled;
	int fired;
};

static uint64_t last_at_ns;
static int fired_count;

static void on_due(struct due_item *item)
{
	struct timed *t = (struct timed *)item;

	assert_true(clock_mono_ns() >= item->at_ns);
	assert_true(item->at_ns >= last_at_ns);
	assert_false(t->cancelled);
	last_at_ns = item->at_ns;
	t->fired++;
	fired_count++;
}

/* In order, never early, each once; moved and cancelled ones as they were told. */
static void deadlines_in_order(void **state)
{
	static struct timed timed[ITEMS];
	struct err err;
	struct gloop *loop = gloop_new(&err);
	struct due *due = due_new(loop, &err);
	uint64_t begin = clock_mono_ns() + 5 * NS_PER_MS;
	struct rng rng;

	assert_non_null(due);
	rng_seed(&rng, 5);
	for (int i = 0; i < ITEMS; i++)
		assert_int_equal(due_set(due, &timed[i].item,
					 begin + rng_below(&rng, 20 * NS_PER_MS), on_due),
				 0);
	for (int i = 0; i < ITEMS; i += 3) {
		due_cancel(due, &timed[i].item);
		timed[i].cancelled = true;
	}
	for (int i = 1; i < ITEMS; i += 3)
		assert_int_equal(due_set(due, &timed[i].item,
					 begin + rng_below(&rng, 20 * NS_PER_MS), on_due),
				 0);
	while (fired_count < ITEMS - ITEMS / 3)
		(void)gloop_poll(loop, 1000);
	for (int i = 0; i < ITEMS; i++)
		assert_int_equal(timed[i].fired, i % 3 ? 1 : 0);
	due_free(due);
	gloop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cells_cover_all_values),
		cmocka_unit_test(quantiles_match_sorting),
		cmocka_unit_test(empty_and_single),
		cmocka_unit_test(dist_syntax),
		cmocka_unit_test(fraction_syntax),
		cmocka_unit_test(draws),
		cmocka_unit_test(table_grows_and_shrinks),
		cmocka_unit_test(deadlines_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
