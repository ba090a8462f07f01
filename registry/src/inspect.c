/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inspector's file: opened and mapped for reading, holes found by the file system and left
 * alone, liveness asked of the kernel without taking a lock. Then the looks: everything is checked
 * up to three times, and what each of them found with the same words is a finding.
 */
#include "inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOOKS 3

/* ---- the file ---- */

/* As reg_attach judges it, and the constants for reading it when it can be read at all. */
static enum reg_status judge(struct reg_inspect *ins)
{
	const struct reg_header *h = &ins->hdr;
	struct reg_limits lim =
				  {
					  .agents = h->max_agents,
					  .sandboxes = h->max_sandboxes,
					  .pools = h->max_pools,
					  .images = h->max_images,
					  .slots_per_agent_unlimited = h->slots_unlimited,
				  },
			  full;

	if (h->magic != REG_MAGIC)
		return REG_BAD_MAGIC;
	if (h->version != REG_LAYOUT_VERSION || h->stamp != reg__layout_stamp())
		return REG_BAD_LAYOUT;
	if (!reg__limits_fill(&lim, &full) || memcmp(&lim, &full, sizeof(lim)))
		return REG_CORRUPT;
	reg__layout_from(&ins->geo, &lim);
	if (!reg__layout_fits_bits(&ins->geo)) {
		ins->geo.bytes = 0;
		return REG_CORRUPT;
	}
	if (h->total_bytes != ins->geo.bytes || ins->file_bytes != ins->geo.bytes ||
	    memcmp(h->region, ins->geo.span, sizeof(h->region)) ||
	    strnlen(h->instance, sizeof(h->instance)) != 32 ||
	    strspn(h->instance, "0123456789abcdef") != 32)
		return REG_CORRUPT;
	return REG_OK;
}

static enum reg_status open_file(struct reg_inspect *ins, const char *path)
{
	struct stat sb;
	ssize_t n;

	ins->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (ins->fd < 0)
		return errno == ENOENT ? REG_NO_ARENA : REG_IO;
	if (fstat(ins->fd, &sb))
		return REG_IO;
	if (!S_ISREG(sb.st_mode))
		return REG_BAD_MAGIC;
	ins->file_bytes = (uint64_t)sb.st_size;
	n = pread(ins->fd, &ins->hdr, sizeof(ins->hdr), 0); /* a hole reads as zeros */
	if (n < 0)
		return REG_IO;
	ins->verdict = judge(ins);
	if (!ins->geo.bytes)
		return REG_OK; /* nothing but the header can be read */
	ins->map_bytes = ins->file_bytes < ins->geo.bytes ? ins->file_bytes : ins->geo.bytes;
	ins->map_bytes = ins->map_bytes >> INS_PAGE_SHIFT << INS_PAGE_SHIFT;
	ins->there = calloc((ins->map_bytes >> INS_PAGE_SHIFT) / 64 + 1, 8);
	if (!ins->there)
		return REG_IO;
	if (!ins->map_bytes)
		return REG_OK;
	void *p = mmap(NULL, ins->map_bytes, PROT_READ, MAP_SHARED, ins->fd, 0);

	if (p == MAP_FAILED)
		return REG_IO;
	ins->base = p;
	return REG_OK;
}

enum reg_status reg_inspect_open(const char *path, struct reg_inspect **ret)
{
	struct reg_inspect *ins = calloc(1, sizeof(*ins));
	enum reg_status st;

	if (!ins)
		return REG_IO;
	ins->fd = -1;
	st = open_file(ins, path);
	if (!st && !ins_refresh(ins))
		st = REG_IO;
	if (st) {
		reg_inspect_close(ins);
		return st;
	}
	*ret = ins;
	return REG_OK;
}

struct reg_inspect *reg_inspect_close(struct reg_inspect *ins)
{
	if (!ins)
		return NULL;
	if (ins->base)
		munmap((void *)(uintptr_t)ins->base, ins->map_bytes);
	if (ins->fd >= 0)
		close(ins->fd);
	free(ins->there);
	free(ins);
	return NULL;
}

