/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inspector's look at sandbox records and blobs: owner, texts, keys, slot, ports, references,
 * revisions, each as the record's state demands. A record in the hands of its owner (CLAIMED) may
 * be half made or half undone, so only what no step leaves is wrong there.
 */
#include "inspect.h"

#include <string.h>

struct record {
	uint32_t idx;
	uint64_t w;
	struct reg_rec rec; /* a private copy */
};

static void found(struct reg_inspect *ins, enum reg_finding_kind kind, const struct record *r,
		  uint64_t other)
{
	ins_found(ins, kind,
		  (struct ins_found){.subject = INS_CELL,
				     .sub = CELLS_RECORDS,
				     .a = r->idx,
				     .w = {r->w, other}});
}

/* relaxed: of a private copy */
static uint64_t of(const a64 *field)
{
	return atomic_load_explicit(field, memory_order_relaxed);
}

static const char *text(const uint64_t *field)
{
	return (const char *)(const void *)field;
}

/* Reserved by, commanded by, or adopted by somebody; or nobody's. */
static void look_owner(struct reg_inspect *ins, const struct record *r)
{
	enum ins_owner owner = ins_owner(ins, word_owner(r->w));
	bool needs, may;

	switch (word_state(r->w)) {
	case REG_CLAIMED:
	case REG_RESERVED:
	case REG_STARTING:
		needs = may = true;
		break;
	case REG_LOST:
	case REG_RESTORED:
		needs = false;
		may = true;
		break;
	default:
		needs = may = false;
	}
	if (owner == OWNER_UNKNOWN || (owner == OWNER_NOBODY ? needs : !may))
		found(ins, REG_FINDING_RECORD_OWNER, r, word_owner(r->w));
	else if (owner == OWNER_DEAD)
		found(ins, REG_FINDING_OWNER_DEAD, r, word_owner(r->w));
}

static bool texts_ok(const struct reg_rec *rec)
{
	return ins_text_ok(text(rec->ns), sizeof(rec->ns), false) &&
	       ins_text_ok(text(rec->name), sizeof(rec->name), false) &&
	       ins_text_ok(text(rec->id), sizeof(rec->id), false) &&
	       ins_text_ok(text(rec->request_id), sizeof(rec->request_id), true);
}

/* Name and request id lead to the record, as a reader would search for them. */
static void look_keys(struct reg_inspect *ins, const struct record *r)
{
	struct reg_key key = reg__key_text(text(r->rec.ns), text(r->rec.name));
	struct ins_search s;

	if (r->rec.name_hash != key.hash)
		found(ins, REG_FINDING_RECORD_HASH, r, r->rec.name_hash);
	s = ins_search(ins, INDEX_NAMES, &key, r->idx, word_gen(r->w));
	if (!s.own)
		found(ins, REG_FINDING_RECORD_NAME, r, key.hash);
	else if (s.own + s.other > 1)
		found(ins, REG_FINDING_ENTRY_TWICE, r, key.hash);
	if (!*text(r->rec.request_id))
		return;
	key = reg__key_text(text(r->rec.ns), text(r->rec.request_id));
	if (r->rec.request_key_hash != key.hash)
		found(ins, REG_FINDING_RECORD_HASH, r, r->rec.request_key_hash);
	s = ins_search(ins, INDEX_REQUESTS, &key, r->idx, word_gen(r->w));
	/* one from the store keeps its text when a newer record has that request id */
	if (!s.own && !s.other)
		found(ins, REG_FINDING_RECORD_REQUEST, r, key.hash);
	else if (s.own && s.own + s.other > 1)
		found(ins, REG_FINDING_ENTRY_TWICE, r, key.hash);
}

static uint32_t ports_of(const struct reg_rec *rec)
{
	return (uint32_t)BITS_GET(rec->pool_and_consistency, 40, 8);
}

static uint16_t port_at(const struct reg_rec *rec, uint32_t i)
{
	return (uint16_t)(rec->ports[i / 4] >> (i % 4 * 16));
}

static void look_ports(struct reg_inspect *ins, const struct record *r)
{
	uint32_t n = ports_of(&r->rec);

	for (uint32_t i = 0; i < n && i < REG_PORTS_MAX; i++)
		for (uint32_t j = 0; j <= i; j++)
			if (!port_at(&r->rec, i) ||
			    (j < i && port_at(&r->rec, i) == port_at(&r->rec, j)))
				found(ins, REG_FINDING_RECORD_PORTS, r, port_at(&r->rec, i));
	if (n > REG_PORTS_MAX)
		found(ins, REG_FINDING_RECORD_PORTS, r, n);
}

