/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sections of an arena as tables or JSON. Texts are hostile: what is not printable ASCII becomes a
 * question mark. JSON is written row by row, so that a million sandboxes need no memory.
 */
#include "arena_dump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	unsigned int bit;
} sections[] = {
	{"header", ARENA_HEADER}, {"participants", ARENA_PARTICIPANTS}, {"pools", ARENA_POOLS},
	{"agents", ARENA_AGENTS}, {"sandboxes", ARENA_SANDBOXES},
};

int arena_section(const char *name, unsigned int *ret, struct err *err)
{
	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
		if (strcmp(sections[i].name, name) != 0)
			continue;
		*ret |= sections[i].bit;
		return 0;
	}
	return err_set(err, -EINVAL,
		       "no section '%s': want header, participants, pools, agents or sandboxes",
		       name);
}

/* In place; returns it. */
static char *clean(char *text)
{
	for (char *c = text; *c; c++)
		if (*c < 0x20 || *c > 0x7e)
			*c = '?';
	return text;
}

static bool is_of_pool(const struct arena_dump *d, const char *ns, const char *pool)
{
	return (!d->ctl->ns_set || !d->ctl->ns[0] || !strcmp(d->ctl->ns, ns)) &&
	       (!d->pool || !strcmp(d->pool, pool));
}

static const char *number(const struct arena_dump *d, uint64_t value)
{
	return mem_printf(&d->ctl->mem, "%" PRIu64, value);
}

static const char *maybe(const struct arena_dump *d, uint32_t value)
{
	return value == UINT32_MAX ? "-" : number(d, value);
}

/* UINT32_MAX ("none") as null. */
static json_t *json_maybe(uint32_t value)
{
	return value == UINT32_MAX ? json_null() : json_integer(value);
}

/* One section of the JSON object, opened, filled row by row, closed. */
struct rows {
	const char *name;
	bool any;
};

static void rows_begin(struct rows *rows, const char *name, bool first)
{
	printf("%s  \"%s\": [", first ? "" : ",\n", name);
	*rows = (struct rows){.name = name};
}

/* Takes value. */
static void rows_add(struct rows *rows, json_t *value)
{
	printf("%s\n    ", rows->any ? "," : "");
	(void)json_dumpf(value, stdout, JSON_PRESERVE_ORDER);
	json_decref(value);
	rows->any = true;
}

static void rows_end(const struct rows *rows)
{
	printf("%s]", rows->any ? "\n  " : "");
}

/* ---- header ---- */

static void header_json(const struct arena_dump *d, const struct reg_inspect_header *h)
{
	struct reg_inspect_region r;
	json_t *object = json_pack(
		"{s:s,s:s,s:I,s:s,s:s,s:I,s:I,s:I}", "verdict", reg_status_name(h->verdict),
		"magic", mem_printf(&d->ctl->mem, "0x%016" PRIx64, h->magic), "version",
		(json_int_t)h->version, "stamp",
		mem_printf(&d->ctl->mem, "0x%016" PRIx64, h->stamp), "instance",
		clean(mem_strdup(&d->ctl->mem, h->instance)), "total_bytes",
		(json_int_t)h->total_bytes, "file_bytes", (json_int_t)h->file_bytes,
		"allocated_bytes", (json_int_t)h->allocated_bytes);
	json_t *regions = json_array();
	uint32_t cursor = 0;

	json_object_set_new(object, "limits",
			    json_pack("{s:I,s:I,s:I,s:I,s:I}", "agents",
				      (json_int_t)h->limits.agents, "sandboxes",
				      (json_int_t)h->limits.sandboxes, "pools",
				      (json_int_t)h->limits.pools, "images",
				      (json_int_t)h->limits.images, "slots_per_agent_unlimited",
				      (json_int_t)h->limits.slots_per_agent_unlimited));
	json_object_set_new(object, "created_unix_ns", json_integer(h->created_unix_ns));
	json_object_set_new(object, "epoch", json_integer((json_int_t)h->epoch));
	json_object_set_new(object, "store_loaded", json_boolean(h->store_loaded));
	json_object_set_new(object, "owned", json_boolean(h->owned));
	while (reg_inspect_region_next(d->ins, &cursor, &r))
		json_array_append_new(regions,
				      json_pack("{s:s,s:I,s:I,s:I}", "name", r.name, "offset",
						(json_int_t)r.off, "bytes", (json_int_t)r.size,
						"used", (json_int_t)r.used));
	json_object_set_new(object, "regions", regions);
	printf("  \"header\": ");
	(void)json_dumpf(object, stdout, JSON_PRESERVE_ORDER);
	json_decref(object);
}