/* Pages that are not holes. Memory that was only reserved counts as a hole: it reads as zeros, too.
 */
static void find_pages(struct reg_inspect *ins)
{
	off_t at = 0, end = (off_t)ins->map_bytes;

	memset(ins->there, 0, ((ins->map_bytes >> INS_PAGE_SHIFT) / 64 + 1) * 8);
	while (at < end) {
		off_t data = lseek(ins->fd, at, SEEK_DATA);

		if (data < 0 || data >= end)
			return;
		at = lseek(ins->fd, data, SEEK_HOLE);
		at = at < 0 || at > end ? end : at;
		for (uint64_t p = (uint64_t)data >> INS_PAGE_SHIFT;
		     p < ((uint64_t)at + (1 << INS_PAGE_SHIFT) - 1) >> INS_PAGE_SHIFT; p++)
			ins->there[p / 64] |= UINT64_C(1) << (p % 64);
		if (at <= data)
			return;
	}
}

bool ins_refresh(struct reg_inspect *ins)
{
	ins->geo.fd = ins->fd; /* F_GETLK asks and takes nothing */
	ins->live = ins->owned = reg__byte_locked(&ins->geo, REG_LOCK_OWNER);
	if (!ins->geo.bytes)
		return true;
	find_pages(ins);
	if (ins->map_bytes >= sizeof(ins->hdr))
		ins_copy(ins, 0, &ins->hdr, sizeof(ins->hdr));
	for (uint32_t i = 0; i < REG_PARTICIPANTS_MAX; i++) {
		uint64_t off = ins_at(ins, REGION_PARTS, (uint64_t)i * sizeof(struct reg_part));

		ins->alive[i] = BITS_GET(ins_u64(ins, off), 0, 8) == PART_LIVE &&
				reg__byte_locked(&ins->geo, REG_LOCK_PART(i));
		ins->live = ins->live || ins->alive[i];
	}
	return true;
}

uint32_t ins_next(const struct reg_inspect *ins, enum reg_region region, uint32_t size,
		  uint32_t idx, uint32_t max)
{
	while (idx < max) {
		uint64_t off = ins_at(ins, region, (uint64_t)idx * size), next;

		if (ins_there(ins, off))
			return idx;
		if (off >= ins->map_bytes)
			return max;
		next = ((off >> INS_PAGE_SHIFT) + 1) << INS_PAGE_SHIFT;
		next = (next - ins->geo.span[region].off + size - 1) / size;
		idx = next < max ? (uint32_t)next : max;
	}
	return max;
}

bool ins_text_ok(const char *text, uint32_t cap, bool empty)
{
	size_t len = strnlen(text, cap);

	return len < cap && (empty || len);
}

enum ins_owner ins_owner(const struct reg_inspect *ins, uint32_t owner)
{
	uint64_t off = ins_at(ins, REGION_PARTS, (uint64_t)owner * sizeof(struct reg_part));

	if (owner == CELL_OWNER_NONE)
		return OWNER_NOBODY;
	if (owner >= REG_PARTICIPANTS_MAX || BITS_GET(ins_u64(ins, off), 0, 8) == PART_FREE)
		return OWNER_UNKNOWN;
	return ins->alive[owner] ? OWNER_ALIVE : OWNER_DEAD;
}

bool ins_record(const struct reg_inspect *ins, uint32_t idx, uint64_t *ret_word,
		struct reg_rec *ret)
{
	for (int tries = 0; tries < 3; tries++) {
		*ret_word = ins_cell(ins, CELLS_RECORDS, idx);
		if (!word_state(*ret_word))
			return false;
		ins_copy(ins, ins_at(ins, REGION_RECORDS, (uint64_t)idx * sizeof(*ret)), ret,
			 sizeof(*ret));
#ifndef __SANITIZE_THREAD__ /* which knows no fences; the compiler refuses them */
		/* the loads above stay above */
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
		if (ins_cell(ins, CELLS_RECORDS, idx) == *ret_word)
			return true;
	}
	return false;
}

/* ---- findings ---- */

