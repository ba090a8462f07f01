/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inspector's look at agents and their slots, and at pools and images: rows, chunks of slots,
 * slot words and the records that they are held for, masks, hints, bitmaps.
 */
#include "inspect.h"

static uint64_t agent_at(const struct reg_inspect *ins, uint32_t agent)
{
	return ins_at(ins, REGION_AGENTS, (uint64_t)agent * sizeof(struct reg_agent));
}

/* Cell index of the agent's chunk; REG_NIL: none. */
static uint32_t chunk_cell(const struct reg_inspect *ins, uint32_t agent, uint32_t chunk)
{
	uint32_t c = ins_u32(ins, agent_at(ins, agent) + offsetof(struct reg_agent, chunk) +
					  (uint64_t)chunk * 4);

	return c && c <= ins->geo.max[CELLS_CHUNKS] ? c - 1 : REG_NIL;
}

bool ins_slot_at(const struct reg_inspect *ins, uint32_t agent, uint32_t slot, uint64_t *ret_off)
{
	uint32_t c = agent < ins->geo.max[CELLS_AGENTS] && slot < REG_SLOTS_PER_AGENT_MAX
			     ? chunk_cell(ins, agent, slot / REG_CHUNK_SLOTS)
			     : REG_NIL;

	if (c == REG_NIL)
		return false;
	*ret_off = ins_at(ins, REGION_CHUNK_SLOTS,
			  ((uint64_t)c * REG_CHUNK_SLOTS + slot % REG_CHUNK_SLOTS) * 8);
	return true;
}

/* ---- slots ---- */

static void look_slot(struct reg_inspect *ins, uint32_t agent, uint32_t slot, uint64_t w)
{
	struct ins_found f = {.subject = INS_SLOT, .a = agent, .b = slot, .w = {w, 0}};
	enum ins_owner owner = ins_owner(ins, word_owner(w));
	uint32_t record = word_record(w);
	uint64_t rw = ins_cell(ins, CELLS_RECORDS, record), place;

	ins->sum->slots_held++;
	if (owner == OWNER_UNKNOWN ||
	    (word_state(w) == SLOT_BUSY ? owner != OWNER_NOBODY : owner == OWNER_NOBODY))
		ins_found(ins, REG_FINDING_SLOT_OWNER, f);
	if (owner == OWNER_DEAD)
		ins_found(ins, REG_FINDING_OWNER_DEAD, f);
	place = record < ins->geo.max[CELLS_RECORDS]
			? ins_u64(ins, ins_at(ins, REGION_RECORDS,
					      (uint64_t)record * sizeof(struct reg_rec) +
						      offsetof(struct reg_rec, place)))
			: 0;
	/* reserved and not placed yet: the record is in the same hands, or its owner is dead */
	if (word_state(w) == SLOT_RESERVED &&
	    (owner == OWNER_DEAD || (word_state(rw) && word_owner(rw) == word_owner(w))))
		return;
	f.w[1] = place;
	if (!word_state(rw) || place != place_make(agent, slot, word_gen(w)))
		ins_found(ins, REG_FINDING_SLOT_RECORD, f);
}

/* Mask and words of one chunk; looked at again at once when they differ, since every claim and
 * release passes through that. */
static uint32_t look_mask(struct reg_inspect *ins, uint32_t agent, uint32_t chunk, uint32_t cell)
{
	uint64_t mask = 0, held = 0;

	for (int tries = 0; tries < 3; tries++) {
		held = 0;
		mask = ins_u64(ins, ins_at(ins, REGION_CHUNK_MASKS, (uint64_t)cell * 8));
		for (uint32_t s = 0; s < REG_CHUNK_SLOTS; s++) {
			uint64_t at = ins_at(ins, REGION_CHUNK_SLOTS,
					     ((uint64_t)cell * REG_CHUNK_SLOTS + s) * 8);

			held |= (uint64_t)(word_state(ins_u64(ins, at)) != SLOT_FREE) << s;
		}
		if (mask == held)
			break;
	}
	if (mask != held)
		ins_found(ins, REG_FINDING_MASK,
			  (struct ins_found){.subject = INS_CHUNK_OF,
					     .a = agent,
					     .b = chunk,
					     .w = {mask, held}});
	return (uint32_t)__builtin_popcountll(mask);
}

