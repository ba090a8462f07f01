/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every packed word field by field: each field at its edges with every other field at its edges
 * comes back, and touches no other; and the graph of a record's life: which states any row of
 * transitions reaches, by which edges, and with which flags and owners.
 */
#include "rig.h"

#include <stdio.h>
#include <string.h>

#include "word.h"
#include "transitions.h"

/* ---- fields ---- */
enum { FIELDS = 4 };

struct word {
	const char *name;
	uint64_t (*make)(const uint64_t *v);
	struct field {
		unsigned width;
		uint64_t max; /* 0: all that the width holds */
		uint64_t (*get)(uint64_t w);
	} fields[FIELDS];
};

#define GETTER(name)                                                                               \
	static uint64_t get_##name(uint64_t w)                                                     \
	{                                                                                          \
		return (uint64_t)(name(w));                                                        \
	}
GETTER(word_state)
GETTER(word_gen)
GETTER(word_owner)
GETTER(word_record)
GETTER(rec_flags)
GETTER(place_agent)
GETTER(place_slot)
GETTER(place_gen)
GETTER(hot_slots)
GETTER(hot_capacity)
GETTER(hot_flags)
GETTER(hot_gen)
GETTER(retire_kind)
GETTER(retire_owner)
GETTER(retire_idx)
GETTER(retire_gen)
GETTER(tagged_gen)
GETTER(ref_class)
GETTER(ref_idx)
GETTER(ref_gen)
GETTER(ref_inline_len)
GETTER(entry_state)
GETTER(entry_cell)
GETTER(entry_gen)

static uint64_t get_tagged(uint64_t w)
{
	return (uint64_t)tagged_value(w) & ((UINT64_C(1) << 36) - 1);
}

static uint64_t get_tag(uint64_t w)
{
	for (uint64_t tag = 0; tag < 1 << 12; tag++)
		if (entry_tag_is(w, tag << 52 | 0x123))
			return tag;
	return UINT64_MAX;
}

static uint64_t make_slot(const uint64_t *v)
{
	uint64_t before = BITS_PUT(v[1], CELL_GEN_SHIFT, GEN_WIDTH);

	return cell_mark(before, (unsigned)v[0], (uint32_t)v[2], (uint32_t)v[3]);
}

static uint64_t make_record(const uint64_t *v)
{
	uint64_t before = BITS_PUT(v[1], CELL_GEN_SHIFT, GEN_WIDTH);

	return rec_move(before, (enum reg_state)v[0], (uint32_t)v[2], (unsigned)v[3]);
}

static uint64_t make_place(const uint64_t *v)
{
	return place_make((uint32_t)v[0], (uint32_t)v[1], (uint32_t)v[2]);
}

static uint64_t make_hot(const uint64_t *v)
{
	return hot_pack((uint32_t)v[0], (uint32_t)v[1], (unsigned)v[2], (uint32_t)v[3]);
}

static uint64_t make_retire(const uint64_t *v)
{
	return retire_make((unsigned)v[0], (uint32_t)v[1], (uint32_t)v[2], (uint32_t)v[3]);
}

static uint64_t make_tagged(const uint64_t *v)
{
	return tagged_make((int64_t)(v[0] << 28) >> 28, (uint32_t)v[1]);
}

static uint64_t make_ref(const uint64_t *v)
{
	return ref_make((unsigned)v[0], (uint32_t)v[1], (uint32_t)v[2]);
}

static uint64_t make_inline(const uint64_t *v)
{
	return ref_inline((uint32_t)v[0]);
}

static uint64_t make_entry(const uint64_t *v)
{
	return entry_make((unsigned)v[0], v[1] << 52, (uint32_t)v[2], (uint32_t)v[3]);
}