static const struct {
	const char *name, *text;
	enum reg_finding_class class_;
} kinds[REG_FINDING_MAX] = {
#define KIND(name, class_, text) {#name, text, REG_FINDING_##class_},
	REG_FINDING_LIST(KIND)
#undef KIND
};

const char *reg_finding_class_name(enum reg_finding_class class_)
{
	static const char *const names[] = {"broken", "leftover", "stale"};

	return (unsigned int)class_ < REG_FINDING_CLASSES ? names[class_] : "?";
}

void ins_found(struct reg_inspect *ins, enum reg_finding_kind kind, struct ins_found f)
{
	struct ins_list *l = ins->found;

	f.kind = (uint16_t)kind;
	if (l->n == INS_KEEP) {
		l->cut = true;
		return;
	}
	if (l->n == l->room) {
		uint32_t room = l->room ? l->room * 2 : 64;
		struct ins_found *at = realloc(l->at, room * sizeof(*at));

		if (!at) {
			ins->no_memory = true;
			return;
		}
		l->at = at;
		l->room = room;
	}
	l->at[l->n++] = f;
}

static const char *const cell_names[CELLS_MAX] = {"record", "chunk",  "agent",	"pool",	  "image",
						  "cold",   "blob 0", "blob 1", "blob 2", "blob 3"};
static const char *const index_names[INDEX_MAX] = {"names",  "requests", "ports",
						   "agents", "pools",	 "images"};

static void where_text(const struct ins_found *f, char *buf, size_t size)
{
	switch ((enum ins_subject)f->subject) {
	case INS_HEADER:
		snprintf(buf, size, "header");
		return;
	case INS_CELL:
		snprintf(buf, size, "%s %u", cell_names[f->sub], f->a);
		return;
	case INS_SLOT:
		snprintf(buf, size, "agent %u slot %u", f->a, f->b);
		return;
	case INS_ENTRY:
		snprintf(buf, size, "index %s bucket %u entry %u", index_names[f->sub], f->a, f->b);
		return;
	case INS_BUCKET:
		snprintf(buf, size, "index %s bucket %u", index_names[f->sub], f->a);
		return;
	case INS_PART:
		snprintf(buf, size, "participant %u", f->a);
		return;
	case INS_PORT:
		snprintf(buf, size, "port %u", f->a);
		return;
	case INS_RETIRE:
		snprintf(buf, size, "retire list entry %u", f->a);
		return;
	case INS_CHUNK_OF:
		snprintf(buf, size, "agent %u chunk %u", f->a, f->b);
		return;
	}
}

static void finding_text(const struct ins_found *f, struct reg_finding *ret)
{
	*ret = (struct reg_finding){
		.kind = (enum reg_finding_kind)f->kind,
		.class_ = kinds[f->kind].class_,
		.name = kinds[f->kind].name,
		.text = kinds[f->kind].text,
	};
	where_text(f, ret->where, sizeof(ret->where));
	snprintf(ret->words, sizeof(ret->words), "0x%016" PRIx64 " 0x%016" PRIx64, f->w[0],
		 f->w[1]);
}

/* ---- looks ---- */

static bool scratch_new(struct reg_inspect *ins)
{
	bool ok = true;

	for (unsigned int c = 0; c < REG_BLOB_CLASSES; c++) {
		ins->blob_seen[c] = calloc(ins->geo.max[CELLS_BLOB0 + c] / 64 + 1, 8);
		ok = ok && ins->blob_seen[c];
	}
	for (unsigned int k = 0; k < INDEX_MAX; k++) {
		ins->passed[k] = calloc((size_t)ins->geo.bucket_mask[k] + 1, 4);
		ok = ok && ins->passed[k];
	}
	ins->chunk_of = calloc((size_t)ins->geo.max[CELLS_CHUNKS], 4);
	ins->images_of = calloc((size_t)ins->geo.max[CELLS_AGENTS], 4);
	return ok && ins->chunk_of && ins->images_of;
}

