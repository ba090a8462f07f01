/* SPDX-License-Identifier: Apache-2.0 */
/* The arena that is poked: what is in it, and where. */
#include "bed.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void put(struct rig *rig, const char *name, uint32_t ports, uint32_t spec_len,
		struct reg_lease *ret)
{
	static uint8_t spec[4096];
	static uint16_t next = 1000;
	uint16_t some[3] = {(uint16_t)(next + 1), next, (uint16_t)(next + 2)};
	struct reg_request req = rig_request(name);

	next = (uint16_t)(next + 3);
	memset(spec, 's', sizeof(spec));
	req.request_id = name;
	req.ports = some;
	req.port_count = ports;
	req.spec = spec;
	req.spec_len = spec_len;
	req.labels = name;
	req.labels_len = 5;
	CHECK_OK(reg_reserve(rig->me, &req, ret));
}

static reg_sandbox_id run(struct rig *rig, const char *name, uint32_t ports, uint32_t spec_len)
{
	struct reg_lease lease;

	put(rig, name, ports, spec_len, &lease);
	CHECK_OK(reg_starting(rig->me, &lease));
	CHECK_OK(reg_commit(rig->me, &lease, &(struct reg_started){.started_unix_ns = 1}));
	return lease.sandbox;
}

/* RUNNING with and without ports and with a large spec, EXITED, LOST with a message, STOPPING,
 * EXPIRED, GONE, one that has gone, agents in two pools, two images. */
static void build(struct rig *rig)
{
	struct reg_sandbox_view view;
	reg_sandbox_id id;
	char name[16];

	CHECK_OK(reg_create(rig->path, &rig_limits, &rig->reg));
	CHECK_OK(reg_join(rig->reg, REG_KIND_REGISTRYD, &rig->me));
	for (int i = 0; i < 4; i++) {
		(void)snprintf(name, sizeof(name), "a%d", i);
		rig_images(rig, rig_agent_in(rig, name, i < 3 ? "pool" : "other", 70),
			   i % 2 ? "img" : "other-img");
	}
	(void)run(rig, "running", 0, 20);
	(void)run(rig, "ported", 3, 20);
	(void)run(rig, "ported2", 2, 20);
	(void)run(rig, "large", 0, 4000);
	CHECK_OK(reg_exited(rig->me, run(rig, "exited", 1, 700),
			    &(struct reg_exit){.code = 1, .finished_unix_ns = 5}));
	CHECK_OK(reg_lost(rig->me, run(rig, "lost", 1, 0), "gone away"));
	CHECK_OK(reg_stop(rig->me, run(rig, "stopping", 0, 20), REG_STOP_DELETE, NULL));
	id = run(rig, "expired", 0, 20);
	CHECK_OK(reg_stop(rig->me, id, REG_STOP_EXPIRE, NULL));
	CHECK_OK(reg_stopped(rig->me, id, NULL));
	id = run(rig, "to-be-gone", 1, 20);
	CHECK_OK(reg_store_begin(rig->me, id, &view));
	CHECK_OK(reg_stopped(rig->me, id, NULL));
	CHECK_OK(reg_stop(rig->me, id, REG_STOP_DELETE, NULL));
	CHECK_OK(reg_stopped(rig->me, id, NULL));
	id = run(rig, "forgotten", 0, 20);
	CHECK_OK(reg_stop(rig->me, id, REG_STOP_DELETE, NULL));
	CHECK_OK(reg_stopped(rig->me, id, NULL));
}

static void build_fn(struct rig *rig, void *arg)
{
	(void)arg;
	build(rig);
	(void)reg_leave(rig->me);
	(void)reg_detach(rig->reg);
}

static void build_killed_fn(struct rig *rig, void *arg)
{
	struct reg_lease lease;

	(void)arg;
	build(rig);
	put(rig, "reserved", 1, 20, &lease);
	put(rig, "starting", 1, 900, &lease);
	CHECK_OK(reg_starting(rig->me, &lease));
	(void)raise(SIGKILL);
}

/* ---- the file ---- */

static void remember(struct bed *bed, int fd)
{
	off_t at = 0;

	bed->n_extents = 0;
	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		struct bed_extent *e = &bed->extents[bed->n_extents++];
		off_t end = lseek(fd, at, SEEK_HOLE);

		CHECK(bed->n_extents < 512);
		*e = (struct bed_extent){(uint64_t)at, (uint64_t)(end - at), NULL};
		e->bytes = malloc(e->len);
		CHECK(e->bytes);
		CHECK_EQ(pread(fd, e->bytes, e->len, at), e->len);
		at = end;
	}
}

