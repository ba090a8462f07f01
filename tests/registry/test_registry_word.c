/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packed words, exhaustively: every field comes back from every word, and every transition of
 * every record word (16 states, 16 flag sets, owner or not, boundary generations and counts) is
 * what the tables below say.
 */
#include "rig.h"

#include <string.h>

#include "word.h"
#include "transitions.h"

enum { ME = 5, OTHER = 6, STATES = 16, FLAGS = 16 };

static const uint32_t gens[] = {0, 1, 2, 0x7ffffff, GEN_MASK - 1, GEN_MASK};
static const uint32_t changes[] = {0, 1, (1u << REC_CHANGE_WIDTH) - 1};
static const uint32_t owners[] = {0, ME, OTHER, REG_PARTICIPANTS_MAX - 1, CELL_OWNER_NONE};

#define COUNT(array)   (sizeof(array) / sizeof((array)[0]))
#define EACH(i, array) for (unsigned i = 0; i < COUNT(array); i++)

static uint64_t rec_word(unsigned state, uint32_t gen, uint32_t owner, unsigned flags,
			 uint32_t change)
{
	return BITS_PUT(state, CELL_STATE_SHIFT, CELL_STATE_WIDTH) |
	       BITS_PUT(gen, CELL_GEN_SHIFT, GEN_WIDTH) |
	       BITS_PUT(owner, CELL_OWNER_SHIFT, CELL_OWNER_WIDTH) |
	       BITS_PUT(flags, REC_FLAGS_SHIFT, REC_FLAGS_WIDTH) |
	       BITS_PUT(change, REC_CHANGE_SHIFT, REC_CHANGE_WIDTH);
}

static uint32_t rec_change(uint64_t w)
{
	return (uint32_t)BITS_GET(w, REC_CHANGE_SHIFT, REC_CHANGE_WIDTH);
}

/* ---- fields ---- */
static void test_generations(void **state)
{
	(void)state;
	CHECK_EQ(gen_next(0), 1);
	CHECK_EQ(gen_next(1), 2);
	CHECK_EQ(gen_next(GEN_MASK), 1); /* never 0 */
	CHECK_EQ(gen_next(GEN_MASK - 1), GEN_MASK);
}

static void test_cells(void **state)
{
	static const uint32_t records[] = {0, 1, 77, (1u << CELL_RECORD_WIDTH) - 1};

	(void)state;
	EACH(g, gens) EACH(o, owners) EACH(r, records) for (unsigned s = 1; s < STATES; s++)
	{
		uint64_t free_word = BITS_PUT(gens[g], CELL_GEN_SHIFT, GEN_WIDTH);
		uint64_t w = cell_take(free_word, s, owners[o], records[r]), moved;

		CHECK_EQ(word_state(w), s);
		CHECK_EQ(word_gen(w), gen_next(gens[g]));
		CHECK_EQ(word_owner(w), owners[o]);
		CHECK_EQ(word_record(w), records[r]);
		moved = cell_hand_over(w, s ^ 1, ME);
		CHECK_EQ(word_state(moved), s ^ 1);
		CHECK_EQ(word_gen(moved), word_gen(w));
		CHECK_EQ(word_owner(moved), ME);
		CHECK_EQ(word_record(moved), records[r]);
		CHECK_EQ(word_state(cell_free(w)), 0);
		CHECK_EQ(word_gen(cell_free(w)), word_gen(w));
		CHECK(cell_take(cell_free(w), s, owners[o], records[r]) != w); /* no ABA */
	}
}

static void test_places(void **state)
{
	static const uint32_t agents[] = {0, 1, 16383, 131071};
	static const uint32_t slots[] = {0, 1, 63, 64, 4095};

	(void)state;
	CHECK_EQ(place_agent(0), UINT32_MAX);
	EACH(a, agents) EACH(s, slots) EACH(g, gens)
	{
		uint64_t p = place_make(agents[a], slots[s], gens[g]);

		CHECK_EQ(place_agent(p), agents[a]);
		CHECK_EQ(place_slot(p), slots[s]);
		CHECK_EQ(place_gen(p), gens[g]);
		CHECK(p & PLACE_HELD);
		CHECK_EQ(place_agent(p & ~PLACE_HELD), agents[a]);
	}
}