/* *ret_load: by the masks. Returns how many chunks the agent has. */
static uint32_t look_chunks(struct reg_inspect *ins, uint32_t agent, uint32_t *ret_load)
{
	uint32_t n = 0;

	*ret_load = 0;
	for (uint32_t i = 0; i < REG_AGENT_CHUNKS; i++) {
		uint64_t at =
			agent_at(ins, agent) + offsetof(struct reg_agent, chunk) + (uint64_t)i * 4;
		uint32_t raw = ins_u32(ins, at), cell = chunk_cell(ins, agent, i);
		struct ins_found f = {.subject = INS_CHUNK_OF, .a = agent, .b = i, .w = {raw, 0}};

		if (!raw)
			continue;
		n = i + 1;
		if (cell == REG_NIL || !word_state(ins_cell(ins, CELLS_CHUNKS, cell))) {
			ins_found(ins, REG_FINDING_CHUNK, f);
			continue;
		}
		if (ins->chunk_of[cell]) {
			f.w[1] = ins->chunk_of[cell];
			ins_found(ins, REG_FINDING_CHUNK_TWICE, f);
			continue;
		}
		ins->chunk_of[cell] = agent + 1;
		*ret_load += look_mask(ins, agent, i, cell);
		for (uint32_t s = 0; s < REG_CHUNK_SLOTS; s++) {
			uint64_t w =
				ins_u64(ins, ins_at(ins, REGION_CHUNK_SLOTS,
						    ((uint64_t)cell * REG_CHUNK_SLOTS + s) * 8));

			if (word_state(w) > SLOT_BUSY ||
			    (!word_state(w) && w & ~BITS_PUT(GEN_MASK, CELL_GEN_SHIFT, GEN_WIDTH)))
				ins_found(ins, REG_FINDING_CELL_WORD,
					  (struct ins_found){.subject = INS_SLOT,
							     .a = agent,
							     .b = i * REG_CHUNK_SLOTS + s,
							     .w = {w, 0}});
			else if (word_state(w))
				look_slot(ins, agent, i * REG_CHUNK_SLOTS + s, w);
		}
	}
	return n;
}

/* ---- agents ---- */

static void agent(struct reg_inspect *ins, enum reg_finding_kind kind, uint32_t idx, uint64_t a,
		  uint64_t b)
{
	ins_found(ins, kind,
		  (struct ins_found){
			  .subject = INS_CELL, .sub = CELLS_AGENTS, .a = idx, .w = {a, b}});
}

static uint32_t load_now(const struct reg_inspect *ins, uint32_t idx)
{
	uint32_t load = 0;

	for (uint32_t i = 0; i < REG_AGENT_CHUNKS; i++) {
		uint32_t cell = chunk_cell(ins, idx, i);

		if (cell == REG_NIL)
			break;
		load += (uint32_t)__builtin_popcountll(
			ins_u64(ins, ins_at(ins, REGION_CHUNK_MASKS, (uint64_t)cell * 8)));
	}
	return load;
}

static int16_t ins_hint(const struct reg_inspect *ins, uint32_t idx)
{
	uint64_t at = ins_at(ins, REGION_HINTS, (uint64_t)idx * sizeof(a16));

	return (int16_t)(ins_u64(ins, at & ~UINT64_C(7)) >> (at % 8 * 8));
}

static void look_hint(struct reg_inspect *ins, uint32_t idx)
{
	int16_t hint = 0, want = 0;

	for (int tries = 0; tries < 3; tries++) {
		uint64_t hot = ins_u64(ins, agent_at(ins, idx) + offsetof(struct reg_agent, hot));
		uint32_t load = load_now(ins, idx);

		want = !hot_ready(hot) || load >= hot_capacity(hot) ? REG_HINT_FULL : (int16_t)load;
		hint = ins_hint(ins, idx);
		if (hint == want)
			return;
	}
	agent(ins, REG_FINDING_HINT, idx, (uint16_t)hint, (uint16_t)want);
}

