/* SPDX-License-Identifier: Apache-2.0 */
/* What the inspector shows: copies of the header, participants, pools, agents and sandboxes, texts
 * always ended. */
#include "inspect.h"

#include <sys/stat.h>

/* A text of the arena into a buffer of the same size, whatever it holds. */
static void text_out(char *dst, size_t size, const void *src)
{
	memcpy(dst, src, size);
	dst[size - 1] = 0;
}

void reg_inspect_header(struct reg_inspect *ins, struct reg_inspect_header *ret)
{
	const struct reg_header *h = &ins->hdr;
	struct stat sb;

	(void)ins_refresh(ins);
	*ret = (struct reg_inspect_header){
		.verdict = ins->verdict,
		.magic = h->magic,
		.version = h->version,
		.stamp = h->stamp,
		.total_bytes = h->total_bytes,
		.file_bytes = ins->file_bytes,
		.allocated_bytes = fstat(ins->fd, &sb) ? 0 : (uint64_t)sb.st_blocks * 512,
		.created_unix_ns = h->created_unix_ns,
		.limits = {.agents = h->max_agents,
			   .sandboxes = h->max_sandboxes,
			   .pools = h->max_pools,
			   .images = h->max_images,
			   .slots_per_agent_unlimited = h->slots_unlimited},
		/* relaxed, all: a private copy */
		.epoch = atomic_load_explicit(&h->epoch, memory_order_relaxed),
		.store_loaded = atomic_load_explicit(&h->store_loaded, memory_order_relaxed),
		.owned = ins->owned,
		.participants_high = atomic_load_explicit(&h->parts_high, memory_order_relaxed),
	};
	_Static_assert(sizeof(ret->instance) == sizeof(h->instance), "the whole text");
	text_out(ret->instance, sizeof(ret->instance), h->instance);
}

static const char *const region_names[REGION_MAX] = {
	[REGION_HEADER] = "header",
	[REGION_ENSURED] = "ensured",
	[REGION_PARTS] = "participants",
	[REGION_CELL_BITS + CELLS_RECORDS] = "record bits",
	[REGION_CELL_BITS + CELLS_CHUNKS] = "chunk bits",
	[REGION_CELL_BITS + CELLS_AGENTS] = "agent bits",
	[REGION_CELL_BITS + CELLS_POOLS] = "pool bits",
	[REGION_CELL_BITS + CELLS_IMAGES] = "image bits",
	[REGION_CELL_BITS + CELLS_COLD] = "cold bits",
	[REGION_CELL_BITS + CELLS_BLOB0] = "blob 0 bits",
	[REGION_CELL_BITS + CELLS_BLOB1] = "blob 1 bits",
	[REGION_CELL_BITS + CELLS_BLOB2] = "blob 2 bits",
	[REGION_CELL_BITS + CELLS_BLOB3] = "blob 3 bits",
	[REGION_CELL_WORDS + CELLS_RECORDS] = "record words",
	[REGION_CELL_WORDS + CELLS_CHUNKS] = "chunk words",
	[REGION_CELL_WORDS + CELLS_AGENTS] = "agent words",
	[REGION_CELL_WORDS + CELLS_POOLS] = "pool words",
	[REGION_CELL_WORDS + CELLS_IMAGES] = "image words",
	[REGION_CELL_WORDS + CELLS_COLD] = "cold words",
	[REGION_CELL_WORDS + CELLS_BLOB0] = "blob 0 words",
	[REGION_CELL_WORDS + CELLS_BLOB1] = "blob 1 words",
	[REGION_CELL_WORDS + CELLS_BLOB2] = "blob 2 words",
	[REGION_CELL_WORDS + CELLS_BLOB3] = "blob 3 words",
	[REGION_INDEX + INDEX_NAMES] = "index names",
	[REGION_INDEX + INDEX_REQUESTS] = "index requests",
	[REGION_INDEX + INDEX_PORTS] = "index ports",
	[REGION_INDEX + INDEX_AGENTS] = "index agents",
	[REGION_INDEX + INDEX_POOLS] = "index pools",
	[REGION_INDEX + INDEX_IMAGES] = "index images",
	[REGION_HINTS] = "hints",
	[REGION_CHUNK_MASKS] = "chunk masks",
	[REGION_CHUNK_SLOTS] = "chunk slots",
	[REGION_AGENTS] = "agents",
	[REGION_COLD] = "cold records",
	[REGION_AGENT_IMAGES] = "agents' images",
	[REGION_RETIRE] = "retire list",
	[REGION_POOLS] = "pools",
	[REGION_POOL_BITS] = "pool members",
	[REGION_IMAGES] = "images",
	[REGION_IMAGE_BITS] = "image holders",
	[REGION_PORT_BITS] = "port users",
	[REGION_DIRTY] = "dirty",
	[REGION_URGENT] = "urgent",
	[REGION_RECORDS] = "records",
	[REGION_BLOB] = "blobs 0",
	[REGION_BLOB + 1] = "blobs 1",
	[REGION_BLOB + 2] = "blobs 2",
	[REGION_BLOB + 3] = "blobs 3",
};