static const struct word words[] = {
	{"slot, blob, row",
	 make_slot,
	 {{4, 0, get_word_state},
	  {28, 0, get_word_gen},
	  {10, 0, get_word_owner},
	  {22, 0, get_word_record}}},
	{"record",
	 make_record,
	 {{4, 0, get_word_state},
	  {28, 0, get_word_gen},
	  {10, 0, get_word_owner},
	  {4, 0, get_rec_flags}}},
	/* agent + 1 is what is stored */
	{"placement",
	 make_place,
	 {{18, (1 << 18) - 2, get_place_agent}, {12, 0, get_place_slot}, {28, 0, get_place_gen}}},
	{"hot",
	 make_hot,
	 {{16, 0, get_hot_slots},
	  {16, 0, get_hot_capacity},
	  {3, 0, get_hot_flags},
	  {28, 0, get_hot_gen}}},
	/* kind + 1 is what is stored */
	{"retire list",
	 make_retire,
	 {{4, 14, get_retire_kind},
	  {10, 0, get_retire_owner},
	  {22, 0, get_retire_idx},
	  {28, 0, get_retire_gen}}},
	{"tagged value", make_tagged, {{36, 0, get_tagged}, {28, 0, get_tagged_gen}}},
	{"blob reference",
	 make_ref,
	 {{4, 0, get_ref_class}, {28, 0, get_ref_idx}, {28, 0, get_ref_gen}}},
	{"inline reference", make_inline, {{32, 0, get_ref_inline_len}}},
	{"index entry",
	 make_entry,
	 {{2, 0, get_entry_state},
	  {12, 0, get_tag},
	  {22, 0, get_entry_cell},
	  {28, 0, get_entry_gen}}},
};

enum { EDGES = 7 };

static uint64_t edge(const struct field *f, unsigned i)
{
	uint64_t max = f->max ? f->max : (UINT64_C(1) << f->width) - 1;
	const uint64_t at[EDGES] = {0,
				    1,
				    max / 2,
				    max / 2 + 1,
				    max - 1,
				    max,
				    UINT64_C(0x5555555555555555) & ((UINT64_C(1) << f->width) - 1)};

	return at[i] > max ? max : at[i];
}

static uint64_t every_edge(const struct word *word)
{
	uint64_t count = 1, v[FIELDS] = {0};
	unsigned n = 0;

	for (; n < FIELDS && word->fields[n].get; n++)
		count *= EDGES;
	for (uint64_t which = 0; which < count; which++) {
		uint64_t rest = which, w;

		for (unsigned f = 0; f < n; f++, rest /= EDGES)
			v[f] = edge(&word->fields[f], (unsigned)(rest % EDGES));
		w = word->make(v);
		for (unsigned f = 0; f < n; f++) {
			rig_note("%s, field %u, case %llu", word->name, f,
				 (unsigned long long)which);
			CHECK_EQ(word->fields[f].get(w), v[f]);
		}
	}
	return count;
}

static void test_every_field_at_its_edges(void **state)
{
	uint64_t cases = 0;

	(void)state;
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		cases += every_edge(&words[i]);
	printf("%llu words\n", (unsigned long long)cases);
}

/* The marks that tell words apart are no part of any field. */
static void test_marks(void **state)
{
	const uint64_t most[FIELDS] = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX},
		       none[4] = {0};

	(void)state;
	CHECK(make_place(none) & PLACE_HELD);
	CHECK_EQ(place_agent(0), UINT32_MAX);
	CHECK_EQ(place_agent(place_make(UINT32_MAX, 1, 1)), UINT32_MAX);
	CHECK(make_ref(most) & REF_VALID);
	CHECK(!(make_ref(most) & REF_INLINE));
	CHECK(make_inline(most) & REF_INLINE);
	CHECK(!(make_inline(most) & REF_VALID));
	CHECK(make_retire(none) != 0); /* 0 is empty */
	CHECK_EQ(retire_kind(0), UINT32_MAX);
	for (unsigned s = ENTRY_TENTATIVE; s <= ENTRY_COMMITTED; s++)
		CHECK(entry_make(s, 0, 0, 0) != 0);
}