static void header_text(const struct arena_dump *d, const struct reg_inspect_header *h)
{
	struct table table = {.mem = &d->ctl->mem, .columns = 4};
	struct reg_inspect_region r;
	uint32_t cursor = 0;

	printf("Verdict:     %s (%s)\n", reg_status_name(h->verdict), reg_status_text(h->verdict));
	printf("Magic:       0x%016" PRIx64 "\nVersion:     %" PRIu64 "\nStamp:       0x%016" PRIx64
	       "\n",
	       h->magic, h->version, h->stamp);
	printf("Instance:    %s\n", clean(mem_strdup(&d->ctl->mem, h->instance)));
	printf("Bytes:       %" PRIu64 " (file %" PRIu64 ", allocated %" PRIu64 ")\n",
	       h->total_bytes, h->file_bytes, h->allocated_bytes);
	printf("Limits:      %u agents, %u sandboxes, %u pools, %u images, %u slots when "
	       "unlimited\n",
	       h->limits.agents, h->limits.sandboxes, h->limits.pools, h->limits.images,
	       h->limits.slots_per_agent_unlimited);
	printf("Epoch:       %" PRIu64 "\nStore:       %s\nOwner:       %s\n", h->epoch,
	       h->store_loaded ? "loaded" : "not loaded", h->owned ? "alive" : "none");
	table_row(&table, "REGION", "OFFSET", "BYTES", "USED");
	while (reg_inspect_region_next(d->ins, &cursor, &r))
		table_row(&table, r.name, number(d, r.off), number(d, r.size), number(d, r.used));
	if (cursor) {
		putchar('\n');
		table_print(&table);
	}
}

/* ---- participants ---- */

static const char *kind_name(unsigned int kind)
{
	static const char *const names[] = {"-", "worker", "registryd", "crdsync", "tool"};

	return kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "?";
}

static const char *part_state(const struct reg_inspect_part *p)
{
	static const char *const names[] = {"free", "live", "left"};

	if (p->state == 1 && !p->alive)
		return "dead";
	return p->state < sizeof(names) / sizeof(names[0]) ? names[p->state] : "?";
}

static void participants(const struct arena_dump *d, bool first)
{
	struct table table = {.mem = &d->ctl->mem, .columns = 9};
	struct reg_inspect_part p;
	uint32_t cursor = 0;
	struct rows rows;

	if (d->json)
		rows_begin(&rows, "participants", first);
	table_row(&table, "PARTICIPANT", "STATE", "KIND", "INCARNATION", "PID", "RESERVED",
		  "COMMITTED", "ABORTED", "REFUSED");
	while (reg_inspect_part_next(d->ins, &cursor, &p)) {
		if (d->json)
			rows_add(&rows,
				 json_pack("{s:i,s:s,s:s,s:I,s:i,s:I,s:I,s:I,s:I,s:o,s:o}",
					   "participant", (int)p.idx, "state", part_state(&p),
					   "kind", kind_name(p.kind), "incarnation",
					   (json_int_t)p.incarnation, "pid", p.pid, "reserved",
					   (json_int_t)p.reserved, "committed",
					   (json_int_t)p.committed, "aborted",
					   (json_int_t)p.aborted, "refused", (json_int_t)p.refused,
					   "releasing", json_maybe(p.releasing), "changing",
					   json_maybe(p.changing)));
		else
			table_row(&table, number(d, p.idx), part_state(&p), kind_name(p.kind),
				  number(d, p.incarnation), number(d, (uint64_t)p.pid),
				  number(d, p.reserved), number(d, p.committed),
				  number(d, p.aborted), number(d, p.refused));
	}
	if (d->json)
		rows_end(&rows);
	else
		table_print(&table);
}