static bool in_pool(const struct reg_inspect *ins, uint32_t pool, uint32_t idx)
{
	return pool < ins->geo.max[CELLS_POOLS] &&
	       ins_members(ins, REGION_POOL_BITS, pool, idx / 64) >> (idx % 64) & 1;
}

static void look_agent(struct reg_inspect *ins, uint32_t idx)
{
	static const char zeros[8];
	struct reg_agent row;
	uint32_t load, chunks, pool, incarnation;
	uint64_t hot;
	struct reg_key key;

	ins_copy(ins, agent_at(ins, idx), &row, sizeof(row));
	hot = atomic_load_explicit(&row.hot, memory_order_relaxed); /* relaxed, all: a copy */
	pool = atomic_load_explicit(&row.pool, memory_order_relaxed);
	incarnation = atomic_load_explicit(&row.incarnation, memory_order_relaxed);
	ins->sum->agents++;
	chunks = look_chunks(ins, idx, &load);
	if (word_state(ins_cell(ins, CELLS_AGENTS, idx)) == ROW_RETIRED)
		return; /* found by nobody, and perhaps poisoned already */
	if (!ins_text_ok(row.ns, sizeof(row.ns), false) ||
	    !ins_text_ok(row.name, sizeof(row.name), false)) {
		agent(ins, incarnation ? REG_FINDING_ROW_TEXT : REG_FINDING_ROW_UNUSED, idx,
		      (uint8_t)row.ns[0], (uint8_t)row.name[0]);
	} else {
		key = reg__key_text(row.ns, row.name);
		if (!ins_search(ins, INDEX_AGENTS, &key, idx,
				word_gen(ins_cell(ins, CELLS_AGENTS, idx)))
			     .own)
			agent(ins, incarnation ? REG_FINDING_ROW_ENTRY : REG_FINDING_ROW_UNUSED,
			      idx, key.hash, memcmp(row.name, zeros, sizeof(zeros)) != 0);
	}
	if (hot_slots(hot) > chunks * REG_CHUNK_SLOTS)
		agent(ins, REG_FINDING_AGENT_SLOTS, idx, hot, chunks);
	look_hint(ins, idx);
	if (!incarnation)
		return;
	if (!word_state(ins_cell(ins, CELLS_POOLS, pool)))
		agent(ins, REG_FINDING_AGENT_POOL, idx, pool, ins->geo.max[CELLS_POOLS]);
	else if (!(hot_flags(hot) & HOT_REMOVED) && !in_pool(ins, pool, idx))
		agent(ins, REG_FINDING_POOL_BIT, idx, pool, 0);
}

void ins_look_agents(struct reg_inspect *ins)
{
	uint32_t high = ins->high[CELLS_AGENTS], chunks = ins->high[CELLS_CHUNKS], load;

	for (uint32_t i = 0; i < high; i++)
		if (word_state(ins_cell(ins, CELLS_AGENTS, i)))
			look_agent(ins, i);
		else /* a free row keeps its chunks */
			(void)look_chunks(ins, i, &load);
	for (uint32_t c = 0; c < chunks; c++) {
		uint64_t w = ins_cell(ins, CELLS_CHUNKS, c);

		if (word_state(w) && !ins->chunk_of[c])
			ins_found(ins, REG_FINDING_CHUNK_UNUSED,
				  (struct ins_found){.subject = INS_CELL,
						     .sub = CELLS_CHUNKS,
						     .a = c,
						     .w = {w, 0}});
	}
}

/* ---- pools and images ---- */

