/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena file: layout from the limits, creation, attach with full checks, memory on demand.
 * Nothing here knows what the regions mean. Blocking: system calls only; never on the path of a
 * reserve once the memory that it touches is allocated.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

static uint64_t align_up(uint64_t v, uint64_t to)
{
	return (v + to - 1) / to * to;
}

static uint32_t pow2_at_least(uint64_t v)
{
	uint32_t p = 16;

	while (p < v)
		p <<= 1;
	return p;
}

static uint64_t fold_facts(const uint64_t *facts, size_t count)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

	for (size_t i = 0; i < count; i++)
		for (int b = 0; b < 8; b++)
			h = (h ^ ((facts[i] >> (8 * b)) & 0xff)) * UINT64_C(0x100000001b3);
	return h;
}

uint64_t reg__layout_stamp(void)
{
	const uint64_t facts[] = {
		sizeof(struct reg_header),
		offsetof(struct reg_header, region),
		offsetof(struct reg_header, epoch),
		offsetof(struct reg_header, dirty_seq),
		offsetof(struct reg_header, high),
		offsetof(struct reg_header, homes),
		offsetof(struct reg_header, port),
		sizeof(struct reg_part),
		offsetof(struct reg_part, count),
		offsetof(struct reg_part, refused),
		offsetof(struct reg_part, count_at_join),
		offsetof(struct reg_part, hist),
		offsetof(struct reg_part, releasing),
		offsetof(struct reg_part, changing),
		offsetof(struct reg_part, placing),
		offsetof(struct reg_header, parts_high),
		sizeof(struct reg_bucket),
		sizeof(struct reg_agent),
		offsetof(struct reg_agent, pool),
		offsetof(struct reg_agent, chunk),
		offsetof(struct reg_agent, cold),
		offsetof(struct reg_agent, name),
		sizeof(struct reg_agent_cold),
		REG_RETIRE_MAX,
		offsetof(struct reg_header, gp_requested),
		offsetof(struct reg_part, gp_done),
		sizeof(struct reg_pool),
		offsetof(struct reg_pool, foreign),
		offsetof(struct reg_pool, low),
		REG_HOMES,
		sizeof(struct reg_image),
		sizeof(struct reg_rec),
		offsetof(struct reg_rec, labels),
		offsetof(struct reg_rec, expire),
		offsetof(struct reg_rec, ns),
		offsetof(struct reg_rec, name),
		offsetof(struct reg_rec, name_hash),
		offsetof(struct reg_rec, ports),
		offsetof(struct reg_rec, head),
		offsetof(struct reg_pool, gang),
		REGION_MAX,
		CELLS_MAX,
		INDEX_MAX,
		REG_HIST_BUCKETS,
		REG_HIST_MAX,
		REG_COUNT_MAX,
		REG_STATUS_MAX,
		REG_PARTICIPANTS_MAX,
		REG_GONE,
		CELL_OWNER_WIDTH,
		GEN_WIDTH,
		reg_blob_unit[0],
		reg_blob_unit[1],
		reg_blob_unit[2],
		reg_blob_unit[3],
		reg__hash("a hash of another build finds nothing", "here"),
		REG_LAYOUT_VERSION,
	};

	return fold_facts(facts, sizeof(facts) / sizeof(facts[0]));
}

bool reg__limits_fill(const struct reg_limits *in, struct reg_limits *out)
{
	*out = in ? *in : (struct reg_limits){0};
	out->agents = out->agents ? out->agents : 16384;
	out->sandboxes = out->sandboxes ? out->sandboxes : 1048576;
	out->pools = out->pools ? out->pools : 4096;
	out->images = out->images ? out->images : 65536;
	out->slots_per_agent_unlimited = out->slots_per_agent_unlimited
						 ? out->slots_per_agent_unlimited
						 : REG_SLOTS_PER_AGENT_MAX;
	return out->agents <= REG_MAX_AGENTS && out->sandboxes <= REG_MAX_SANDBOXES &&
	       out->pools <= REG_MAX_POOLS && out->images <= REG_MAX_IMAGES &&
	       out->slots_per_agent_unlimited <= REG_SLOTS_PER_AGENT_MAX;
}