/* ---- pools ---- */

static void pools(const struct arena_dump *d, bool first)
{
	struct table table = {.mem = &d->ctl->mem, .columns = 6};
	struct reg_inspect_pool p;
	uint32_t cursor = 0;
	struct rows rows;

	if (d->json)
		rows_begin(&rows, "pools", first);
	table_row(&table, "POOL", "NAMESPACE", "NAME", "AGENTS", "FULL", "UNMET");
	while (reg_inspect_pool_next(d->ins, &cursor, &p)) {
		if (!is_of_pool(d, clean(p.ns), clean(p.name)))
			continue;
		if (d->json)
			rows_add(&rows,
				 json_pack("{s:I,s:s,s:s,s:I,s:I,s:I}", "pool", (json_int_t)p.idx,
					   "namespace", p.ns, "name", p.name, "agents",
					   (json_int_t)p.agents, "full", (json_int_t)p.full,
					   "unmet", (json_int_t)p.unmet));
		else
			table_row(&table, number(d, p.idx), mem_strdup(&d->ctl->mem, p.ns),
				  mem_strdup(&d->ctl->mem, p.name), number(d, p.agents),
				  number(d, p.full), number(d, p.unmet));
	}
	if (d->json)
		rows_end(&rows);
	else
		table_print(&table);
}

/* ---- agents ---- */

static json_t *agent_json(struct reg_inspect_agent *a)
{
	return json_pack("{s:I,s:s,s:s,s:s,s:s,s:s,s:I,s:b,s:I,s:I,s:I,s:i,s:I}", "agent",
			 (json_int_t)a->idx, "namespace", a->ns, "name", a->name, "pool",
			 a->pool_name, "node", clean(a->node), "address", clean(a->address),
			 "incarnation", (json_int_t)a->incarnation, "ready", a->ready, "slots",
			 (json_int_t)a->slots, "held", (json_int_t)a->held, "chunks",
			 (json_int_t)a->chunks, "hint", a->hint, "heartbeat_unix_ns",
			 (json_int_t)a->heartbeat_unix_ns);
}

static void agents(const struct arena_dump *d, bool first)
{
	struct table table = {.mem = &d->ctl->mem, .columns = 9};
	struct reg_inspect_agent a;
	uint32_t cursor = 0;
	struct rows rows;

	if (d->json)
		rows_begin(&rows, "agents", first);
	table_row(&table, "AGENT", "NAMESPACE", "NAME", "POOL", "STATE", "HELD", "SLOTS", "HINT",
		  "INCARNATION");
	while (reg_inspect_agent_next(d->ins, &cursor, &a)) {
		if (!is_of_pool(d, clean(a.ns), clean(a.pool_name)))
			continue;
		(void)clean(a.name);
		if (d->json)
			rows_add(&rows, agent_json(&a));
		else
			table_row(&table, number(d, a.idx), mem_strdup(&d->ctl->mem, a.ns),
				  mem_strdup(&d->ctl->mem, a.name),
				  mem_strdup(&d->ctl->mem, a.pool_name),
				  a.ready ? "ready" : "not ready", number(d, a.held),
				  number(d, a.slots),
				  a.hint == INT16_MAX ? "full" : number(d, (uint16_t)a.hint),
				  number(d, a.incarnation));
	}
	if (d->json)
		rows_end(&rows);
	else
		table_print(&table);
}

/* ---- sandboxes ---- */