static void test_values(void **state)
{
	static const int64_t values[] = {0, 1, -1, 1700000000, -5, TAGGED_MAX, -TAGGED_MAX};
	static const uint32_t idxs[] = {0, 1, (1u << 28) - 1};

	(void)state;
	EACH(v, values) EACH(g, gens)
	{
		CHECK_EQ(tagged_value(tagged_make(values[v], gens[g])), values[v]);
		CHECK_EQ(tagged_gen(tagged_make(values[v], gens[g])), gens[g]);
	}
	EACH(i, idxs) EACH(g, gens) for (unsigned cls = 0; cls < 16; cls++)
	{
		uint64_t ref = ref_make(cls, idxs[i], gens[g]);

		CHECK_EQ(ref_class(ref), cls);
		CHECK_EQ(ref_idx(ref), idxs[i]);
		CHECK_EQ(ref_gen(ref), gens[g]);
		CHECK(ref & REF_VALID);
		CHECK(!(ref & REF_INLINE));
		CHECK(!(ref_inline(idxs[i]) & REF_VALID));
		CHECK(ref_inline(idxs[i]) & REF_INLINE);
		CHECK_EQ(ref_inline_len(ref_inline(idxs[i])), idxs[i]);
	}
	for (uint32_t slots = 0; slots <= REG_SLOTS_PER_AGENT_MAX; slots++)
		for (int ready = 0; ready < 2; ready++) {
			CHECK_EQ(hot_slots(hot_make(slots, ready)), slots);
			CHECK_EQ(hot_ready(hot_make(slots, ready)), ready);
		}
}

static void test_entries(void **state)
{
	static const uint32_t cells[] = {0, 1, 4194303};
	static const uint64_t hashes[] = {0, UINT64_MAX, 0x8000000000000000, 0x0123456789abcdef};

	(void)state;
	EACH(c, cells)
	EACH(h, hashes) EACH(g, gens) for (unsigned s = ENTRY_TENTATIVE; s <= ENTRY_COMMITTED; s++)
	{
		uint64_t e = entry_make(s, hashes[h], cells[c], gens[g]);

		CHECK_EQ(entry_state(e), s);
		CHECK_EQ(entry_cell(e), cells[c]);
		CHECK_EQ(entry_gen(e), gens[g]);
		CHECK(entry_tag_is(e, hashes[h]));
		CHECK(!entry_tag_is(e, ~hashes[h]));
		CHECK(e != 0); /* 0 is EMPTY */
	}
}

/* ---- transitions: what is written, in words that do not come from word.c ---- */
struct want {
	enum reg_status status;
	unsigned state, flags;
	uint32_t owner;
	bool same; /* the word stays as it is */
};

#define REFUSED                                                                                    \
	(struct want)                                                                              \
	{                                                                                          \
		.status = REG_BAD_STATE                                                            \
	}
#define BIT(state) (1u << (state))

static bool one_of(unsigned state, uint32_t set)
{
	return set >> state & 1;
}

static struct want want_starting(unsigned state, unsigned flags, uint32_t owner)
{
	if (state != REG_RESERVED || owner != ME)
		return REFUSED;
	if (flags & REC_DELETING)
		return (struct want){.status = REG_DELETING, .same = true};
	return (struct want){REG_OK, REG_STARTING, flags, ME, false};
}

static struct want want_commit(unsigned state, unsigned flags, uint32_t owner)
{
	if (state != REG_STARTING || owner != ME)
		return REFUSED;
	if (flags & REC_DELETING)
		return (struct want){REG_DELETING, REG_STOPPING, REC_DELETING, CELL_OWNER_NONE,
				     false};
	return (struct want){REG_OK, flags & REC_EXIT_SEEN ? REG_EXITED : REG_RUNNING, 0,
			     CELL_OWNER_NONE, false};
}

static struct want want_abort(unsigned state, unsigned flags, uint32_t owner)
{
	if (!one_of(state, BIT(REG_CLAIMED) | BIT(REG_RESERVED) | BIT(REG_STARTING)) || owner != ME)
		return REFUSED;
	return (struct want){REG_OK, REG_CLAIMED, flags | REC_DELETING, ME, false};
}