/* While it runs, each of its ports leads to it; an adopted one may have come late. */
static void look_port_entries(struct reg_inspect *ins, const struct record *r)
{
	uint32_t agent = place_agent(of(&r->rec.place));

	for (uint32_t i = 0; i < ports_of(&r->rec) && i < REG_PORTS_MAX; i++) {
		struct reg_key key = reg__key_port(agent, port_at(&r->rec, i));
		struct ins_search s = ins_search(ins, INDEX_PORTS, &key, r->idx, word_gen(r->w));

		if (!s.own && s.other)
			found(ins, REG_FINDING_PORT_SHARED, r, key.port);
		else if (!s.own)
			found(ins, REG_FINDING_RECORD_PORT, r, key.port);
		else if (s.own + s.other > 1)
			found(ins, REG_FINDING_ENTRY_TWICE, r, key.port);
	}
}

/* The slot is the record's when the placement says "held". */
static void look_slot(struct reg_inspect *ins, const struct record *r)
{
	uint64_t place = of(&r->rec.place), at, slot;

	if (!ins_slot_at(ins, place_agent(place), place_slot(place), &at)) {
		found(ins, REG_FINDING_RECORD_PLACE, r, place);
		return;
	}
	slot = ins_u64(ins, at);
	if (word_state(slot) == SLOT_FREE || word_gen(slot) != place_gen(place) ||
	    word_record(slot) != r->idx)
		found(ins, REG_FINDING_RECORD_SLOT, r, slot);
	look_port_entries(ins, r);
}

static void look_place(struct reg_inspect *ins, const struct record *r)
{
	uint64_t place = of(&r->rec.place);
	bool held = place & PLACE_HELD;

	/* where it is or was last: the row stays as long as the record */
	if (place && !row_state_used(word_state(ins_cell(ins, CELLS_AGENTS, place_agent(place)))))
		found(ins, REG_FINDING_RECORD_PLACE, r, place);

	switch (word_state(r->w)) {
	case REG_RESERVED:
	case REG_STARTING:
	case REG_RUNNING:
		if (!held)
			found(ins, REG_FINDING_RECORD_PLACE, r, place);
		break;
	case REG_EXITED:
	case REG_EXPIRED:
		if (held) /* the finisher is between the two, or died there */
			found(ins, REG_FINDING_NOT_SETTLED, r, place);
		return;
	case REG_GONE:
		if (held)
			found(ins, REG_FINDING_RECORD_PLACE, r, place);
		return;
	case REG_LOST:
	case REG_RESTORED:
		if (word_owner(r->w) != CELL_OWNER_NONE) /* is being adopted */
			return;
		break;
	default:
		break;
	}
	if (held)
		look_slot(ins, r);
}

/* ---- blobs ---- */

/*
 * Labels or message. A swap that came late leaves a reference of another generation, or one to a
 * blob that is freed by now: nobody follows it. A blob of this generation must be in use.
 */
static void look_ref(struct reg_inspect *ins, const struct record *r, uint64_t ref, bool spec)
{
	unsigned int cls = ref_class(ref);
	uint32_t idx = ref_idx(ref);
	uint64_t w = 0, head = 0, *seen;
	bool here = cls < REG_BLOB_CLASSES && idx < ins->geo.max[CELLS_BLOB0 + cls];

	if (here) {
		w = ins_cell(ins, CELLS_BLOB0 + cls, idx);
		head = ins_u64(ins,
			       ins_at(ins, REGION_BLOB + cls, (uint64_t)idx * reg_blob_unit[cls]));
	}
	if (!here || word_gen(w) != ref_gen(ref) || head >> 32 != word_gen(r->w)) {
		found(ins, here && !spec ? REG_FINDING_LATE_REF : REG_FINDING_RECORD_BLOB, r, ref);
		return;
	}
	if (word_state(w) != BLOB_USED || word_record(w) != r->idx) {
		found(ins, REG_FINDING_RECORD_BLOB, r, ref);
		return;
	}
	seen = &ins->blob_seen[cls][idx / 64];
	if (*seen >> (idx % 64) & 1)
		found(ins, REG_FINDING_BLOB_TWICE, r, ref);
	*seen |= UINT64_C(1) << (idx % 64);
	if ((uint32_t)head > reg_blob_unit[cls] - sizeof(struct reg_blob) ||
	    (spec && (uint32_t)head < r->rec.spec_len))
		ins_found(ins, REG_FINDING_BLOB_LENGTH,
			  (struct ins_found){.subject = INS_CELL,
					     .sub = (uint8_t)(CELLS_BLOB0 + cls),
					     .a = idx,
					     .w = {w, head}});
}

