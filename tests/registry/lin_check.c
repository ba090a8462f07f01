/* SPDX-License-Identifier: Apache-2.0 */
/* The search for an order: see lin.h. Small histories, exact memory, no guessing. */
#include <stdlib.h>
#include <string.h>

#include "lin_spec.h"

enum { TABLE = 1 << 17, TRIED_MAX = TABLE / 2 };

struct config {
	uint64_t done[2]; /* a bit per event */
	struct lin_state state;
};

struct search {
	struct lin_case c;
	struct config *tried; /* open addressing; done[0] of an empty one: see used */
	uint8_t *used;
	uint32_t count;
};

static bool is_done(const struct config *config, uint32_t event)
{
	return config->done[event / 64] >> (event % 64) & 1;
}

static void set_done(struct config *config, uint32_t event)
{
	config->done[event / 64] |= UINT64_C(1) << (event % 64);
}

static uint64_t hash_of(const struct config *config)
{
	uint64_t words[sizeof(*config) / 8], h = 0;

	memcpy(words, config, sizeof(words));
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		h = (h ^ words[i]) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 29;
	}
	return h;
}

/* True when it is new; it is remembered. */
static bool remember(struct search *s, const struct config *config)
{
	uint32_t at = (uint32_t)(hash_of(config) % TABLE);

	for (; s->used[at]; at = (at + 1) % TABLE)
		if (memcmp(&s->tried[at], config, sizeof(*config)) == 0)
			return false;
	s->used[at] = 1;
	s->tried[at] = *config;
	s->count++;
	return true;
}

/* No event can be later than the first end of a call that still has one to come, nor earlier than
 * the beginning of a call whose change has been. */
static struct lin_window window_of(const struct search *s, const struct config *config)
{
	struct lin_window window = {0, UINT64_MAX};

	for (uint32_t i = 0; i < s->c.event_count; i++) {
		const struct event *e = &s->c.events[i];

		if (!is_done(config, i) && e->to < window.to)
			window.to = e->to;
		if (is_done(config, i) && !lin_looks_only(e) && e->from > window.from)
			window.from = e->from;
	}
	return window;
}

static bool may_come(const struct search *s, const struct config *config, uint32_t i, uint64_t end)
{
	const struct event *e = &s->c.events[i];

	return !is_done(config, i) && e->from <= end &&
	       (e->needs < 0 || is_done(config, (uint32_t)e->needs));
}

/* What only looks changes nothing for the others: as soon as it is right it is done with. */
static void take_looks(const struct search *s, struct config *config)
{
	for (bool again = true; again;) {
		struct lin_window window = window_of(s, config);

		again = false;
		for (uint32_t i = 0; i < s->c.event_count; i++)
			if (lin_looks_only(&s->c.events[i]) && may_come(s, config, i, window.to) &&
			    lin_apply(&s->c, &s->c.events[i], window, &config->state)) {
				set_done(config, i);
				again = true;
			}
	}
}

static bool all_done(const struct search *s, const struct config *config)
{
	for (uint32_t i = 0; i < s->c.event_count; i++)
		if (!is_done(config, i))
			return false;
	return true;
}

static bool search(struct search *s, const struct config *from)
{
	struct config here = *from;
	struct lin_window window;

	take_looks(s, &here);
	if (all_done(s, &here))
		return true;
	if (s->count >= TRIED_MAX || !remember(s, &here))
		return false;
	window = window_of(s, &here);
	for (uint32_t i = 0; i < s->c.event_count; i++) {
		struct config next = here;

		if (lin_looks_only(&s->c.events[i]) || !may_come(s, &here, i, window.to) ||
		    !lin_apply(&s->c, &s->c.events[i], window, &next.state))
			continue;
		set_done(&next, i);
		if (search(s, &next))
			return true;
	}
	return false;
}

enum lin_verdict lin_judge(const struct lin_history *history)
{
	static struct search s; /* large; the memory stays for the next one */
	struct config start;
	bool found;

	if (!s.tried) {
		s.tried = calloc(TABLE, sizeof(*s.tried));
		s.used = calloc(TABLE, 1);
		if (!s.tried || !s.used)
			abort();
	}
	memset(s.used, 0, TABLE);
	s.count = 0;
	memset(&start, 0, sizeof(start));
	lin_case_init(&s.c, history);
	if (s.c.contradictory)
		return LIN_NO;
	found = search(&s, &start);
	return found ? LIN_YES : s.count >= TRIED_MAX ? LIN_TOO_HARD : LIN_NO;
}

