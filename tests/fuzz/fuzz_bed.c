/* SPDX-License-Identifier: Apache-2.0 */
/* The fuzzers' arena: made by a process that dies with things in its hands, mapped for patching,
 * restored page by page. */
#include "fuzz_bed.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "internal.h"

enum { EXTENTS = 1024, PATCH = 16, REGIONS = REGION_MAX };

const char *fuzz_path;
uint8_t *fuzz_map;
size_t fuzz_bytes;

static struct extent {
	uint64_t at, len;
	uint8_t *bytes;
} extents[EXTENTS];
static uint32_t n_extents;
static struct reg geo;
static uint64_t used[REGIONS]; /* bytes of a region up to its last page that is no hole */

/* ---- making it ---- */

static reg_sandbox_id run(struct reg_self *me, const char *name, uint32_t ports, uint32_t spec_len)
{
	static const uint8_t spec[3000] = "spec";
	static uint16_t port[3] = {80, 443, 8080};
	struct reg_request req = {.ns = "default",
				  .name = name,
				  .id = name,
				  .pool = "pool",
				  .image = "img",
				  .request_id = name,
				  .ports = port,
				  .port_count = ports,
				  .spec = spec,
				  .spec_len = spec_len,
				  .labels = "lab",
				  .labels_len = 4,
				  .created_unix_ns = 1000};
	struct reg_lease lease;

	for (int i = 0; i < 3; i++)
		port[i]++;
	base_bug(reg_reserve(me, &req, &lease) != REG_OK);
	if (name[0] == 'r') /* reserved: left so by the dead */
		return lease.sandbox;
	base_bug(reg_starting(me, &lease) != REG_OK);
	if (name[0] != 's')
		base_bug(reg_commit(me, &lease, &(struct reg_started){.started_unix_ns = 1}) !=
			 REG_OK);
	return lease.sandbox;
}

static void build(void)
{
	const struct reg_limits lim = {.agents = 128, .sandboxes = 128, .pools = 8, .images = 16};
	const char *const images[] = {"img", "other"};
	struct reg_sandbox_view view;
	struct reg_self *me;
	struct reg *reg;
	reg_sandbox_id id;
	char name[8];

	base_bug(reg_create(fuzz_path, &lim, &reg) != REG_OK);
	base_bug(reg_join(reg, REG_KIND_WORKER, &me) != REG_OK);
	for (int i = 0; i < 70; i++) {
		reg_agent_id agent;
		struct reg_agent_info info = {.ns = "default",
					      .name = name,
					      .pool = i % 9 ? "pool" : "other",
					      .node = "node",
					      .address = "unix:/a",
					      .host_ip = "::1",
					      .capacity = 2};

		(void)snprintf(name, sizeof(name), "a%d", i);
		base_bug(reg_agent_join(me, &info, &agent) != REG_OK);
		base_bug(reg_agent_set_ready(me, agent, true) != REG_OK);
		if (i % 4 == 0)
			base_bug(reg_agent_set_images(me, agent, images, 1 + i % 2) != REG_OK);
	}
	(void)run(me, "r1", 1, 20);
	(void)run(me, "s1", 1, 20);
	(void)run(me, "b1", 2, 2900);
	(void)run(me, "b2", 0, 700);
	base_bug(reg_exited(me, run(me, "e1", 1, 5), &(struct reg_exit){.code = 3}) != REG_OK);
	base_bug(reg_lost(me, run(me, "l1", 1, 5), "a message") != REG_OK);
	id = run(me, "g1", 1, 5);
	base_bug(reg_store_begin(me, id, &view) != REG_OK);
	base_bug(reg_stop(me, id, REG_STOP_DELETE, NULL) != REG_OK);
	base_bug(reg_stopped(me, id, NULL) != REG_OK);
	id = run(me, "t1", 1, 5);
	base_bug(reg_stop(me, id, REG_STOP_DELETE, NULL) != REG_OK);
	for (uint32_t cursor = 0; reg_next(me, &cursor, NULL, &view);)
		reg_hist_add(me, REG_HIST_TOTAL, 1000 + cursor);
	_exit(0);
}

static void remember(int fd)
{
	off_t at = 0;

	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(fd, at, SEEK_HOLE);
		struct extent *e = &extents[n_extents++];

		base_bug(n_extents >= EXTENTS || end <= at);
		*e = (struct extent){(uint64_t)at, (uint64_t)(end - at), NULL};
		e->bytes = malloc(e->len);
		base_bug(!e->bytes || pread(fd, e->bytes, e->len, at) != (ssize_t)e->len);
		for (int r = 0; r < REGIONS; r++) {
			uint64_t first = geo.span[r].off, last = first + geo.span[r].size;
			uint64_t upto = (uint64_t)end < last ? (uint64_t)end : last;

			if ((uint64_t)at < last && upto > first)
				used[r] = upto - first;
		}
		at = end;
	}
}

