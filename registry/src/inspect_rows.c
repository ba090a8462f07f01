/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inspector's look at what administration makes: rows of agents, pools and images with their
 * keys and bitmaps, cold records, agents' lists of images, the retire list, published loads.
 */
#include "inspect.h"

static uint64_t agent_field(const struct reg_inspect *ins, uint32_t agent, uint64_t field)
{
	return ins_at(ins, REGION_AGENTS, (uint64_t)agent * sizeof(struct reg_agent)) + field;
}

static void cell(struct reg_inspect *ins, enum reg_finding_kind kind, enum reg_cells_kind of,
		 uint32_t idx, uint64_t a, uint64_t b)
{
	ins_found(
		ins, kind,
		(struct ins_found){.subject = INS_CELL, .sub = (uint8_t)of, .a = idx, .w = {a, b}});
}

static bool ready(const struct reg_inspect *ins, uint32_t agent)
{
	return hot_ready(ins_u64(ins, agent_field(ins, agent, offsetof(struct reg_agent, hot))));
}

/* ---- bitmaps ---- */

/* A search looks only at stripes that are marked; a mark too many costs a look. A death in a join
 * may leave a mark too few, before the agent is ready. */
static void look_stripe(struct reg_inspect *ins, enum reg_cells_kind kind, uint32_t idx,
			uint32_t stripe, uint64_t members)
{
	enum reg_region region = kind == CELLS_POOLS ? REGION_POOL_BITS : REGION_IMAGE_BITS;
	bool marked = ins_stripes(ins, region, idx, stripe / 64) >> (stripe % 64) & 1,
	     hides = false;

	if (marked == (members != 0))
		return;
	for (uint64_t left = members; left; left &= left - 1)
		hides = hides || ready(ins, stripe * 64 + (uint32_t)__builtin_ctzll(left));
	ins_found(ins, hides ? REG_FINDING_MEMBER_HIDDEN : REG_FINDING_STRIPE,
		  (struct ins_found){.subject = INS_CELL,
				     .sub = (uint8_t)kind,
				     .a = idx,
				     .b = stripe,
				     .w = {members, stripe}});
}

static bool is_member(const struct reg_inspect *ins, enum reg_cells_kind kind, uint32_t idx,
		      uint32_t agent)
{
	return word_state(ins_cell(ins, CELLS_AGENTS, agent)) && /* a retired one's go last */
	       (kind != CELLS_POOLS ||
		ins_u32(ins, agent_field(ins, agent, offsetof(struct reg_agent, pool))) == idx);
}

/* Bits of agents that are not there, or (pools) that are in another pool. */
static void look_bits(struct reg_inspect *ins, enum reg_cells_kind kind, uint32_t idx)
{
	enum reg_region region = kind == CELLS_POOLS ? REGION_POOL_BITS : REGION_IMAGE_BITS;

	for (uint32_t i = 0; i < ins->geo.agent_words; i++) {
		uint64_t bits = ins_members(ins, region, idx, i), wrong = 0;

		look_stripe(ins, kind, idx, i, bits);
		for (uint64_t left = bits; left; left &= left - 1) {
			uint32_t a = i * 64 + (uint32_t)__builtin_ctzll(left);

			if (!is_member(ins, kind, idx, a))
				wrong |= left & -left;
			else if (kind == CELLS_IMAGES && a < ins->geo.max[CELLS_AGENTS])
				ins->images_of[a]++;
		}
		if (wrong)
			ins_found(ins,
				  kind == CELLS_POOLS ? REG_FINDING_POOL_BIT
						      : REG_FINDING_IMAGE_BIT,
				  (struct ins_found){.subject = INS_CELL,
						     .sub = (uint8_t)kind,
						     .a = idx,
						     .b = i,
						     .w = {bits, wrong}});
	}
}

/* ---- published loads ---- */

/* No agent of the home (with the image) may be lighter than what is published there. */
static void look_low(struct reg_inspect *ins, uint32_t pool, uint32_t row, uint32_t home,
		     uint32_t low)
{
	uint32_t image = row ? ((low >> 16) - 1) * (REG_LOWS - 1) + row - 1 : REG_NIL;
	int16_t lightest = REG_HINT_FULL;

	for (uint32_t i = home; i < ins->geo.agent_words; i += REG_HOMES) {
		uint64_t of = ins_members(ins, REGION_POOL_BITS, pool, i);

		if (image != REG_NIL)
			of &= image < ins->geo.max[CELLS_IMAGES]
				      ? ins_members(ins, REGION_IMAGE_BITS, image, i)
				      : 0;
		for (; of; of &= of - 1) {
			int16_t hint = ins_hint(ins, i * 64 + (uint32_t)__builtin_ctzll(of));

			lightest = hint < lightest ? hint : lightest;
		}
	}
	if ((low & 0x7fff) > (uint16_t)lightest)
		ins_found(ins, REG_FINDING_LOW,
			  (struct ins_found){.subject = INS_CELL,
					     .sub = CELLS_POOLS,
					     .a = pool,
					     .b = row * REG_HOMES + home,
					     .w = {low, (uint16_t)lightest}});
}