/* ---- overlap ---- */
static uint32_t open_at(const struct lin_history *h, uint64_t when)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < h->count; i++)
		n += h->ops[i].from <= when && when <= h->ops[i].to;
	return n;
}

void lin_overlap(const struct lin_history *h, struct lin_overlap *ret)
{
	uint64_t sum = 0;

	*ret = (struct lin_overlap){0};
	for (uint32_t i = 0; i < h->count; i++) {
		uint32_t most = 1;

		/* the most are open where one begins */
		for (uint32_t k = 0; k < h->count; k++)
			if (h->ops[k].from >= h->ops[i].from && h->ops[k].from <= h->ops[i].to &&
			    open_at(h, h->ops[k].from) > most)
				most = open_at(h, h->ops[k].from);
		sum += most;
		if (most > ret->most)
			ret->most = most;
	}
	ret->mean = h->count ? (double)sum / h->count : 0;
}

/* ---- text ---- */
static void print_members(const struct lin_op *op, FILE *to)
{
	for (uint32_t i = 0; i < op->n; i++) {
		const struct lin_member *m = &op->member[i];

		(void)fprintf(to, " n%u", m->name);
		if (m->rid != LIN_NONE)
			(void)fprintf(to, " r%u/%u", m->rid, m->hash);
		if (m->ports)
			(void)fprintf(to, " ports 0x%x", m->ports);
		(void)fprintf(to, " image %u → %s", m->image, reg_status_name(m->status));
		if (m->status == REG_OK)
			(void)fprintf(to, " a%u.%u", m->agent, m->slot);
		(void)fprintf(to, " [%u/%u]", m->sandbox.idx, m->sandbox.gen);
	}
}

static void print_op(const struct lin_op *op, FILE *to)
{
	static const char *const kinds[] = {"reserve", "starting", "commit", "abort",
					    "stop",    "stopped",  "get",    "list"};

	(void)fprintf(to, " w%u %s", op->worker, kinds[op->kind]);
	switch (op->kind) {
	case LIN_RESERVE:
		print_members(op, to);
		break;
	case LIN_GET:
		(void)fprintf(to, " n%u → %s", op->name, reg_status_name(op->status));
		if (op->status == REG_OK)
			(void)fprintf(to, " %s%s a%u.%u [%u/%u]", reg_state_name(op->state),
				      op->deleting ? " deleting" : "", op->agent, op->slot,
				      op->sandbox.idx, op->sandbox.gen);
		break;
	case LIN_LIST:
		for (uint32_t i = 0; i < op->n; i++)
			(void)fprintf(to, " [%u/%u]", op->seen[i].idx, op->seen[i].gen);
		break;
	default:
		(void)fprintf(to, " [%u/%u] → %s", op->sandbox.idx, op->sandbox.gen,
			      reg_status_name(op->status));
		if (op->kind == LIN_STOP && op->status == REG_OK)
			(void)fprintf(to, " from %s", reg_state_name(op->state));
	}
	(void)fprintf(to, "\n");
}

void lin_print(const struct lin_history *h, FILE *to)
{
	uint64_t first = UINT64_MAX;
	bool said[LIN_OPS] = {false};

	for (uint32_t i = 0; i < h->count; i++)
		first = h->ops[i].from < first ? h->ops[i].from : first;
	for (uint32_t a = 0; a < h->world.agents; a++)
		(void)fprintf(to, "a%u: %u slots%s\n", a, h->world.slots[a],
			      h->world.image[a] ? ", image" : "");
	for (uint32_t n = 0; n < h->count; n++) { /* by their beginnings */
		uint32_t next = LIN_OPS;

		for (uint32_t i = 0; i < h->count; i++)
			if (!said[i] && (next == LIN_OPS || h->ops[i].from < h->ops[next].from))
				next = i;
		said[next] = true;
		(void)fprintf(to, "%8llu–%8llu", (unsigned long long)(h->ops[next].from - first),
			      (unsigned long long)(h->ops[next].to - first));
		print_op(&h->ops[next], to);
	}
}