bool reg_inspect_region_next(struct reg_inspect *ins, uint32_t *cursor,
			     struct reg_inspect_region *ret)
{
	if (ins->verdict || *cursor >= REGION_MAX)
		return false;
	const struct reg_span *s = &ins->geo.span[*cursor];

	*ret = (struct reg_inspect_region){
		.name = region_names[*cursor], .off = s->off, .size = s->size};
	for (uint64_t off = s->off; off < s->off + s->size; off += 1 << INS_PAGE_SHIFT)
		ret->used += (uint64_t)ins_there(ins, off) << INS_PAGE_SHIFT;
	(*cursor)++;
	return true;
}

static uint64_t since_join(const struct reg_part *part, enum reg_counter counter)
{
	/* relaxed: a private copy */
	return atomic_load_explicit(&part->count[counter], memory_order_relaxed) -
	       atomic_load_explicit(&part->count_at_join[counter], memory_order_relaxed);
}

static void part_out(const struct reg_part *p, struct reg_inspect_part *ret)
{
	/* relaxed, all: a private copy */
	ret->releasing = atomic_load_explicit(&p->releasing, memory_order_relaxed) - 1;
	ret->changing = atomic_load_explicit(&p->changing, memory_order_relaxed) - 1;
	ret->pid = (int32_t)atomic_load_explicit(&p->pid, memory_order_relaxed);
	ret->reserved = since_join(p, REG_COUNT_RESERVED);
	ret->committed = since_join(p, REG_COUNT_COMMITTED);
	ret->aborted = since_join(p, REG_COUNT_ABORTED);
	for (unsigned int i = 0; i < REG_STATUS_MAX; i++)
		ret->refused += atomic_load_explicit(&p->refused[i], memory_order_relaxed);
	ret->refused -= atomic_load_explicit(&p->refused_at_join, memory_order_relaxed);
}

bool reg_inspect_part_next(struct reg_inspect *ins, uint32_t *cursor, struct reg_inspect_part *ret)
{
	struct reg_part p;

	while (!ins->verdict && *cursor < REG_PARTICIPANTS_MAX) {
		uint32_t i = (*cursor)++;
		uint64_t off = ins_at(ins, REGION_PARTS, (uint64_t)i * sizeof(p));
		uint64_t w = ins_u64(ins, off);

		if (!w)
			continue;
		ins_copy(ins, off, &p, offsetof(struct reg_part, hist));
		*ret = (struct reg_inspect_part){
			.idx = i,
			.incarnation = (uint32_t)BITS_GET(w, 32, 32),
			.state = (unsigned int)BITS_GET(w, 0, 8),
			.kind = (unsigned int)BITS_GET(w, 8, 8),
			.alive = ins->alive[i],
		};
		part_out(&p, ret);
		return true;
	}
	return false;
}

static uint32_t bits_of(const struct reg_inspect *ins, uint32_t pool)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < ins->geo.agent_words; i++)
		n += (uint32_t)__builtin_popcountll(ins_members(ins, REGION_POOL_BITS, pool, i));
	return n;
}

bool reg_inspect_pool_next(struct reg_inspect *ins, uint32_t *cursor, struct reg_inspect_pool *ret)
{
	struct reg_pool row;

	while (!ins->verdict && *cursor < ins->geo.max[CELLS_POOLS]) {
		uint32_t i = (*cursor)++;

		if (!word_state(ins_cell(ins, CELLS_POOLS, i)))
			continue;
		ins_copy(ins, ins_at(ins, REGION_POOLS, (uint64_t)i * sizeof(row)), &row,
			 sizeof(row));
		*ret = (struct reg_inspect_pool){
			.idx = i,
			.agents = bits_of(ins, i),
			/* relaxed, both: a private copy */
			.full = atomic_load_explicit(&row.full, memory_order_relaxed),
			.unmet = atomic_load_explicit(&row.unmet, memory_order_relaxed),
		};
		text_out(ret->ns, sizeof(ret->ns), row.ns);
		text_out(ret->name, sizeof(ret->name), row.name);
		return true;
	}
	return false;
}

static void pool_name(const struct reg_inspect *ins, uint32_t pool, char *dst, size_t size)
{
	char name[sizeof(((struct reg_pool *)0)->name)] = "";

	if (word_state(ins_cell(ins, CELLS_POOLS, pool)))
		ins_copy(ins,
			 ins_at(ins, REGION_POOLS, (uint64_t)pool * sizeof(struct reg_pool)) +
				 offsetof(struct reg_pool, name),
			 name, sizeof(name));
	text_out(dst, size, name);
}