/* Who places a gang there: somebody, whose reaper lets the others in. */
static void look_gang(struct reg_inspect *ins, uint32_t pool)
{
	uint64_t gang = ins_u64(ins, ins_at(ins, REGION_POOLS,
					    (uint64_t)pool * sizeof(struct reg_pool) +
						    offsetof(struct reg_pool, gang)));
	uint32_t owner = gang_owner(gang);

	if (owner == REG_NIL)
		return;
	if (owner >= REG_PARTICIPANTS_MAX || ins_owner(ins, owner) == OWNER_UNKNOWN)
		cell(ins, REG_FINDING_GANG, CELLS_POOLS, pool, gang, owner);
	else if (ins_owner(ins, owner) == OWNER_DEAD)
		cell(ins, REG_FINDING_OWNER_DEAD, CELLS_POOLS, pool, gang, owner);
}

static void look_lows(struct reg_inspect *ins, uint32_t pool)
{
	uint64_t at = ins_at(ins, REGION_POOLS, (uint64_t)pool * sizeof(struct reg_pool));
	uint64_t used = ins_u64(ins, at + offsetof(struct reg_pool, lows_used));

	for (uint32_t row = 0; row < REG_LOWS; row++)
		for (uint32_t home = 0; home < REG_HOMES; home++) {
			uint32_t low = ins_u32(ins, at + offsetof(struct reg_pool, low) +
							    (row * REG_HOMES + home) * 4);

			if (low >> 16)
				look_low(ins, pool, row, home, low);
			if (low && !(used >> row & 1)) /* a release would not lower it */
				ins_found(ins, REG_FINDING_LOW,
					  (struct ins_found){.subject = INS_CELL,
							     .sub = CELLS_POOLS,
							     .a = pool,
							     .b = row * REG_HOMES + home,
							     .w = {low, used}});
		}
}

/* ---- rows ---- */

/* The key of a row as its texts say; false: one of them is empty or has no end. */
static bool key_of(const struct reg_inspect *ins, enum reg_cells_kind kind, uint32_t idx,
		   char texts[512], struct reg_key *ret)
{
	uint64_t off;

	if (kind == CELLS_IMAGES) {
		ins_copy(ins, ins_at(ins, REGION_IMAGES, (uint64_t)idx * sizeof(struct reg_image)),
			 texts, 512);
		*ret = (struct reg_key){0};
		if (!ins_text_ok(texts, 512, false))
			return false;
		*ret = reg__key_text(texts, NULL);
		return true;
	}
	off = kind == CELLS_AGENTS
		      ? agent_field(ins, idx, offsetof(struct reg_agent, ns))
		      : ins_at(ins, REGION_POOLS, (uint64_t)idx * sizeof(struct reg_pool)) +
				offsetof(struct reg_pool, ns);
	ins_copy(ins, off, texts, 64 + 256); /* the name behind the namespace */
	if (!ins_text_ok(texts, 64, false) || !ins_text_ok(texts + 64, 256, false))
		return false;
	*ret = reg__key_text(texts, texts + 64);
	return true;
}

/* The entry of the retire list that a RETIRING or RETIRED cell names names it. */
static void look_retired(struct reg_inspect *ins, enum reg_cells_kind kind, uint32_t idx,
			 uint64_t w)
{
	uint64_t what =
		word_record(w) < REG_RETIRE_MAX
			? ins_u64(ins, ins_at(ins, REGION_RETIRE,
					      (uint64_t)word_record(w) * sizeof(struct reg_retire)))
			: 0;

	if (retire_kind(what) != (unsigned int)kind || retire_idx(what) != idx ||
	    retire_gen(what) != word_gen(w))
		cell(ins, REG_FINDING_ROW_RETIRED, kind, idx, w, what);
}

