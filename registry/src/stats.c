/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures: counters and log-linear histograms per participant, merged on read; the books, counted
 * from the truth words. Counting writes lines of the caller's own only. A line is never set back,
 * so nothing has to be carried over when its holder changes, and no death can count twice or lose.
 */
#include "internal.h"

#include <string.h>

static uint64_t figure(const a64 *own)
{
	return atomic_load_explicit(own, memory_order_relaxed); /* relaxed: a statistic */
}

const char *reg_counter_name(enum reg_counter counter)
{
	static const char *const names[] = {
#define NAME(name, key, text) key,
		REG_COUNT_LIST(NAME)
#undef NAME
	};

	return (unsigned int)counter < REG_COUNT_MAX ? names[counter] : "?";
}

const char *reg_counter_text(enum reg_counter counter)
{
	static const char *const texts[] = {
#define TEXT(name, key, text) text,
		REG_COUNT_LIST(TEXT)
#undef TEXT
	};

	return (unsigned int)counter < REG_COUNT_MAX ? texts[counter] : "?";
}

static uint64_t refused_in(const struct reg_part *part)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < REG_STATUS_MAX; i++)
		sum += figure(&part->refused[i]);
	return sum;
}

void reg__counters_join(struct reg_part *part)
{
	for (unsigned int i = 0; i < REG_COUNT_MAX; i++)
		/* relaxed, both: ours alone by now, statistics */
		atomic_store_explicit(&part->count_at_join[i], figure(&part->count[i]),
				      memory_order_relaxed);
	atomic_store_explicit(&part->refused_at_join, refused_in(part), memory_order_relaxed);
}

void reg__counters_since_join(const struct reg_part *part, struct reg_participant *ret)
{
	const struct {
		enum reg_counter counter;
		uint64_t *to;
	} wanted[] = {{REG_COUNT_RESERVED, &ret->reserved},
		      {REG_COUNT_COMMITTED, &ret->committed},
		      {REG_COUNT_ABORTED, &ret->aborted}};

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		*wanted[i].to = figure(&part->count[wanted[i].counter]) -
				figure(&part->count_at_join[wanted[i].counter]);
	ret->refused = refused_in(part) - figure(&part->refused_at_join);
}

void reg_counters_get(const struct reg *reg, struct reg_counters *ret)
{
	*ret = (struct reg_counters){0};
	for (uint32_t p = 0; p < REG_PARTICIPANTS_MAX; p++) {
		const struct reg_part *part = reg__part(reg, p);

		for (unsigned int i = 0; part && i < REG_COUNT_MAX; i++)
			ret->count[i] += figure(&part->count[i]);
		for (unsigned int i = 0; part && i < REG_STATUS_MAX; i++)
			ret->refused[i] += figure(&part->refused[i]);
	}
}

static unsigned int bucket_of(uint64_t ns)
{
	unsigned int exp, idx;

	if (ns < REG_HIST_SUB)
		return (unsigned int)ns;
	exp = 63 - (unsigned int)__builtin_clzll(ns); /* 3 and more */
	idx = (exp - 2) * REG_HIST_SUB + (unsigned int)((ns >> (exp - 3)) & (REG_HIST_SUB - 1));
	return idx < REG_HIST_BUCKETS ? idx : REG_HIST_BUCKETS - 1;
}

/* The highest value that falls into a bucket. */
static uint64_t bucket_top(unsigned int idx)
{
	unsigned int exp;

	if (idx < REG_HIST_SUB)
		return idx;
	exp = idx / REG_HIST_SUB + 2;
	return ((uint64_t)(REG_HIST_SUB + idx % REG_HIST_SUB + 1) << (exp - 3)) - 1;
}

void reg_hist_add(struct reg_self *me, enum reg_hist hist, uint64_t ns)
{
	a64 *max = &me->part->hist_max[hist];

	reg__add(&me->part->hist[hist][bucket_of(ns)], 1);
	if (ns > figure(max))
		/* relaxed: own line, one writer, a statistic */
		atomic_store_explicit(max, ns, memory_order_relaxed);
}

static uint64_t quantile(const uint64_t *buckets, uint64_t count, unsigned int permille,
			 uint64_t max)
{
	uint64_t want = (count * permille + 999) / 1000, seen = 0;

	for (unsigned int i = 0; i < REG_HIST_BUCKETS; i++) {
		seen += buckets[i];
		if (seen >= want && want)
			return bucket_top(i) < max ? bucket_top(i) : max;
	}
	return 0;
}