static void make(struct bed *bed, rig_fn fn)
{
	struct reg_limits lim = rig_limits, full;
	struct stat sb;
	pid_t pid;
	int fd;

	memset(bed, 0, sizeof(*bed));
	rig_path(&bed->rig);
	pid = rig_fork_bare(&bed->rig, fn, NULL);
	if (fn == build_fn)
		rig_join(pid);
	else
		CHECK(rig_join_killed(pid));
	fd = open(bed->rig.path, O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_EQ(fstat(fd, &sb), 0);
	bed->size = (uint64_t)sb.st_size;
	bed->map = mmap(NULL, bed->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(bed->map != MAP_FAILED);
	remember(bed, fd);
	(void)close(fd);
	CHECK(reg__limits_fill(&lim, &full));
	reg__layout_from(&bed->geo, &full);
	CHECK_EQ(bed->geo.bytes, bed->size);
}

void bed_make(struct bed *bed)
{
	make(bed, build_fn);
}

void bed_make_killed(struct bed *bed)
{
	make(bed, build_killed_fn);
}

void bed_free(struct bed *bed)
{
	for (uint32_t i = 0; i < bed->n_extents; i++)
		free(bed->extents[i].bytes);
	(void)munmap(bed->map, bed->size);
	(void)unlink(bed->rig.path);
}

static bool made_with(const struct bed *bed, uint64_t at)
{
	for (uint32_t i = 0; i < bed->n_extents; i++)
		if (at >= bed->extents[i].at && at < bed->extents[i].at + bed->extents[i].len)
			return true;
	return false;
}

void bed_restore(struct bed *bed)
{
	int fd = open(bed->rig.path, O_RDONLY | O_CLOEXEC);
	off_t at = 0;

	CHECK(fd >= 0);
	/* pages that a poke was the first to touch */
	while ((at = lseek(fd, at, SEEK_DATA)) >= 0)
		for (off_t end = lseek(fd, at, SEEK_HOLE); at < end; at += 4096)
			if (!made_with(bed, (uint64_t)at))
				memset(bed->map + at, 0, 4096);
	(void)close(fd);
	for (uint32_t i = 0; i < bed->n_extents; i++)
		memcpy(bed->map + bed->extents[i].at, bed->extents[i].bytes, bed->extents[i].len);
}

uint64_t bed_changed(const struct bed *bed)
{
	uint64_t n = 0, at = 0;
	int fd = open(bed->rig.path, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	for (uint32_t i = 0; i < bed->n_extents; i++) {
		const struct bed_extent *e = &bed->extents[i];

		if (lseek(fd, (off_t)at, SEEK_DATA) != (off_t)e->at ||
		    lseek(fd, (off_t)e->at, SEEK_HOLE) != (off_t)(e->at + e->len))
			n += e->len;
		n += memcmp(bed->map + e->at, e->bytes, e->len) != 0;
		at = e->at + e->len;
	}
	(void)close(fd);
	return n;
}

/* ---- places ---- */

void *bed_at(const struct bed *bed, enum reg_region region, uint64_t off)
{
	CHECK(off < bed->geo.span[region].size);
	return bed->map + bed->geo.span[region].off + off;
}

struct reg_header *bed_header(const struct bed *bed)
{
	return (struct reg_header *)(void *)bed->map;
}

struct reg_part *bed_part(const struct bed *bed, uint32_t idx)
{
	return bed_at(bed, REGION_PARTS, (uint64_t)idx * sizeof(struct reg_part));
}

struct reg_rec *bed_rec(const struct bed *bed, uint32_t idx)
{
	return bed_at(bed, REGION_RECORDS, (uint64_t)idx * sizeof(struct reg_rec));
}

struct reg_agent *bed_agent(const struct bed *bed, uint32_t idx)
{
	return bed_at(bed, REGION_AGENTS, (uint64_t)idx * sizeof(struct reg_agent));
}

a64 *bed_cell(const struct bed *bed, enum reg_cells_kind kind, uint32_t idx)
{
	return bed_at(bed, REGION_CELL_WORDS + kind, (uint64_t)idx * 8);
}

uint32_t bed_find(const struct bed *bed, const char *name)
{
	for (uint32_t i = 0; i < rig_limits.sandboxes; i++)
		if (word_state(*bed_cell(bed, CELLS_RECORDS, i)) &&
		    !strcmp((const char *)bed_rec(bed, i)->name, name))
			return i;
	rig_note("no record '%s'", name);
	CHECK(false);
	return 0;
}

a64 *bed_slot_of(const struct bed *bed, uint32_t record)
{
	uint64_t place = bed_rec(bed, record)->place;
	const struct reg_agent *agent = bed_agent(bed, place_agent(place));
	uint32_t chunk = agent->chunk[place_slot(place) / REG_CHUNK_SLOTS];

	CHECK(place & PLACE_HELD && chunk);
	return bed_at(
		bed, REGION_CHUNK_SLOTS,
		((uint64_t)(chunk - 1) * REG_CHUNK_SLOTS + place_slot(place) % REG_CHUNK_SLOTS) *
			8);
}

struct reg_bucket *bed_bucket(const struct bed *bed, enum reg_index_kind kind, uint32_t bucket)
{
	return bed_at(bed, REGION_INDEX + kind,
		      (uint64_t)(bucket & bed->geo.bucket_mask[kind]) * sizeof(struct reg_bucket));
}

a64 *bed_entry(const struct bed *bed, enum reg_index_kind kind, uint32_t cell, uint32_t *ret_bucket)
{
	for (uint32_t b = 0; b <= bed->geo.bucket_mask[kind]; b++)
		for (int i = 0; i < REG_BUCKET_ENTRIES; i++) {
			a64 *e = &bed_bucket(bed, kind, b)->entry[i];

			if (!entry_state(*e) || entry_cell(*e) != cell)
				continue;
			if (ret_bucket)
				*ret_bucket = b;
			return e;
		}
	rig_note("no entry in index %d for cell %u", (int)kind, cell);
	CHECK(false);
	return NULL;
}