static uint64_t region_size(const struct reg *reg, int region)
{
	uint64_t members_bytes = (uint64_t)reg->members_words * 8;

	if (region >= REGION_CELL_BITS && region < REGION_CELL_WORDS)
		return align_up(reg->max[region - REGION_CELL_BITS], 64) / 8;
	if (region >= REGION_CELL_WORDS && region < REGION_INDEX)
		return (uint64_t)reg->max[region - REGION_CELL_WORDS] * 8;
	if (region >= REGION_INDEX && region < REGION_HINTS)
		return ((uint64_t)reg->bucket_mask[region - REGION_INDEX] + 1) *
		       sizeof(struct reg_bucket);
	if (region >= REGION_BLOB)
		return (uint64_t)reg->max[CELLS_BLOB0 + region - REGION_BLOB] *
		       reg_blob_unit[region - REGION_BLOB];
	switch (region) {
	case REGION_HEADER:
		return sizeof(struct reg_header);
	case REGION_ENSURED:
		return 128 * 1024; /* bits for 64 GiB; checked against the total */
	case REGION_PARTS:
		return (uint64_t)REG_PARTICIPANTS_MAX * sizeof(struct reg_part);
	case REGION_HINTS:
		return align_up(reg->max[CELLS_AGENTS], 64) * sizeof(a16);
	case REGION_CHUNK_MASKS:
		return (uint64_t)reg->max[CELLS_CHUNKS] * 8;
	case REGION_CHUNK_SLOTS:
		return (uint64_t)reg->max[CELLS_CHUNKS] * REG_CHUNK_SLOTS * 8;
	case REGION_AGENTS:
		return (uint64_t)reg->max[CELLS_AGENTS] * sizeof(struct reg_agent);
	case REGION_COLD:
		return (uint64_t)reg->max[CELLS_COLD] * sizeof(struct reg_agent_cold);
	case REGION_AGENT_IMAGES:
		return (uint64_t)reg->max[CELLS_AGENTS] * REG_AGENT_IMAGES_MAX * sizeof(a32);
	case REGION_RETIRE:
		return REG_RETIRE_MAX * sizeof(struct reg_retire);
	case REGION_POOLS:
		return (uint64_t)reg->max[CELLS_POOLS] * sizeof(struct reg_pool);
	case REGION_POOL_BITS:
		return (uint64_t)reg->max[CELLS_POOLS] * members_bytes;
	case REGION_IMAGES:
		return (uint64_t)reg->max[CELLS_IMAGES] * sizeof(struct reg_image);
	case REGION_IMAGE_BITS:
		return (uint64_t)reg->max[CELLS_IMAGES] * members_bytes;
	case REGION_PORT_BITS:
		return (uint64_t)REG_PORT_ROWS * reg->agent_words * 8;
	case REGION_DIRTY:
	case REGION_URGENT:
		return align_up(reg->max[CELLS_RECORDS], 64) / 8;
	case REGION_RECORDS:
		return (uint64_t)reg->max[CELLS_RECORDS] * sizeof(struct reg_rec);
	default:
		return 0;
	}
}

void reg__layout_from(struct reg *reg, const struct reg_limits *lim)
{
	uint64_t off = 0;

	reg->max[CELLS_RECORDS] = lim->sandboxes;
	reg->max[CELLS_AGENTS] = lim->agents;
	reg->max[CELLS_CHUNKS] = lim->agents * 2 + 8192;
	reg->max[CELLS_POOLS] = lim->pools;
	reg->max[CELLS_IMAGES] = lim->images;
	reg->max[CELLS_COLD] =
		lim->agents + REG_RETIRE_MAX + 64; /* the retire list is full first */
	reg->max[CELLS_BLOB0] = lim->sandboxes * 2;
	reg->max[CELLS_BLOB1] = lim->sandboxes / 2 + 64;
	reg->max[CELLS_BLOB2] = lim->sandboxes / 8 + 64;
	reg->max[CELLS_BLOB3] = lim->sandboxes / 64 + 64;
	reg->slots_unlimited = lim->slots_per_agent_unlimited;
	reg->agent_words = (uint32_t)(align_up(lim->agents, 64) / 64);
	reg->stripe_words = (reg->agent_words + 63) / 64;
	reg->members_words = (uint32_t)align_up(reg->stripe_words + reg->agent_words, 8);
	for (int k = 0; k < INDEX_MAX; k++) {
		uint64_t keys = lim->sandboxes;

		if (k == INDEX_AGENTS)
			keys = lim->agents;
		else if (k == INDEX_POOLS)
			keys = lim->pools;
		else if (k == INDEX_IMAGES)
			keys = lim->images;
		reg->bucket_mask[k] = pow2_at_least(keys * 2 / REG_BUCKET_ENTRIES) - 1;
	}
	for (int r = 0; r < REGION_MAX; r++) {
		reg->span[r].off = off;
		reg->span[r].size = region_size(reg, r);
		off = align_up(off + reg->span[r].size, 4096);
	}
	reg->bytes = align_up(off, UINT64_C(1) << REG_CHUNK_SHIFT);
}