static void look_refs(struct reg_inspect *ins, const struct record *r)
{
	uint64_t spec = of(&r->rec.spec), others[] = {of(&r->rec.labels), of(&r->rec.message)};

	if (spec & REF_VALID)
		look_ref(ins, r, spec, true);
	else if (!(spec & REF_INLINE) || ref_inline_len(spec) > sizeof(r->rec.text) ||
		 ref_inline_len(spec) < r->rec.spec_len)
		found(ins, REG_FINDING_RECORD_BLOB, r, spec);
	for (int i = 0; i < 2; i++)
		if (others[i] & REF_VALID)
			look_ref(ins, r, others[i], false);
}

/* Of a record that is being made or undone: what leads to a blob of it, and no more. */
static void mark_refs(struct reg_inspect *ins, const struct record *r)
{
	uint64_t refs[] = {of(&r->rec.spec), of(&r->rec.labels), of(&r->rec.message)};

	for (int i = 0; i < 3; i++) {
		unsigned int cls = ref_class(refs[i]);
		uint32_t idx = ref_idx(refs[i]);
		uint64_t w;

		if (!(refs[i] & REF_VALID) || cls >= REG_BLOB_CLASSES ||
		    idx >= ins->geo.max[CELLS_BLOB0 + cls])
			continue;
		w = ins_cell(ins, CELLS_BLOB0 + cls, idx);
		if (word_state(w) == BLOB_USED && word_gen(w) == ref_gen(refs[i]) &&
		    word_record(w) == r->idx)
			ins->blob_seen[cls][idx / 64] |= UINT64_C(1) << (idx % 64);
	}
}

void ins_look_blobs(struct reg_inspect *ins)
{
	for (unsigned int cls = 0; cls < REG_BLOB_CLASSES; cls++) {
		for (uint32_t i = 0; i < ins->high[CELLS_BLOB0 + cls]; i++) {
			uint64_t w = ins_cell(ins, CELLS_BLOB0 + cls, i);

			if (word_state(w) != BLOB_USED)
				continue;
			ins->sum->blobs++;
			if (!(ins->blob_seen[cls][i / 64] >> (i % 64) & 1))
				ins_found(ins, REG_FINDING_BLOB_UNUSED,
					  (struct ins_found){.subject = INS_CELL,
							     .sub = (uint8_t)(CELLS_BLOB0 + cls),
							     .a = i,
							     .w = {w, 0}});
		}
	}
}

/* ---- the record ---- */

static void look_store(struct reg_inspect *ins, const struct record *r)
{
	uint64_t stored = of(&r->rec.stored), revision = of(&r->rec.revision);

	if (stored > revision)
		found(ins, REG_FINDING_RECORD_REVISION, r, stored);
	/* taken by a crdsync that is writing it, or that died with it: its next start finds it */
	else if (stored < revision && !ins_bit(ins, REGION_DIRTY, r->idx))
		found(ins, REG_FINDING_DIRTY, r, revision);
}

static void look_record(struct reg_inspect *ins, const struct record *r)
{
	unsigned int state = word_state(r->w);

	ins->sum->records++;
	if (state > REG_GONE)
		return; /* the look at the cells says so */
	look_owner(ins, r);
	if (state == REG_CLAIMED) {
		if (rec_flags(r->w) & REC_GANG &&
		    head_idx(r->rec.head) >= ins->geo.max[CELLS_RECORDS])
			found(ins, REG_FINDING_RECORD_HEAD, r, r->rec.head);
		mark_refs(ins, r);
		return;
	}
	look_refs(ins, r);
	look_store(ins, r);
	look_place(ins, r);
	if (state == REG_GONE)
		return;
	if (!row_state_used(
		    word_state(ins_cell(ins, CELLS_POOLS, (uint32_t)r->rec.pool_and_consistency))))
		found(ins, REG_FINDING_RECORD_POOL, r, (uint32_t)r->rec.pool_and_consistency);
	look_ports(ins, r);
	if (texts_ok(&r->rec))
		look_keys(ins, r);
	else
		found(ins, REG_FINDING_RECORD_TEXT, r, r->rec.name[0]);
}

void ins_look_records(struct reg_inspect *ins)
{
	uint32_t high = ins->high[CELLS_RECORDS];
	struct record r;

	for (uint32_t i = ins_next(ins, REGION_CELL_WORDS + CELLS_RECORDS, 8, 0, high); i < high;
	     i = ins_next(ins, REGION_CELL_WORDS + CELLS_RECORDS, 8, i + 1, high)) {
		r.idx = i;
		if (ins_record(ins, i, &r.w, &r.rec))
			look_record(ins, &r);
	}
}