static void agent_out(const struct reg_inspect *ins, uint32_t idx, struct reg_inspect_agent *ret)
{
	struct reg_agent row;
	uint64_t hint = ins_at(ins, REGION_HINTS, (uint64_t)idx * sizeof(a16)), at;

	ins_copy(ins, ins_at(ins, REGION_AGENTS, (uint64_t)idx * sizeof(row)), &row, sizeof(row));
	/* relaxed, all: a private copy */
	uint64_t hot = atomic_load_explicit(&row.hot, memory_order_relaxed);
	uint32_t of_cold = atomic_load_explicit(&row.cold, memory_order_relaxed);
	struct reg_agent_cold cold = {0};

	if (of_cold && of_cold <= ins->geo.max[CELLS_COLD])
		ins_copy(ins, ins_at(ins, REGION_COLD, (uint64_t)(of_cold - 1) * sizeof(cold)),
			 &cold, sizeof(cold));

	*ret = (struct reg_inspect_agent){
		.idx = idx,
		.incarnation = atomic_load_explicit(&row.incarnation, memory_order_relaxed),
		.pool = atomic_load_explicit(&row.pool, memory_order_relaxed),
		.slots = hot_capacity(hot),
		.ready = hot_ready(hot),
		.hint = (int16_t)(ins_u64(ins, hint & ~UINT64_C(7)) >> (hint % 8 * 8)),
		.heartbeat_unix_ns =
			(int64_t)atomic_load_explicit(&row.heartbeat_unix_ns, memory_order_relaxed),
	};
	text_out(ret->ns, sizeof(ret->ns), row.ns);
	text_out(ret->name, sizeof(ret->name), row.name);
	text_out(ret->node, sizeof(ret->node), cold.node);
	text_out(ret->address, sizeof(ret->address), cold.address);
	pool_name(ins, ret->pool, ret->pool_name, sizeof(ret->pool_name));
	for (uint32_t s = 0; s < REG_SLOTS_PER_AGENT_MAX; s++) {
		if (!ins_slot_at(ins, idx, s, &at)) {
			s |= REG_CHUNK_SLOTS - 1;
			continue;
		}
		ret->chunks += s % REG_CHUNK_SLOTS == 0;
		ret->held += word_state(ins_u64(ins, at)) != SLOT_FREE;
	}
}

bool reg_inspect_agent_next(struct reg_inspect *ins, uint32_t *cursor,
			    struct reg_inspect_agent *ret)
{
	while (!ins->verdict && *cursor < ins->geo.max[CELLS_AGENTS]) {
		uint32_t i = (*cursor)++;

		if (!word_state(ins_cell(ins, CELLS_AGENTS, i)))
			continue;
		agent_out(ins, i, ret);
		return true;
	}
	return false;
}

static void sandbox_out(const struct reg_inspect *ins, uint32_t idx, uint64_t w,
			const struct reg_rec *rec, struct reg_inspect_sandbox *ret)
{
	/* relaxed, all: a private copy */
	uint64_t place = atomic_load_explicit(&rec->place, memory_order_relaxed);

	*ret = (struct reg_inspect_sandbox){
		.idx = idx,
		.gen = word_gen(w),
		.owner = word_owner(w) == CELL_OWNER_NONE ? REG_NIL : word_owner(w),
		.state = word_state(w),
		.flags = rec_flags(w),
		.word = w,
		.pool = (uint32_t)rec->pool_and_consistency,
		.agent = place_agent(place),
		.slot = place_slot(place),
		.slot_gen = place_gen(place),
		.held = place & PLACE_HELD,
		.port_count = (uint32_t)BITS_GET(rec->pool_and_consistency, 40, 8),
		.spec_len = (uint32_t)rec->spec_len,
		.generation = (int64_t)rec->generation,
		.created_unix_ns = (int64_t)rec->created_unix_ns,
		.started_unix_ns =
			(int64_t)atomic_load_explicit(&rec->started_unix_ns, memory_order_relaxed),
		.revision = atomic_load_explicit(&rec->revision, memory_order_relaxed),
		.stored = atomic_load_explicit(&rec->stored, memory_order_relaxed),
		.dirty = ins_bit(ins, REGION_DIRTY, idx),
		.urgent = ins_bit(ins, REGION_URGENT, idx),
	};
	if (ret->port_count > REG_PORTS_MAX)
		ret->port_count = REG_PORTS_MAX;
	memcpy(ret->ports, rec->ports, sizeof(ret->ports));
	text_out(ret->ns, sizeof(ret->ns), rec->ns);
	text_out(ret->name, sizeof(ret->name), rec->name);
	text_out(ret->id, sizeof(ret->id), rec->id);
	text_out(ret->request_id, sizeof(ret->request_id), rec->request_id);
	pool_name(ins, ret->pool, ret->pool_name, sizeof(ret->pool_name));
}

bool reg_inspect_sandbox_next(struct reg_inspect *ins, uint32_t *cursor,
			      struct reg_inspect_sandbox *ret)
{
	uint32_t max = ins->verdict ? 0 : ins->geo.max[CELLS_RECORDS];
	struct reg_rec rec;
	uint64_t w;

	while (*cursor < max) {
		uint32_t i = ins_next(ins, REGION_CELL_WORDS + CELLS_RECORDS, 8, *cursor, max);

		*cursor = i < max ? i + 1 : max;
		if (i == max || !ins_record(ins, i, &w, &rec))
			continue;
		sandbox_out(ins, i, w, &rec, ret);
		return true;
	}
	return false;
}
