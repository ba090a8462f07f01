/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inspector's look at agents' slots: chunks, slot words and the records that they are held for,
 * masks, hints, limits.
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
		f.w[1] = cell == REG_NIL ? 0 : ins_cell(ins, CELLS_CHUNKS, cell);
		if (!row_state_used(word_state(f.w[1])) || word_record(f.w[1]) != agent) {
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

int16_t ins_hint(const struct reg_inspect *ins, uint32_t idx)
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

/* How many of the lowest slots may be taken, as agents.c finds it. */
static uint32_t limit_of(const struct reg_inspect *ins, uint32_t idx, uint32_t capacity)
{
	uint32_t u = 0, beyond = 0;
	uint64_t at;

	while (u < REG_SLOTS_PER_AGENT_MAX && ins_slot_at(ins, idx, u, &at))
		u++;
	u = u > capacity ? u : capacity;
	while (u && u + beyond > capacity)
		beyond += ins_slot_at(ins, idx, --u, &at) &&
			  word_state(ins_u64(ins, at)) != SLOT_FREE;
	return u;
}

static void look_limit(struct reg_inspect *ins, uint32_t idx)
{
	uint32_t want = 0;
	uint64_t hot = 0;

	for (int tries = 0; tries < 3; tries++) {
		hot = ins_u64(ins, agent_at(ins, idx) + offsetof(struct reg_agent, hot));
		want = limit_of(ins, idx, hot_capacity(hot));
		if (want == hot_slots(hot))
			return;
	}
	agent(ins, REG_FINDING_LIMIT, idx, hot, want);
}

/* What an agent's row says about its slots. */
static void look_agent(struct reg_inspect *ins, uint32_t idx, uint64_t w)
{
	uint64_t hot = ins_u64(ins, agent_at(ins, idx) + offsetof(struct reg_agent, hot));
	uint32_t load, chunks = look_chunks(ins, idx, &load);

	if (!row_state_used(word_state(w)))
		return; /* free or retired: it keeps its chunks, and nothing else counts */
	ins->sum->agents++;
	if (hot_gen(hot) != word_gen(w) && word_state(w) != ROW_NEW)
		agent(ins, REG_FINDING_AGENT_GENERATION, idx, hot, w);
	if (hot_slots(hot) > hot_capacity(hot) || hot_capacity(hot) > chunks * REG_CHUNK_SLOTS)
		agent(ins, REG_FINDING_AGENT_SLOTS, idx, hot, chunks);
	else
		look_limit(ins, idx);
	look_hint(ins, idx);
}

void ins_look_agents(struct reg_inspect *ins)
{
	uint32_t high = ins->high[CELLS_AGENTS], chunks = ins->high[CELLS_CHUNKS];

	for (uint32_t i = 0; i < high; i++)
		look_agent(ins, i, ins_cell(ins, CELLS_AGENTS, i));
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