bool reg__layout_fits_bits(const struct reg *reg)
{
	return (reg->bytes >> REG_CHUNK_SHIFT) / 8 <= reg->span[REGION_ENSURED].size;
}

static a64 *ensured_word(const struct reg *reg, uint64_t chunk)
{
	return (a64 *)reg__at(reg, REGION_ENSURED, chunk / 64 * 8);
}

static enum reg_status chunk_allocate(struct reg *reg, uint64_t chunk)
{
	int r;

	do
		r = posix_fallocate(reg->fd, (off_t)(chunk << REG_CHUNK_SHIFT),
				    (off_t)1 << REG_CHUNK_SHIFT);
	while (r == EINTR);
	if (r == ENOSPC || r == EDQUOT)
		return REG_NO_SPACE;
	if (r)
		return REG_IO;
	/* relaxed: says something about the file, not about memory of ours */
	atomic_fetch_or_explicit(ensured_word(reg, chunk), UINT64_C(1) << (chunk % 64),
				 memory_order_relaxed);
	return REG_OK;
}

enum reg_status reg__ensure(struct reg *reg, uint64_t off, uint64_t len)
{
	uint64_t last = (off + len - 1) >> REG_CHUNK_SHIFT;

	if (__builtin_expect(reg__ensured(reg, off, len), 1))
		return REG_OK;
	for (uint64_t c = off >> REG_CHUNK_SHIFT; c <= last; c++) {
		enum reg_status st = chunk_allocate(reg, c);

		if (st)
			return st;
	}
	return REG_OK;
}

bool reg__unit_there(const struct reg *reg, unsigned int region, unsigned int kind, uint64_t size,
		     uint32_t idx)
{
	uint64_t begin = reg->span[region].off, end = begin + reg->max[kind] * size, to;
	a32 *known = &((struct reg *)(uintptr_t)reg)->known[region];

	if (idx >= reg->max[kind] || !reg__ensured(reg, begin + idx * size, size))
		return false;
	/* relaxed, both: true whoever of our threads stores last */
	to = begin + atomic_load_explicit(known, memory_order_relaxed) * size;
	while (to < end && reg__ensured_at(reg, to >> REG_CHUNK_SHIFT))
		to = ((to >> REG_CHUNK_SHIFT) + 1) << REG_CHUNK_SHIFT;
	to = (to < end ? to : end) - begin;
	atomic_store_explicit(known, (uint32_t)(to / size), memory_order_relaxed);
	return true;
}

static enum reg_status map_file(struct reg *reg)
{
	struct stat sb;
	void *p = mmap(NULL, reg->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, reg->fd, 0);

	if (p == MAP_FAILED)
		return REG_IO;
	(void)madvise(p, reg->bytes, MADV_DONTDUMP);
	reg->base = p;
	reg->hdr = p;
	reg__grace_map(reg);
	if (fstat(reg->fd, &sb))
		return REG_IO;
	reg->dev = sb.st_dev;
	reg->ino = sb.st_ino;
	return REG_OK;
}

/* Regions that scans walk without asking, so they are allocated from the start: header, ensured
 * bits, hints, bitmaps of pools' first use and cell hints come on demand. */
static enum reg_status allocate_base(struct reg *reg)
{
	uint64_t end = reg->span[REGION_PARTS].off;
	uint64_t last = (end - 1) >> REG_CHUNK_SHIFT;

	/* The first chunks hold the bitmap that chunk_allocate writes: get them from the kernel
	 * before touching it. */
	for (uint64_t c = 0; c <= last; c++) {
		int r = posix_fallocate(reg->fd, (off_t)(c << REG_CHUNK_SHIFT),
					(off_t)1 << REG_CHUNK_SHIFT);

		if (r)
			return r == ENOSPC ? REG_NO_SPACE : REG_IO;
	}
	for (uint64_t c = 0; c <= last; c++)
		atomic_fetch_or_explicit(ensured_word(reg, c), UINT64_C(1) << (c % 64),
					 memory_order_relaxed); /* private still */
	for (int k = 0; k < CELLS_MAX; k++) {
		struct reg_span *s = &reg->span[REGION_CELL_BITS + k];
		enum reg_status st = reg__ensure(reg, s->off, s->size);

		if (st)
			return st;
	}
	const int whole[] = {REGION_RETIRE, REGION_HINTS, REGION_CHUNK_MASKS, REGION_DIRTY,
			     REGION_URGENT};

	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
		struct reg_span *s = &reg->span[whole[i]];
		enum reg_status st = reg__ensure(reg, s->off, s->size);