void reg_hist_get(const struct reg *reg, enum reg_hist hist, struct reg_hist_view *ret)
{
	static const char *const names[REG_HIST_MAX] = {"reserve", "batch", "agent",
							"start",   "total", "store_lag"};
	uint64_t sum[REG_HIST_BUCKETS] = {0};

	*ret = (struct reg_hist_view){.name = names[hist]};
	for (uint32_t p = 0; p < REG_PARTICIPANTS_MAX; p++) {
		const struct reg_part *part = reg__part(reg, p);

		if (!part)
			continue;
		for (unsigned int i = 0; i < REG_HIST_BUCKETS; i++) {
			uint64_t n = figure(&part->hist[hist][i]);

			sum[i] += n;
			ret->count += n;
		}
		uint64_t max = figure(&part->hist_max[hist]);

		ret->max_ns = max > ret->max_ns ? max : ret->max_ns;
	}
	ret->p50_ns = quantile(sum, ret->count, 500, ret->max_ns);
	ret->p90_ns = quantile(sum, ret->count, 900, ret->max_ns);
	ret->p99_ns = quantile(sum, ret->count, 990, ret->max_ns);
	ret->p999_ns = quantile(sum, ret->count, 999, ret->max_ns);
}

/* ---- the books ---- */

static uint64_t value_of(const a64 *word)
{
	return word ? atomic_load_explicit(word, memory_order_relaxed)
		    : 0; /* relaxed: counting; exact only at rest */
}

static void count_slots(struct reg *reg, struct reg_books *ret)
{
	uint32_t high = reg__cells_high(reg, CELLS_AGENTS);

	for (uint32_t a = 0; a < high; a++) {
		for (uint32_t s = 0; s < REG_SLOTS_PER_AGENT_MAX; s++) {
			a64 *slot = reg__slot(reg, a, s);
			uint64_t w = value_of(slot);
			const struct reg_rec *rec;

			if (!slot)
				break;
			if (word_state(w) == SLOT_FREE)
				continue;
			ret->slots_held++;
			rec = reg__rec(reg, word_record(w));
			if (!rec || value_of(&rec->place) != place_make(a, s, word_gen(w)) ||
			    !word_state(value_of(reg__cell(reg, CELLS_RECORDS, word_record(w)))))
				ret->contradictions++;
		}
	}
}

static bool has_entry(const struct reg *reg, enum reg_index_kind kind, const char *ns,
		      const uint64_t *text, uint32_t cap, uint32_t idx, uint32_t gen)
{
	char buf[sizeof(((struct reg_rec *)0)->name)];
	struct reg_hit hit;
	struct reg_key key;

	reg__str_out(buf, text, cap);
	if (!*buf)
		return true;
	key = reg__key_text(ns, buf);
	return reg__index_find(reg, kind, &key, &hit) && hit.cell == idx && hit.gen == gen;
}

static void count_record(struct reg *reg, uint32_t idx, struct reg_books *ret)
{
	uint64_t w = value_of(reg__cell(reg, CELLS_RECORDS, idx));
	const struct reg_rec *rec = reg__rec(reg, idx);
	char ns[REG_NAMESPACE_MAX + 1];
	uint64_t place, slot;

	if (!word_state(w) || !rec)
		return;
	ret->sandboxes++;
	place = value_of(&rec->place);
	slot = value_of(reg__slot(reg, place_agent(place), place_slot(place)));
	if (place & PLACE_HELD && (word_state(slot) == SLOT_FREE ||
				   word_gen(slot) != place_gen(place) || word_record(slot) != idx))
		ret->contradictions++;
	if (!(place & PLACE_HELD) && word_state(w) == REG_RUNNING)
		ret->contradictions++;
	reg__str_out(ns, rec->ns, sizeof(rec->ns));
	if (rec_state_visible(word_state(w)) &&
	    !has_entry(reg, INDEX_NAMES, ns, rec->name, sizeof(rec->name), idx, word_gen(w)))
		ret->contradictions++;
}

void reg_books(struct reg_self *me, struct reg_books *ret)
{
	struct reg *reg = me->reg;
	uint32_t stale = 0, high = reg__cells_high(reg, CELLS_RECORDS);

	*ret = (struct reg_books){0};
	for (uint32_t i = 0; i < high; i++)
		count_record(reg, i, ret);
	count_slots(reg, ret);
	ret->names = reg__index_count(reg, INDEX_NAMES, &stale);
	ret->request_ids = reg__index_count(reg, INDEX_REQUESTS, &stale);
	ret->ports = reg__index_count(reg, INDEX_PORTS, &stale);
	ret->contradictions += stale;
	for (unsigned int cls = 0; cls < REG_BLOB_CLASSES; cls++) {
		high = reg__cells_high(reg, CELLS_BLOB0 + cls);
		for (uint32_t i = 0; i < high; i++)
			ret->blobs += word_state(value_of(reg__cell(reg, CELLS_BLOB0 + cls, i))) ==
				      BLOB_USED;
	}
}
