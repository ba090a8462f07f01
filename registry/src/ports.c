/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports: exclusive per agent. An entry of the port index decides; for ports that were found in use
 * there is a row of bits, one per agent, so that a search leaves out the agents where a busy port
 * is in use instead of trying them. A bit nominates: the pass before a refusal does not look at it.
 */
#include "place.h"

/* The record keeps them in the order of the request; at most 32, nearly always 0 or 1. */
static uint32_t ports_ascending(const struct reg_rec *rec, uint16_t *ret)
{
	uint32_t n = reg__rec_ports(rec, ret);

	for (uint32_t i = 1; i < n; i++) {
		uint16_t port = ret[i];
		uint32_t j = i;

		for (; j && ret[j - 1] > port; j--)
			ret[j] = ret[j - 1];
		ret[j] = port;
	}
	return n;
}

/* ---- rows ---- */

static a64 *row_bits(const struct reg *reg, uint32_t row)
{
	uint64_t len = (uint64_t)reg->agent_words * 8;
	uint64_t off = reg->span[REGION_PORT_BITS].off + row * len;

	return reg__ensured(reg, off, len) ? (a64 *)(void *)(reg->base + off) : NULL;
}

#define ROW_TRIES 4

/* The port's row, a new one when make; NULL: none. A port keeps its row for the life of the arena.
 */
static a64 *row_of(struct reg *reg, uint32_t port, bool make)
{
	for (uint32_t i = 0; i < ROW_TRIES; i++) {
		uint32_t row = (port * 40503u / 64 + i) % REG_PORT_ROWS, none = 0;
		uint64_t len = (uint64_t)reg->agent_words * 8;
		/* relaxed: a number is set once; the bits say nothing by themselves */
		uint32_t now = atomic_load_explicit(&reg->hdr->port[row], memory_order_relaxed);

		if (now == port)
			return row_bits(reg, row);
		if (now)
			continue;
		if (!make || reg__ensure(reg, reg->span[REGION_PORT_BITS].off + row * len, len))
			return NULL;
		if (atomic_compare_exchange_strong_explicit(&reg->hdr->port[row], &none, port,
							    memory_order_relaxed,
							    memory_order_relaxed) ||
		    none == port)
			return row_bits(reg, row);
	}
	return NULL;
}

/* The bit follows the entry: whoever changes the entry looks at the bit after, whoever writes the
 * bit looks at the entry again. Dying in between leaves a wrong bit until the next one who looks,
 * or a scrub. True when it was wrong. */
static bool bit_settle(const struct reg *reg, a64 *bits, uint32_t agent, uint32_t port)
{
	struct reg_key key = reg__key_port(agent, port);
	uint64_t bit = UINT64_C(1) << (agent % 64);
	a64 *word = &bits[agent / 64];
	struct reg_hit hit;

	for (bool wrong = false;; wrong = true) {
		bool used = reg__index_find(reg, INDEX_PORTS, &key, &hit);

		/* seq_cst [I1]: the entry's changes are seq_cst, too */
		if (used == !!(atomic_load_explicit(word, memory_order_seq_cst) & bit))
			return wrong;
		if (used)
			atomic_fetch_or_explicit(word, bit, memory_order_seq_cst);
		else
			atomic_fetch_and_explicit(word, ~bit, memory_order_seq_cst);
	}
}

static void port_changed(struct reg *reg, uint32_t agent, uint32_t port, bool make)
{
	a64 *bits = row_of(reg, port, make);

	/* a damaged placement may name no agent */
	if (bits && agent < reg->max[CELLS_AGENTS])
		(void)bit_settle(reg, bits, agent, port);
}

void reg__ports_exclude(const struct reg *reg, const uint16_t *ports, uint32_t n,
			uint64_t *excluded, uint32_t words)
{
	memset(excluded, 0, words * sizeof(uint64_t));
	for (uint32_t i = 0; i < n; i++) {
		const a64 *bits = row_of((struct reg *)(uintptr_t)reg, ports[i], false);

		for (uint32_t w = 0; bits && w < words; w++)
			/* relaxed: nominates */
			excluded[w] |= atomic_load_explicit(&bits[w], memory_order_relaxed);
	}
}

uint32_t reg__ports_scrub(struct reg *reg)
{
	uint32_t mended = 0;

	for (uint32_t row = 0; row < REG_PORT_ROWS; row++) {
		/* relaxed: as in row_of */
		uint32_t port = atomic_load_explicit(&reg->hdr->port[row], memory_order_relaxed);
		a64 *bits = port ? row_bits(reg, row) : NULL;

		for (uint32_t w = 0; bits && w < reg->agent_words; w++) {
			uint64_t m = atomic_load_explicit(&bits[w], memory_order_relaxed);

			for (; m; m &= m - 1)
				mended += bit_settle(reg, bits,
						     w * 64 + (uint32_t)__builtin_ctzll(m), port);
		}
	}
	return mended;
}

/* ---- claim, free, look ---- */

void reg__ports_free(struct reg *reg, uint32_t agent, uint32_t record, uint32_t gen, uint32_t limit)
{
	const struct reg_rec *rec = reg__rec(reg, record);
	uint16_t ports[REG_PORTS_MAX];
	uint32_t n = rec ? ports_ascending(rec, ports) : 0;

	for (uint32_t i = 0; i < n && i < limit; i++) {
		struct reg_key key = reg__key_port(agent, ports[i]);

		reg__index_remove(reg, INDEX_PORTS, &key, record, gen);
		port_changed(reg, agent, ports[i], false);
	}
}

/* In ascending order, so that of two that want the same ports one gets the first one; each by the
 * index's own claim. Undone on the first conflict. */
enum reg_status reg__ports_claim(struct reg *reg, uint32_t agent, uint32_t record, uint32_t gen)
{
	uint16_t ports[REG_PORTS_MAX];
	uint32_t n = ports_ascending(reg__rec(reg, record), ports);

	for (uint32_t i = 0; i < n; i++) {
		struct reg_key key = reg__key_port(agent, ports[i]);
		struct reg_hit other;
		enum reg_status st = reg__index_insert(reg, INDEX_PORTS, &key, record, gen, &other);

		if (st == REG_NAME_EXISTS && other.cell == record && other.gen == gen)
			continue; /* ours already: an adoption repeated */
		if (st) {
			reg__ports_free(reg, agent, record, gen, i);
			return st == REG_NAME_EXISTS ? REG_PORT_CONFLICT : st;
		}
		port_changed(reg, agent, ports[i], false);
		(void)FAILPOINT("reserve.port-claimed");
	}
	return REG_OK;
}

/* The holder may yet lose it: his own reservation is not decided, or it is being undone. */
static bool undecided(const struct reg *reg, const struct reg_hit *hit)
{
	const a64 *word = reg__cell(reg, CELLS_RECORDS, hit->cell);
	/* acquire [R1] */
	uint64_t w = word ? atomic_load_explicit(word, memory_order_acquire) : 0;

	return !hit->committed || word_gen(w) != hit->gen || word_state(w) == REG_CLAIMED;
}

bool reg__ports_taken(struct reg *reg, uint32_t agent, const uint16_t *ports, uint32_t n,
		      bool *undecided_too)
{
	for (uint32_t i = 0; i < n; i++) {
		struct reg_key key = reg__key_port(agent, ports[i]);
		struct reg_hit hit;

		if (!reg__index_find(reg, INDEX_PORTS, &key, &hit))
			continue;
		*undecided_too |= undecided(reg, &hit);
		port_changed(reg, agent, ports[i], true);
		return true;
	}
	return false;
}