		if (st)
			return st;
	}
	return REG_OK;
}

static enum reg_status init_header(struct reg *reg, const struct reg_limits *lim)
{
	struct reg_header *h = reg->hdr;
	uint8_t id[16];

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return REG_IO;
	for (int i = 0; i < 16; i++)
		snprintf(h->instance + 2 * i, 3, "%02x", id[i]);
	h->version = REG_LAYOUT_VERSION;
	h->stamp = reg__layout_stamp();
	h->total_bytes = reg->bytes;
	h->created_unix_ns = clock_unix_ns();
	h->max_agents = lim->agents;
	h->max_sandboxes = lim->sandboxes;
	h->max_pools = lim->pools;
	h->max_images = lim->images;
	h->slots_unlimited = lim->slots_per_agent_unlimited;
	memcpy(h->region, reg->span, sizeof(h->region));
	/* relaxed: published by the magic */
	atomic_store_explicit(&h->gp_requested, REG_GRACE_FIRST, memory_order_relaxed);
	/* release [A1]: pairs with check_header; everything above before the magic */
	atomic_store_explicit(&h->magic, REG_MAGIC, memory_order_release);
	return REG_OK;
}

static struct reg *reg_new(const char *path)
{
	struct reg *reg = calloc(1, sizeof(*reg));

	if (!reg)
		return NULL;
	reg->fd = -1;
	reg->wide = __builtin_cpu_supports("avx512bw");
	reg->popcnt = __builtin_cpu_supports("popcnt");
	pthread_mutex_init(&reg->roles, NULL);
	reg->path = strdup(path);
	if (!reg->path) {
		free(reg);
		return NULL;
	}
	return reg;
}

struct reg *reg_detach(struct reg *reg)
{
	if (!reg)
		return NULL;
	reg__grace_unmap(reg);
	if (reg->base)
		munmap(reg->base, reg->bytes);
	if (reg->fd >= 0)
		close(reg->fd); /* drops this process's record locks on the arena, as documented */
	pthread_mutex_destroy(&reg->roles);
	free(reg->path);
	free(reg);
	return NULL;
}

static enum reg_status create_at(struct reg *reg, const char *tmp, const struct reg_limits *lim)
{
	enum reg_status st;

	reg->fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (reg->fd < 0)
		return errno == ENOSPC ? REG_NO_SPACE : REG_IO;
	if (ftruncate(reg->fd, (off_t)reg->bytes))
		return errno == ENOSPC ? REG_NO_SPACE : REG_IO;
	st = map_file(reg);
	if (!st)
		st = allocate_base(reg);
	if (!st)
		st = init_header(reg, lim);
	if (!st)
		st = reg_own(reg);
	if (!st && link(tmp, reg->path))
		st = errno == EEXIST ? REG_IN_USE : REG_IO;
	return st;
}

enum reg_status reg_create(const char *path, const struct reg_limits *limits, struct reg **ret)
{
	struct reg_limits lim;
	enum reg_status st;
	char tmp[4096];
	uint32_t some;

	/* by chance, and not by the process alone: in a pod the number is the same after each
	 * restart */
	if (getrandom(&some, sizeof(some), 0) != sizeof(some))
		return REG_IO;
	if (!reg__limits_fill(limits, &lim) || snprintf(tmp, sizeof(tmp), "%s.tmp-%d-%08x", path,
							(int)getpid(), some) >= (int)sizeof(tmp))
		return REG_INVALID;
	struct reg *reg = reg_new(path);

	if (!reg)
		return REG_IO;
	reg__layout_from(reg, &lim);
	if (!reg__layout_fits_bits(reg)) {
		reg_detach(reg);
		return REG_INVALID;
	}
	st = create_at(reg, tmp, &lim);
	if (reg->fd >= 0)
		(void)unlink(tmp);
	if (st) {
		reg_detach(reg);
		return st;
	}
	*ret = reg;
	return REG_OK;
}