/* ---- the hot word's own changes ---- */
static void test_hot(void **state)
{
	(void)state;
	for (unsigned before = 0; before < 8; before++)
		for (unsigned set = 0; set < 8; set++)
			for (unsigned clear = 0; clear < 8; clear++) {
				uint64_t hot = hot_pack(17, 4096, before, GEN_MASK - 5);
				uint64_t w = hot_with_flags(hot, set, clear);

				rig_note("flags %u, set %u, clear %u", before, set, clear);
				CHECK_EQ(hot_flags(w), (before & ~clear) | set);
				CHECK_EQ(hot_slots(w), 17);
				CHECK_EQ(hot_capacity(w), 4096);
				CHECK_EQ(hot_gen(w), GEN_MASK - 5);
				/* up, and neither draining nor removed */
				CHECK_EQ(hot_ready(w), hot_flags(w) == HOT_UP);
			}
	for (uint32_t slots = 0; slots <= REG_SLOTS_PER_AGENT_MAX; slots++) {
		uint64_t w = hot_with_slots(hot_pack(3, 77, HOT_UP | HOT_DRAINING, 9), slots);

		CHECK_EQ(hot_slots(w), slots);
		CHECK_EQ(hot_capacity(w), 77);
		CHECK_EQ(hot_flags(w), HOT_UP | HOT_DRAINING);
		CHECK_EQ(hot_gen(w), 9);
	}
	for (uint32_t owner = 0; owner <= CELL_OWNER_NONE; owner++) {
		uint64_t e = retire_with_owner(retire_make(3, 7, 0x3fffff, GEN_MASK), owner);

		CHECK_EQ(retire_owner(e), owner);
		CHECK_EQ(retire_kind(e), 3);
		CHECK_EQ(retire_idx(e), 0x3fffff);
		CHECK_EQ(retire_gen(e), GEN_MASK);
	}
}

static void test_row_states(void **state)
{
	(void)state;
	for (unsigned s = 0; s < 16; s++) {
		CHECK_EQ(row_state_found(s), s == ROW_LIVE || s == ROW_RETIRING || s == ROW_HELD);
		CHECK_EQ(row_state_used(s), s == ROW_NEW || row_state_found(s));
	}
}

/* ---- counts that wrap ---- */
static void test_counts_wrap_late(void **state)
{
	uint64_t w = rec_move(0, REG_RUNNING, CELL_OWNER_NONE, 0), first = w;
	uint32_t period = 0, gen = 1, generations = 0;

	(void)state;
	do { /* no word of a generation comes again before the count is round */
		w = rec_move(w, REG_RUNNING, CELL_OWNER_NONE, 0);
		period++;
	} while (w != first && period <= 1u << REC_CHANGE_WIDTH);
	CHECK_EQ(period, 1u << REC_CHANGE_WIDTH);
	if (!rig_long())
		gen = GEN_MASK - 1000000;
	for (uint32_t g = gen; generations == 0 || g != 1; g = gen_next(g), generations++)
		if (g == 0 || g > GEN_MASK)
			CHECK(!"a generation in its range");
	CHECK_EQ(generations, GEN_MASK - gen + 1);
}

/* ---- the life of a record ---- */
enum { ME = 5, OTHER = 6, NOBODY = CELL_OWNER_NONE };

static enum reg_status (*const steps[])(uint64_t w, uint32_t me, uint64_t *next) = {
	rec_to_starting, rec_to_committed, rec_to_abort, do_delete,
	do_expire,	 rec_to_stopped,   do_exited,	 rec_to_adopting,
	rec_to_adopted,	 rec_to_unadopted, do_lost,	 do_found,
};

enum { STATES = 16, OWNERS = 3, NODES = STATES * 16 * OWNERS };
static const uint32_t owners[OWNERS] = {ME, OTHER, NOBODY};

static unsigned node_of(uint64_t w)
{
	unsigned owner = word_owner(w) == ME ? 0 : word_owner(w) == OTHER ? 1 : 2;

	return (word_state(w) * 16 + rec_flags(w)) * OWNERS + owner;
}

static uint64_t word_of_node(unsigned node)
{
	return rec_move(BITS_PUT(1, CELL_GEN_SHIFT, GEN_WIDTH),
			(enum reg_state)(node / OWNERS / 16), owners[node % OWNERS],
			node / OWNERS % 16);
}