/* NEW, RETIRING and HELD are in somebody's hands, LIVE and RETIRED in nobody's. False: it goes. */
static bool look_row_word(struct reg_inspect *ins, enum reg_cells_kind kind, uint32_t idx,
			  uint64_t w)
{
	enum ins_owner owner = ins_owner(ins, word_owner(w));
	bool owned = word_state(w) == ROW_NEW || word_state(w) == ROW_RETIRING ||
		     word_state(w) == ROW_HELD;

	if (owner == OWNER_UNKNOWN || owned == (owner == OWNER_NOBODY))
		cell(ins, REG_FINDING_ROW_OWNER, kind, idx, w, word_owner(w));
	else if (owner == OWNER_DEAD)
		cell(ins, REG_FINDING_OWNER_DEAD, kind, idx, w, word_owner(w));
	/* of a dead one its reaper may have freed the entry before it comes to the cell */
	if (word_state(w) == ROW_RETIRED || (word_state(w) == ROW_RETIRING && owner == OWNER_ALIVE))
		look_retired(ins, kind, idx, w);
	return row_state_found(word_state(w));
}

static void look_row(struct reg_inspect *ins, enum reg_cells_kind kind, uint32_t idx)
{
	static const enum reg_index_kind index_of[CELLS_MAX] = {
		[CELLS_AGENTS] = INDEX_AGENTS,
		[CELLS_POOLS] = INDEX_POOLS,
		[CELLS_IMAGES] = INDEX_IMAGES,
	};
	uint64_t w = ins_cell(ins, kind, idx);
	char texts[512];
	struct reg_key key;

	ins->sum->pools += kind == CELLS_POOLS && row_state_used(word_state(w));
	ins->sum->images += kind == CELLS_IMAGES && row_state_used(word_state(w));
	if (!look_row_word(ins, kind, idx, w))
		return;
	if (!key_of(ins, kind, idx, texts, &key))
		cell(ins, REG_FINDING_ROW_TEXT, kind, idx, w, 0);
	else if (!ins_search(ins, index_of[kind], &key, idx, word_gen(w)).own)
		cell(ins, REG_FINDING_ROW_ENTRY, kind, idx, w, key.hash);
	if (kind != CELLS_AGENTS)
		look_bits(ins, kind, idx);
	if (kind == CELLS_POOLS) {
		look_lows(ins, idx);
		look_gang(ins, idx);
	}
}

/* ---- what an agent's row names ---- */

static void look_agent_pool(struct reg_inspect *ins, uint32_t idx)
{
	uint64_t hot = ins_u64(ins, agent_field(ins, idx, offsetof(struct reg_agent, hot)));
	uint32_t pool = ins_u32(ins, agent_field(ins, idx, offsetof(struct reg_agent, pool)));

	if (hot_flags(hot) & HOT_REMOVED)
		return;
	if (!row_state_used(word_state(ins_cell(ins, CELLS_POOLS, pool))))
		cell(ins, REG_FINDING_AGENT_POOL, CELLS_AGENTS, idx, pool, hot);
	else if (!(ins_members(ins, REGION_POOL_BITS, pool, idx / 64) >> (idx % 64) & 1))
		cell(ins, REG_FINDING_POOL_BIT, CELLS_AGENTS, idx, pool, 0);
}

/* Named, and in use for that agent. */
static void look_agent_cold(struct reg_inspect *ins, uint32_t idx)
{
	uint32_t named = ins_u32(ins, agent_field(ins, idx, offsetof(struct reg_agent, cold)));
	uint64_t w = named ? ins_cell(ins, CELLS_COLD, named - 1) : 0;

	if (!named ||
	    ((word_state(w) == ROW_NEW || word_state(w) == ROW_LIVE) && word_record(w) == idx))
		return;
	/* read in one moment and named in another: once more */
	if (ins_u32(ins, agent_field(ins, idx, offsetof(struct reg_agent, cold))) == named)
		cell(ins, REG_FINDING_AGENT_COLD, CELLS_AGENTS, idx, named, w);
}

/* Place i of the agent's list; 0: none. */
static uint32_t listed(const struct reg_inspect *ins, uint32_t agent, uint32_t i)
{
	return i < REG_IMAGES_INLINE
		       ? ins_u32(ins,
				 agent_field(ins, agent,
					     offsetof(struct reg_agent, image) + (uint64_t)i * 4))
		       : ins_u32(ins, ins_at(ins, REGION_AGENT_IMAGES,
					     ((uint64_t)agent * REG_AGENT_IMAGES_MAX + i) * 4));
}