static json_t *sandbox_json(struct reg_inspect_sandbox *s)
{
	json_t *ports = json_array();
	char word[24];

	(void)snprintf(word, sizeof(word), "0x%016" PRIx64, s->word);
	for (uint32_t i = 0; i < s->port_count; i++)
		json_array_append_new(ports, json_integer(s->ports[i]));
	return json_pack(
		"{s:I,s:I,s:s,s:s,s:o,s:b,s:b,s:b,s:b,s:s,s:s,s:s,s:s,s:s,s:o,s:I,s:I,s:b,s:o,"
		"s:I,s:I,s:I,"
		"s:I,s:I,s:b,s:b}",
		"record", (json_int_t)s->idx, "record_generation", (json_int_t)s->gen, "state",
		reg_state_name((enum reg_state)s->state), "word", word, "owner",
		json_maybe(s->owner), "deleting", s->flags & 1, "expiring", s->flags & 2,
		"exit_seen", s->flags & 4, "gang", s->flags & 8, "namespace", s->ns, "name",
		s->name, "id", clean(s->id), "request_id", clean(s->request_id), "pool",
		s->pool_name, "agent", json_maybe(s->agent), "slot", (json_int_t)s->slot,
		"slot_generation", (json_int_t)s->slot_gen, "held", s->held, "ports", ports,
		"spec_bytes", (json_int_t)s->spec_len, "generation", (json_int_t)s->generation,
		"created_unix_ns", (json_int_t)s->created_unix_ns, "revision",
		(json_int_t)s->revision, "stored", (json_int_t)s->stored, "dirty", s->dirty,
		"urgent", s->urgent);
}

static const char *place_text(const struct arena_dump *d, const struct reg_inspect_sandbox *s)
{
	if (s->agent == UINT32_MAX)
		return "-";
	return mem_printf(&d->ctl->mem, s->held ? "%u/%u#%u" : "(%u)", s->agent, s->slot,
			  s->slot_gen);
}

static void sandboxes(const struct arena_dump *d, bool first)
{
	struct table table = {.mem = &d->ctl->mem, .columns = 9};
	struct reg_inspect_sandbox s;
	uint32_t cursor = 0;
	struct rows rows;

	if (d->json)
		rows_begin(&rows, "sandboxes", first);
	table_row(&table, "RECORD", "GEN", "STATE", "OWNER", "NAMESPACE", "NAME", "POOL",
		  "AGENT/SLOT#GEN", "STORED/REVISION");
	while (reg_inspect_sandbox_next(d->ins, &cursor, &s)) {
		if (!is_of_pool(d, clean(s.ns), clean(s.pool_name)) ||
		    (d->state != ARENA_ANY && d->state != s.state))
			continue;
		(void)clean(s.name);
		if (d->json)
			rows_add(&rows, sandbox_json(&s));
		else
			table_row(&table, number(d, s.idx), number(d, s.gen),
				  reg_state_name((enum reg_state)s.state), maybe(d, s.owner),
				  mem_strdup(&d->ctl->mem, s.ns), mem_strdup(&d->ctl->mem, s.name),
				  mem_strdup(&d->ctl->mem, s.pool_name), place_text(d, &s),
				  mem_printf(&d->ctl->mem, "%" PRIu64 "/%" PRIu64 "%s", s.stored,
					     s.revision, s.dirty ? " dirty" : ""));
	}
	if (d->json)
		rows_end(&rows);
	else
		table_print(&table);
}

void arena_dump(const struct arena_dump *d, const struct reg_inspect_header *header)
{
	static void (*const print[])(const struct arena_dump *d,
				     bool first) = {NULL, participants, pools, agents, sandboxes};
	bool first = true;

	if (d->json)
		printf("{\n");
	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
		if (!(d->sections & sections[i].bit) || (i && header->verdict))
			continue;
		if (!first && !d->json)
			putchar('\n');
		if (i)
			print[i](d, first);
		else if (d->json)
			header_json(d, header);
		else
			header_text(d, header);
		first = false;
	}
	if (d->json)
		printf("\n}\n");
}