static struct want want_member(unsigned state, unsigned flags, uint32_t owner)
{
	if (state != REG_CLAIMED || owner != ME || flags)
		return REFUSED;
	return (struct want){REG_OK, REG_CLAIMED, REC_GANG, ME, false};
}

static struct want want_shown(unsigned state, unsigned flags, uint32_t owner)
{
	if (state != REG_CLAIMED || flags != REC_GANG)
		return REFUSED;
	return (struct want){REG_OK, REG_RESERVED, 0, owner, false};
}

/* A slot is being found for it: others mark it only. */
static bool adopting(unsigned state, uint32_t owner)
{
	return one_of(state, BIT(REG_LOST) | BIT(REG_RESTORED)) && owner != CELL_OWNER_NONE;
}

static struct want want_delete(unsigned state, unsigned flags, uint32_t owner)
{
	flags |= REC_DELETING;
	if (adopting(state, owner))
		return (struct want){REG_OK, state, flags, owner, false};
	if (one_of(state,
		   BIT(REG_RESERVED) | BIT(REG_STARTING) | BIT(REG_STOPPING) | BIT(REG_RESTORED)))
		return (struct want){REG_OK, state, flags, owner, false};
	if (one_of(state, BIT(REG_RUNNING) | BIT(REG_EXITED) | BIT(REG_EXPIRED) | BIT(REG_LOST)))
		return (struct want){REG_OK, REG_STOPPING, flags, CELL_OWNER_NONE, false};
	return REFUSED;
}

static struct want want_expire(unsigned state, unsigned flags, uint32_t owner)
{
	(void)owner;
	if (state != REG_RUNNING)
		return REFUSED;
	return (struct want){REG_OK, REG_STOPPING, flags | REC_EXPIRING, CELL_OWNER_NONE, false};
}

static struct want want_exited(unsigned state, unsigned flags, uint32_t owner)
{
	if (state == REG_STARTING || adopting(state, owner))
		return (struct want){REG_OK, state, flags | REC_EXIT_SEEN, owner, false};
	if (one_of(state, BIT(REG_RUNNING) | BIT(REG_LOST) | BIT(REG_RESTORED)))
		return (struct want){REG_OK, REG_EXITED, flags & REC_DELETING, CELL_OWNER_NONE,
				     false};
	if (one_of(state, BIT(REG_STOPPING) | BIT(REG_EXITED) | BIT(REG_EXPIRED)))
		return (struct want){.status = REG_OK, .same = true};
	return REFUSED;
}

static struct want want_stopped(unsigned state, unsigned flags, uint32_t owner)
{
	if (state == REG_STOPPING && flags & REC_DELETING)
		return (struct want){REG_OK, REG_CLAIMED, flags, ME, false};
	if (state == REG_STOPPING)
		return (struct want){REG_OK, REG_EXPIRED, 0, CELL_OWNER_NONE, false};
	if (one_of(state, BIT(REG_RUNNING) | BIT(REG_EXITED) | BIT(REG_LOST)))
		return want_exited(state, flags, owner);
	return REFUSED;
}

static struct want want_lost(unsigned state, unsigned flags, uint32_t owner)
{
	if (!one_of(state, BIT(REG_RUNNING) | BIT(REG_RESTORED)) || adopting(state, owner))
		return REFUSED;
	return (struct want){REG_OK, REG_LOST, flags & REC_DELETING, CELL_OWNER_NONE, false};
}

static struct want want_found(unsigned state, unsigned flags, uint32_t owner)
{
	if (state != REG_LOST || adopting(state, owner))
		return REFUSED;
	return (struct want){REG_OK, REG_RUNNING, flags & REC_DELETING, CELL_OWNER_NONE, false};
}

static struct want want_adopting(unsigned state, unsigned flags, uint32_t owner)
{
	if (state == REG_RUNNING)
		return (struct want){.status = REG_OK, .same = true};
	if (!one_of(state, BIT(REG_LOST) | BIT(REG_RESTORED)) || owner != CELL_OWNER_NONE)
		return REFUSED;
	return (struct want){REG_OK, state, flags, ME, false};
}