static void scratch_free(struct reg_inspect *ins)
{
	for (unsigned int c = 0; c < REG_BLOB_CLASSES; c++) {
		free(ins->blob_seen[c]);
		ins->blob_seen[c] = NULL;
	}
	for (unsigned int k = 0; k < INDEX_MAX; k++) {
		free(ins->passed[k]);
		ins->passed[k] = NULL;
	}
	free(ins->chunk_of);
	free(ins->images_of);
	ins->chunk_of = ins->images_of = NULL;
}

static void look(struct reg_inspect *ins, struct ins_list *found, struct reg_inspect_sum *sum)
{
	*sum = (struct reg_inspect_sum){.live = ins->live};
	ins->found = found;
	ins->sum = sum;
	found->n = 0;
	ins_look_header(ins);
	if (!ins->geo.bytes)
		return;
	if (scratch_new(ins)) {
		/* counts of entries first, then the cells that they lead to */
		ins_look_parts(ins);
		ins_look_cells(ins);
		ins_look_rows(ins);
		ins_look_agents(ins);
		ins_look_entries(ins);
		ins_look_records(ins);
		ins_look_blobs(ins);
	} else {
		ins->no_memory = true;
	}
	scratch_free(ins);
}

static int by_identity(const void *a, const void *b)
{
	const struct ins_found *x = a, *y = b;

	if (kinds[x->kind].class_ != kinds[y->kind].class_)
		return kinds[x->kind].class_ < kinds[y->kind].class_ ? -1 : 1;
#define ORDER(field)                                                                               \
	if (x->field != y->field)                                                                  \
	return x->field < y->field ? -1 : 1
	ORDER(kind);
	ORDER(subject);
	ORDER(sub);
	ORDER(a);
	ORDER(b);
	ORDER(w[0]);
	ORDER(w[1]);
#undef ORDER
	return 0;
}

static void sort(struct ins_list *l)
{
	if (l->n)
		qsort(l->at, l->n, sizeof(*l->at), by_identity);
}

/* Keeps in a what b has, too: the same words about the same thing. Both are sorted. */
static void keep_common(struct ins_list *a, const struct ins_list *b)
{
	uint32_t n = 0;

	for (uint32_t i = 0, j = 0; i < a->n && j < b->n;) {
		int order = by_identity(&a->at[i], &b->at[j]);

		if (!order) {
			a->at[n++] = a->at[i++];
			j++;
		} else if (order < 0) {
			i++;
		} else {
			j++;
		}
	}
	a->n = n;
}

/* Longer each time: what is under way for microseconds must not be so in all of them. */
static void rest(unsigned int looks)
{
	struct timespec ts = {.tv_nsec = looks * 20000000L};

	(void)nanosleep(&ts, NULL);
}

static void report(const struct ins_list *l,
		   void (*fn)(void *arg, const struct reg_finding *finding), void *arg,
		   struct reg_inspect_sum *ret)
{
	for (uint32_t i = 0; i < l->n; i++) {
		struct reg_finding f;

		ret->findings[kinds[l->at[i].kind].class_]++;
		if (!fn)
			continue;
		finding_text(&l->at[i], &f);
		fn(arg, &f);
	}
}

enum reg_status reg_inspect_check(struct reg_inspect *ins,
				  void (*fn)(void *arg, const struct reg_finding *finding),
				  void *arg, struct reg_inspect_sum *ret)
{
	struct ins_list first = {0}, again = {0};
	struct reg_inspect_sum other;
	uint32_t seen;

	ins->no_memory = !ins_refresh(ins);
	look(ins, &first, ret);
	ret->looks = 1;
	sort(&first);
	seen = first.n;
	while (ret->live && first.n && ret->looks < LOOKS) {
		rest(ret->looks++);
		ins->no_memory = !ins_refresh(ins) || ins->no_memory;
		look(ins, &again, &other);
		sort(&again);
		keep_common(&first, &again);
		ret->live = ret->live || ins->live;
	}
	ret->transient = seen - first.n;
	ret->cut = first.cut;
	report(&first, fn, arg, ret);
	free(first.at);
	free(again.at);
	return ins->no_memory ? REG_IO : REG_OK;
}