/* The list is as long as the truth at least: an image that is not on it can't be dropped. */
static void look_agent_images(struct reg_inspect *ins, uint32_t idx)
{
	uint32_t n = ins_u32(ins, agent_field(ins, idx, offsetof(struct reg_agent, images)));
	uint32_t have = 0;

	if (n > REG_AGENT_IMAGES_MAX)
		cell(ins, REG_FINDING_AGENT_IMAGES, CELLS_AGENTS, idx, n, REG_AGENT_IMAGES_MAX);
	for (uint32_t i = 0; i < n && i < REG_AGENT_IMAGES_MAX; i++) {
		uint32_t image = listed(ins, idx, i) - 1;

		have += image < ins->geo.max[CELLS_IMAGES] &&
			ins_members(ins, REGION_IMAGE_BITS, image, idx / 64) >> (idx % 64) & 1;
	}
	if (have < ins->images_of[idx])
		cell(ins, REG_FINDING_IMAGE_UNLISTED, CELLS_AGENTS, idx, ins->images_of[idx], have);
}

static void look_agent_row(struct reg_inspect *ins, uint32_t idx)
{
	uint64_t w = ins_cell(ins, CELLS_AGENTS, idx);

	if (!row_state_found(word_state(w)))
		return;
	if (ins_u32(ins, agent_field(ins, idx, offsetof(struct reg_agent, incarnation))))
		look_agent_pool(ins, idx);
	look_agent_cold(ins, idx);
	look_agent_images(ins, idx);
}

/* ---- cold records, the retire list ---- */

static void look_cold(struct reg_inspect *ins, uint32_t idx)
{
	uint64_t w = ins_cell(ins, CELLS_COLD, idx);
	uint32_t agent = word_record(w);

	if (!word_state(w))
		return;
	(void)look_row_word(ins, CELLS_COLD, idx, w);
	if (word_state(w) == ROW_RETIRED)
		return;
	if (agent >= ins->geo.max[CELLS_AGENTS] ||
	    ins_u32(ins, agent_field(ins, agent, offsetof(struct reg_agent, cold))) != idx + 1)
		cell(ins, REG_FINDING_COLD_UNUSED, CELLS_COLD, idx, w, agent);
}

static void look_retire(struct reg_inspect *ins, uint32_t entry)
{
	uint64_t at = ins_at(ins, REGION_RETIRE, (uint64_t)entry * sizeof(struct reg_retire));
	uint64_t what = ins_u64(ins, at);
	uint64_t number = ins_u64(ins, at + offsetof(struct reg_retire, number));
	uint64_t asked = ins_u64(ins, offsetof(struct reg_header, gp_requested)), w;
	struct ins_found f = {.subject = INS_RETIRE, .a = entry, .w = {what, number}};
	unsigned int kind = retire_kind(what);
	enum ins_owner owner;

	if (!what)
		return;
	if (kind < CELLS_AGENTS || kind > CELLS_COLD || retire_idx(what) >= ins->geo.max[kind] ||
	    number > asked) {
		ins_found(ins, REG_FINDING_RETIRE, f);
		return;
	}
	owner = ins_owner(ins, retire_owner(what));
	if (owner == OWNER_UNKNOWN)
		ins_found(ins, REG_FINDING_RETIRE, f);
	else if (owner == OWNER_DEAD)
		ins_found(ins, REG_FINDING_OWNER_DEAD, f);
	if (owner != OWNER_NOBODY)
		return;
	/* nobody's: it waits for its grace period, and so does what it names */
	w = ins_cell(ins, (enum reg_cells_kind)kind, retire_idx(what));
	f.w[1] = w;
	if (word_state(w) != ROW_RETIRED || word_gen(w) != retire_gen(what) ||
	    word_record(w) != entry)
		ins_found(ins, REG_FINDING_RETIRE, f);
}
_Static_assert(CELLS_COLD == CELLS_AGENTS + 3, "agents, pools, images, cold records are retired");

void ins_look_rows(struct reg_inspect *ins)
{
	static const enum reg_cells_kind kinds[] = {CELLS_AGENTS, CELLS_POOLS, CELLS_IMAGES};

	for (unsigned int k = 0; k < 3; k++)
		for (uint32_t i = 0; i < ins->high[kinds[k]]; i++)
			if (word_state(ins_cell(ins, kinds[k], i)))
				look_row(ins, kinds[k], i);
	for (uint32_t i = 0; i < ins->high[CELLS_AGENTS]; i++)
		look_agent_row(ins, i);
	for (uint32_t i = 0; i < ins->high[CELLS_COLD]; i++)
		look_cold(ins, i);
	for (uint32_t i = 0; i < REG_RETIRE_MAX; i++)
		look_retire(ins, i);
}