static struct want want_adopted(unsigned state, unsigned flags, uint32_t owner)
{
	if (!adopting(state, owner) || owner != ME)
		return REFUSED;
	if (flags & REC_DELETING)
		return (struct want){REG_DELETING, REG_STOPPING, REC_DELETING, CELL_OWNER_NONE,
				     false};
	return (struct want){REG_OK, flags & REC_EXIT_SEEN ? REG_EXITED : REG_RUNNING, 0,
			     CELL_OWNER_NONE, false};
}

static struct want want_unadopted(unsigned state, unsigned flags, uint32_t owner)
{
	if (!adopting(state, owner) || owner != ME)
		return REFUSED;
	return (struct want){REG_OK, flags & REC_EXIT_SEEN ? REG_EXITED : state,
			     flags & REC_DELETING, CELL_OWNER_NONE, false};
}

static enum reg_status do_shown(uint64_t w, uint32_t me, uint64_t *next)
{
	(void)me;
	return rec_to_shown(w, next);
}

static const struct transition {
	const char *name;
	enum reg_status (*run)(uint64_t w, uint32_t me, uint64_t *next);
	struct want (*want)(unsigned state, unsigned flags, uint32_t owner);
} transitions[] = {
	{"starting", rec_to_starting, want_starting},
	{"commit", rec_to_committed, want_commit},
	{"abort", rec_to_abort, want_abort},
	{"member", rec_to_member, want_member},
	{"shown", do_shown, want_shown},
	{"delete", do_delete, want_delete},
	{"expire", do_expire, want_expire},
	{"stopped", rec_to_stopped, want_stopped},
	{"exited", do_exited, want_exited},
	{"lost", do_lost, want_lost},
	{"found", do_found, want_found},
	{"adopting", rec_to_adopting, want_adopting},
	{"adopted", rec_to_adopted, want_adopted},
	{"unadopted", rec_to_unadopted, want_unadopted},
};

static void check_one(const struct transition *t, uint64_t w)
{
	const uint64_t untouched = 0x5555;
	struct want want = t->want(word_state(w), rec_flags(w), word_owner(w));
	uint64_t next = untouched;

	rig_note("%s of state %u, flags %u, owner %u", t->name, word_state(w), rec_flags(w),
		 word_owner(w));
	CHECK_ST(t->run(w, ME, &next), want.status);
	if (want.status == REG_BAD_STATE) {
		CHECK(next == untouched || next == w);
		return;
	}
	CHECK_EQ(word_gen(next), word_gen(w)); /* no transition changes the generation */
	if (want.same) {
		CHECK_EQ(next, w);
		return;
	}
	CHECK_EQ(word_state(next), want.state);
	CHECK_EQ(rec_flags(next), want.flags);
	CHECK_EQ(word_owner(next), want.owner);
	CHECK_EQ(rec_change(next), (rec_change(w) + 1) & ((1u << REC_CHANGE_WIDTH) - 1));
	CHECK(next != w);
}

static void test_transitions(void **state)
{
	(void)state;
	EACH(t, transitions)
	EACH(g, gens)
	EACH(o, owners)
	EACH(c, changes)
	for (unsigned s = 0; s < STATES; s++)
		for (unsigned f = 0; f < FLAGS; f++)
			check_one(&transitions[t], rec_word(s, gens[g], owners[o], f, changes[c]));
}

/* A state that is in somebody's hands has an owner, and one that is not has none; LOST and RESTORED
 * may be either. */
static bool well_owned(uint64_t w)
{
	unsigned s = word_state(w);
	bool owned = word_owner(w) != CELL_OWNER_NONE;

	if (s == REG_LOST || s == REG_RESTORED)
		return true;
	return owned == (s >= REG_CLAIMED && s <= REG_STARTING);
}

static void test_owners_follow_states(void **state)
{
	(void)state;
	EACH(t, transitions)
	EACH(o, owners)
	for (unsigned s = 0; s < STATES; s++)
		for (unsigned f = 0; f < FLAGS; f++) {
			uint64_t w = rec_word(s, 1, owners[o], f, 0), next = 0;

			if (!well_owned(w) || transitions[t].run(w, ME, &next) == REG_BAD_STATE)
				continue;
			rig_note("%s of state %u, owner %u", transitions[t].name, s, owners[o]);
			CHECK(well_owned(next));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_generations),
		cmocka_unit_test(test_cells),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_entries),
		cmocka_unit_test(test_transitions),
		cmocka_unit_test(test_owners_follow_states),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