static void put_seed(const char *dir, const char *name, const void *bytes, size_t size)
{
	char path[4096];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "we");
	base_bug(!f || fwrite(bytes, 1, size, f) != size || fclose(f));
}

/* The header as it is, and a patch of each kind in each region. */
static void put_seeds(const char *dir)
{
	char name[32];

	put_seed(dir, "header", fuzz_map, sizeof(struct reg_header));
	for (uint8_t r = 0; r < REGIONS; r++)
		for (uint8_t op = 0; op < 8; op++) {
			uint8_t patch[2 * PATCH] = {op, r, 0, 0, (uint8_t)(op * 8), 0, 0, 0, 1};

			patch[PATCH] = op;
			patch[PATCH + 1] = r;
			patch[PATCH + 5] = op;
			memset(patch + PATCH + 8, 0xff, 8);
			(void)snprintf(name, sizeof(name), "patch-%u-%u", r, op);
			put_seed(dir, name, patch, sizeof(patch));
		}
}

void fuzz_begin(void)
{
	const char *seeds = getenv("FSB_FUZZ_SEEDS");
	struct stat sb;
	int status, fd;
	pid_t pid;

	fuzz_path = getenv("FSB_FUZZ_ARENA");
	if (!fuzz_path) {
		(void)fprintf(stderr,
			      "FSB_FUZZ_ARENA names no file to be made; see tests/fuzz/run\n");
		exit(2);
	}
	(void)unlink(fuzz_path);
	pid = fork();
	if (!pid)
		build();
	base_bug(pid < 0 || waitpid(pid, &status, 0) != pid || status);
	fd = open(fuzz_path, O_RDWR | O_CLOEXEC);
	base_bug(fd < 0 || fstat(fd, &sb));
	fuzz_bytes = (size_t)sb.st_size;
	fuzz_map = mmap(NULL, fuzz_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	base_bug(fuzz_map == MAP_FAILED);
	const struct reg_header *h = (const struct reg_header *)(const void *)fuzz_map;

	reg__layout_from(&geo,
			 &(struct reg_limits){.agents = h->max_agents,
					      .sandboxes = h->max_sandboxes,
					      .pools = h->max_pools,
					      .images = h->max_images,
					      .slots_per_agent_unlimited = h->slots_unlimited});
	base_bug(geo.bytes != fuzz_bytes);
	remember(fd);
	(void)close(fd);
	if (seeds) {
		put_seeds(seeds);
		exit(0);
	}
}

/* ---- damaging it ---- */

void fuzz_restore(void)
{
	struct stat sb;

	if (stat(fuzz_path, &sb) || (size_t)sb.st_size != fuzz_bytes)
		base_bug(truncate(fuzz_path, (off_t)fuzz_bytes) != 0);
	for (uint32_t i = 0; i < n_extents; i++)
		memcpy(fuzz_map + extents[i].at, extents[i].bytes, extents[i].len);
}

static bool touchable(uint64_t at)
{
	for (uint32_t i = 0; i < n_extents; i++)
		if (at >= extents[i].at && at + 8 <= extents[i].at + extents[i].len)
			return true;
	return false;
}

static uint64_t position(unsigned int region, uint32_t offset)
{
	uint64_t of = used[region];

	/* half of the aims go to the beginning, where the first of everything lies */
	if (offset >> 31 && of > 2048)
		of = 2048;
	return geo.span[region].off + (of ? (offset & 0x7fffffff) % of : 0);
}

static void patch_one(unsigned int op, unsigned int region, uint32_t offset, uint64_t value)
{
	uint64_t at = position(region, offset), word;
	unsigned int len = op % 8 == 1 ? 4 : op % 8 == 2 ? 1 : op % 8 == 7 ? 2 : 8;

	at = at / len * len;
	if (!touchable(at / 8 * 8))
		return;
	memcpy(&word, fuzz_map + at / 8 * 8, 8);
	switch (op % 8) {
	case 3:
		value = word ^ UINT64_C(1) << (value % 64);
		break;
	case 4:
		value = UINT64_MAX >> (value % 64);
		break;
	case 5:
		at = at / 8 * 8;
		if (!touchable(position(region, (uint32_t)value) / 8 * 8))
			return;
		memcpy(&value, fuzz_map + position(region, (uint32_t)value) / 8 * 8, 8);
		break;
	case 6:
		value = word + (uint64_t)(int64_t)(int8_t)value;
		break;
	default:
		break;
	}
	memcpy(fuzz_map + at, &value, len);
}

void fuzz_patch(const uint8_t *data, size_t size)
{
	for (; size >= PATCH; data += PATCH, size -= PATCH) {
		uint32_t offset;
		uint64_t value;

		memcpy(&offset, data + 4, 4);
		memcpy(&value, data + 8, 8);
		patch_one(data[0], data[1] % REGIONS, offset, value);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_begin();
	return 0;
}