/* hdr is a private copy: nobody can change it between check and use. */
static enum reg_status check_header(const struct reg_header *hdr, uint64_t magic,
				    uint64_t file_bytes, struct reg *reg)
{
	struct reg_limits stored =
				  {
					  .agents = hdr->max_agents,
					  .sandboxes = hdr->max_sandboxes,
					  .pools = hdr->max_pools,
					  .images = hdr->max_images,
					  .slots_per_agent_unlimited = hdr->slots_unlimited,
				  },
			  lim;

	if (magic != REG_MAGIC)
		return REG_BAD_MAGIC;
	if (hdr->version != REG_LAYOUT_VERSION || hdr->stamp != reg__layout_stamp())
		return REG_BAD_LAYOUT;
	if (!reg__limits_fill(&stored, &lim) || memcmp(&lim, &stored, sizeof(lim)))
		return REG_CORRUPT;
	reg__layout_from(reg, &lim);
	if (!reg__layout_fits_bits(reg) || hdr->total_bytes != reg->bytes ||
	    file_bytes != reg->bytes)
		return REG_CORRUPT;
	if (memcmp(hdr->region, reg->span, sizeof(reg->span)))
		return REG_CORRUPT;
	if (strnlen(hdr->instance, sizeof(hdr->instance)) != 32 ||
	    strspn(hdr->instance, "0123456789abcdef") != 32)
		return REG_CORRUPT;
	return REG_OK;
}

static enum reg_status attach_checked(struct reg *reg)
{
	struct reg_header hdr;
	struct stat sb;
	enum reg_status st;

	reg->fd = open(reg->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (reg->fd < 0)
		return errno == ENOENT ? REG_NO_ARENA : REG_IO;
	if (fstat(reg->fd, &sb))
		return REG_IO;
	if (!S_ISREG(sb.st_mode) || (uint64_t)sb.st_size < sizeof(hdr))
		return REG_BAD_MAGIC;
	if (pread(reg->fd, &hdr, sizeof(hdr), 0) != (ssize_t)sizeof(hdr))
		return REG_IO;
	st = check_header(&hdr, hdr.magic, (uint64_t)sb.st_size, reg);
	if (st)
		return st;
	st = map_file(reg);
	if (st)
		return st;
	/* acquire [A1]: pairs with init_header; the header's contents after its magic */
	return atomic_load_explicit(&reg->hdr->magic, memory_order_acquire) == REG_MAGIC
		       ? REG_OK
		       : REG_BAD_MAGIC;
}

enum reg_status reg_attach(const char *path, struct reg **ret)
{
	struct reg *reg = reg_new(path);
	enum reg_status st;

	if (!reg)
		return REG_IO;
	st = attach_checked(reg);
	if (st) {
		reg_detach(reg);
		return st;
	}
	*ret = reg;
	return REG_OK;
}

bool reg_is_current(const struct reg *reg)
{
	struct stat sb;

	return !stat(reg->path, &sb) && sb.st_dev == reg->dev && sb.st_ino == reg->ino;
}

const char *reg_instance(const struct reg *reg)
{
	return reg->hdr->instance;
}

int64_t reg_created_unix_ns(const struct reg *reg)
{
	return reg->hdr->created_unix_ns;
}

uint64_t reg_epoch(const struct reg *reg)
{
	/* relaxed: a number on its own; agents compare it, order does not matter */
	return atomic_load_explicit(&reg->hdr->epoch, memory_order_relaxed);
}

enum reg_status reg_epoch_bump(struct reg *reg, uint64_t at_least)
{
	uint64_t now = reg_epoch(reg);

	if (!reg->owner)
		return REG_BAD_STATE;
	/* relaxed: see reg_epoch */
	atomic_store_explicit(&reg->hdr->epoch, now + 1 > at_least ? now + 1 : at_least,
			      memory_order_relaxed);
	return REG_OK;
}

void reg_limits_get(const struct reg *reg, struct reg_limits *ret)
{
	*ret = (struct reg_limits){
		.agents = reg->max[CELLS_AGENTS],
		.sandboxes = reg->max[CELLS_RECORDS],
		.pools = reg->max[CELLS_POOLS],
		.images = reg->max[CELLS_IMAGES],
		.slots_per_agent_unlimited = reg->slots_unlimited,
	};
}

uint64_t reg_bytes_allocated(const struct reg *reg)
{
	struct stat sb;

	return fstat(reg->fd, &sb) ? 0 : (uint64_t)sb.st_blocks * 512;
}

void reg_store_loaded_set(struct reg *reg)
{
	/* release [A2]: pairs with reg_store_loaded; the inserted records before the flag */
	atomic_store_explicit(&reg->hdr->store_loaded, 1, memory_order_release);
}

bool reg_store_loaded(const struct reg *reg)
{
	/* acquire [A2]: pairs with reg_store_loaded_set */
	return atomic_load_explicit(&reg->hdr->store_loaded, memory_order_acquire);
}