/* A state that is left for this one only by what is listed. */
#define FROM(state) (1u << (state))
static const uint32_t comes_from[STATES] = {
	/* an end, or an abort of one that was claimed */
	[REG_CLAIMED] =
		FROM(REG_CLAIMED) | FROM(REG_RESERVED) | FROM(REG_STARTING) | FROM(REG_STOPPING),
	[REG_RESERVED] = FROM(REG_RESERVED), /* and from CLAIMED by its publication */
	[REG_STARTING] = FROM(REG_STARTING) | FROM(REG_RESERVED),
	[REG_RUNNING] = FROM(REG_STARTING) | FROM(REG_LOST) | FROM(REG_RESTORED),
	[REG_STOPPING] = FROM(REG_STOPPING) | FROM(REG_STARTING) | FROM(REG_RUNNING) |
			 FROM(REG_EXITED) | FROM(REG_EXPIRED) | FROM(REG_LOST) | FROM(REG_RESTORED),
	[REG_EXITED] = FROM(REG_STARTING) | FROM(REG_RUNNING) | FROM(REG_LOST) | FROM(REG_RESTORED),
	[REG_EXPIRED] = FROM(REG_STOPPING),
	[REG_LOST] = FROM(REG_LOST) | FROM(REG_RUNNING) | FROM(REG_RESTORED),
	[REG_RESTORED] = FROM(REG_RESTORED),
	[REG_GONE] = 0, /* by the undo of a CLAIMED one alone */
};

/* What every reachable word keeps to. */
static void check_node(unsigned node)
{
	uint64_t w = word_of_node(node);
	unsigned state = word_state(w), flags = rec_flags(w);
	bool owned = word_owner(w) != NOBODY;

	rig_note("state %s, flags %u, owned %d", reg_state_name((enum reg_state)state), flags,
		 owned);
	if (state == REG_CLAIMED || state == REG_RESERVED || state == REG_STARTING)
		CHECK(owned);
	else if (state != REG_LOST && state != REG_RESTORED) /* adopted at this moment, or not */
		CHECK(!owned);
	if (flags & REC_EXPIRING) /* and of one that was expiring: its teardown */
		CHECK(state == REG_STOPPING || state == REG_CLAIMED);
	if (flags & REC_EXIT_SEEN)
		CHECK(state == REG_STARTING || state == REG_CLAIMED ||
		      (owned && state >= REG_LOST));
	if (state == REG_EXPIRED)
		CHECK_EQ(flags, 0);
}

/* From what a reservation, an insertion and a reaper begin with. */
static void test_reachable_words(void **state)
{
	static bool reached[NODES];
	static unsigned queue[NODES];
	uint32_t seen[STATES] = {0};
	unsigned head = 0, tail = 0, edges = 0;
	static const enum reg_state starts[] = {REG_CLAIMED, REG_RESERVED, REG_RESTORED,
						REG_EXITED,  REG_EXPIRED,  REG_LOST};

	(void)state;
	memset(reached, 0, sizeof(reached));
	for (unsigned i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
		for (unsigned o = 0; o < OWNERS; o++) {
			bool owned = starts[i] == REG_CLAIMED || starts[i] == REG_RESERVED;
			uint64_t w = rec_move(0, starts[i], owners[o], 0);

			if (owned == (owners[o] != NOBODY) && !reached[node_of(w)]) {
				reached[node_of(w)] = true;
				queue[tail++] = node_of(w);
			}
		}
	while (head < tail) {
		uint64_t w = word_of_node(queue[head]), next;

		check_node(queue[head++]);
		for (unsigned s = 0; s < sizeof(steps) / sizeof(steps[0]); s++)
			for (unsigned me = 0; me < 2; me++) {
				enum reg_status st = steps[s](w, owners[me], &next);

				if ((st != REG_OK && st != REG_DELETING) || next == w)
					continue;
				edges++;
				seen[word_state(next)] |= FROM(word_state(w));
				if (!reached[node_of(next)]) {
					reached[node_of(next)] = true;
					queue[tail++] = node_of(next);
				}
			}
	}
	printf("%u words reached, %u edges\n", tail, edges);
	for (unsigned s = 0; s < STATES; s++) {
		rig_note("edges into %s", reg_state_name((enum reg_state)s));
		CHECK_EQ(seen[s], comes_from[s]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_field_at_its_edges),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_hot),
		cmocka_unit_test(test_row_states),
		cmocka_unit_test(test_counts_wrap_late),
		cmocka_unit_test(test_reachable_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