/* A search looks only at stripes that are marked; a mark too many costs a look. */
static void look_stripe(struct reg_inspect *ins, enum reg_cells_kind kind, uint32_t idx,
			uint32_t stripe, uint64_t members)
{
	enum reg_region region = kind == CELLS_POOLS ? REGION_POOL_BITS : REGION_IMAGE_BITS;
	bool marked = ins_stripes(ins, region, idx, stripe / 64) >> (stripe % 64) & 1;

	if (marked != (members != 0))
		ins_found(ins, members ? REG_FINDING_MEMBER_HIDDEN : REG_FINDING_STRIPE,
			  (struct ins_found){.subject = INS_CELL,
					     .sub = (uint8_t)kind,
					     .a = idx,
					     .b = stripe,
					     .w = {members, stripe}});
}

/* Bits of agents that are not there, or (pools) that are in another pool. How many are set. */
static uint32_t look_bits(struct reg_inspect *ins, enum reg_cells_kind kind, uint32_t idx)
{
	enum reg_region region = kind == CELLS_POOLS ? REGION_POOL_BITS : REGION_IMAGE_BITS;
	uint32_t n = 0;

	for (uint32_t i = 0; i < ins->geo.agent_words; i++) {
		uint64_t bits = ins_members(ins, region, idx, i);
		uint64_t wrong = 0;

		n += (uint32_t)__builtin_popcountll(bits);
		look_stripe(ins, kind, idx, i, bits);
		for (uint64_t left = bits; left; left &= left - 1) {
			uint32_t a = i * 64 + (uint32_t)__builtin_ctzll(left);

			if (!word_state(ins_cell(ins, CELLS_AGENTS, a)) ||
			    (kind == CELLS_POOLS &&
			     ins_u32(ins, agent_at(ins, a) + offsetof(struct reg_agent, pool)) !=
				     idx))
				wrong |= left & -left;
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
	return n;
}

static void look_row(struct reg_inspect *ins, enum reg_cells_kind kind, uint32_t idx)
{
	struct ins_found f = {.subject = INS_CELL,
			      .sub = (uint8_t)kind,
			      .a = idx,
			      .w = {ins_cell(ins, kind, idx), 0}};
	union {
		struct reg_pool pool;
		struct reg_image image;
	} row;
	struct reg_key key;
	bool used = look_bits(ins, kind, idx) != 0, text;

	if (word_state(f.w[0]) == ROW_RETIRED)
		return; /* found by nobody, and perhaps poisoned already */

	if (kind == CELLS_POOLS) {
		ins->sum->pools++;
		ins_copy(ins, ins_at(ins, REGION_POOLS, (uint64_t)idx * sizeof(row.pool)),
			 &row.pool, sizeof(row.pool));
		text = ins_text_ok(row.pool.ns, sizeof(row.pool.ns), false) &&
		       ins_text_ok(row.pool.name, sizeof(row.pool.name), false);
	} else {
		ins->sum->images++;
		ins_copy(ins, ins_at(ins, REGION_IMAGES, (uint64_t)idx * sizeof(row.image)),
			 &row.image, sizeof(row.image));
		text = ins_text_ok(row.image.ref, sizeof(row.image.ref), false);
	}
	if (!text) {
		ins_found(ins, used ? REG_FINDING_ROW_TEXT : REG_FINDING_ROW_UNUSED, f);
		return;
	}
	key = kind == CELLS_POOLS ? reg__key_text(row.pool.ns, row.pool.name)
				  : reg__key_text(row.image.ref, NULL);
	if (!ins_search(ins, kind == CELLS_POOLS ? INDEX_POOLS : INDEX_IMAGES, &key, idx,
			word_gen(f.w[0]))
		     .own) {
		f.w[1] = key.hash;
		ins_found(ins, used ? REG_FINDING_ROW_ENTRY : REG_FINDING_ROW_UNUSED, f);
	}
}

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

void ins_look_rows(struct reg_inspect *ins)
{
	static const enum reg_cells_kind kinds[] = {CELLS_POOLS, CELLS_IMAGES};

	for (unsigned int k = 0; k < 2; k++)
		for (uint32_t i = 0; i < ins->high[kinds[k]]; i++)
			if (word_state(ins_cell(ins, kinds[k], i))) {
				look_row(ins, kinds[k], i);
				if (kinds[k] == CELLS_POOLS)
					look_lows(ins, i);
			}
}
