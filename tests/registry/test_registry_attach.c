/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile arena files: other contents, truncated, each byte of the header changed, random bytes
 * changed anywhere. Attach answers with a typed status, and what attaches all the same never
 * crashes or hangs the calls that read or write it.
 */
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HEADER_BYTES = 4096, USED_MAX = 65536 };

/* A copy of an arena's allocated bytes. The parent has it mapped without ever attaching. */
struct image {
	struct rig rig; /* path only */
	uint8_t *map;
	size_t size;
	struct extent {
		off_t start, end;
		uint8_t *bytes;
	} extents[256];
	int count;
	size_t data_bytes;
	size_t used[USED_MAX]; /* offsets of 32-bit words that are not 0 */
	uint32_t used_count;
};

static void build_fn(struct rig *rig, void *arg)
{
	uint16_t ports[2] = {80, 443};
	struct reg_request req;
	struct reg_lease lease;
	char name[16];

	(void)arg;
	CHECK_OK(reg_create(rig->path, &rig_limits, &rig->reg));
	CHECK_OK(reg_join(rig->reg, REG_KIND_REGISTRYD, &rig->me));
	for (int i = 0; i < 4; i++) {
		(void)snprintf(name, sizeof(name), "a%d", i);
		rig_images(rig, rig_agent(rig, name, 8), i % 2 ? "img" : "other");
	}
	for (int i = 0; i < 20; i++) {
		(void)snprintf(name, sizeof(name), "s%d", i);
		req = rig_request(name);
		req.request_id = i % 2 ? name : NULL;
		req.ports = ports;
		req.port_count = i < 4 ? 1 : 0;
		req.labels = name;
		req.labels_len = 3;
		CHECK_OK(reg_reserve(rig->me, &req, &lease));
		if (i % 5 == 0)
			continue;
		CHECK_OK(reg_starting(rig->me, &lease));
		CHECK_OK(reg_commit(rig->me, &lease, &(struct reg_started){0}));
		if (i % 5 == 1)
			CHECK_OK(reg_exited(rig->me, lease.sandbox, &(struct reg_exit){.code = 1}));
		if (i % 5 == 2)
			CHECK_OK(reg_lost(rig->me, lease.sandbox, "gone"));
	}
	(void)reg_leave(rig->me);
	(void)reg_detach(rig->reg);
}

static void read_extents(struct image *image, int fd)
{
	off_t at = 0;

	for (;;) {
		struct extent *extent = &image->extents[image->count];
		size_t len;

		at = lseek(fd, at, SEEK_DATA);
		if (at < 0)
			break;
		CHECK(image->count < 256);
		extent->start = at;
		extent->end = at = lseek(fd, at, SEEK_HOLE);
		len = (size_t)(extent->end - extent->start);
		extent->bytes = malloc(len);
		CHECK(extent->bytes);
		CHECK_EQ(pread(fd, extent->bytes, len, extent->start), len);
		image->data_bytes += len;
		image->count++;
	}
}

static void image_make(struct image *image)
{
	struct stat st;
	int fd;

	memset(image, 0, sizeof(*image));
	rig_path(&image->rig);
	rig_join(rig_fork_bare(&image->rig, build_fn, NULL));
	fd = open(image->rig.path, O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_mode & 07777, 0600);
	image->size = (size_t)st.st_size;
	image->map = mmap(NULL, image->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(image->map != MAP_FAILED);
	read_extents(image, fd);
	(void)close(fd);
}

static void image_restore(struct image *image)
{
	for (int i = 0; i < image->count; i++)
		memcpy(image->map + image->extents[i].start, image->extents[i].bytes,
		       (size_t)(image->extents[i].end - image->extents[i].start));
}

/* A position among the allocated bytes. */
static size_t image_position(const struct image *image, size_t n)
{
	for (int i = 0; i < image->count; i++) {
		size_t len = (size_t)(image->extents[i].end - image->extents[i].start);

		if (n < len)
			return (size_t)image->extents[i].start + n;
		n -= len;
	}
	return 0;
}

static void image_free(struct image *image)
{
	for (int i = 0; i < image->count; i++)
		free(image->extents[i].bytes);
	(void)munmap(image->map, image->size);
	(void)unlink(image->rig.path);
	(void)alarm(0);
}

/* ---- the reader of a hostile arena ---- */
static void read_everything(struct rig *rig)
{
	static char buf[REG_SPEC_MAX];
	static struct reg_sandbox_view view;
	struct reg_agent_view agent;
	struct reg_pool_view pool;
	struct reg_participant participant;
	struct reg_books books;
	char ref[REG_IMAGE_MAX + 1], name[16];
	uint32_t cursor, n, len;

	for (cursor = 0, n = 0; n < 10000 && reg_next(rig->me, &cursor, NULL, &view); n++) {
		(void)!reg_spec(rig->me, view.sandbox, buf, sizeof(buf), &len);
		(void)!reg_labels(rig->me, view.sandbox, buf, sizeof(buf), &len);
		(void)strlen(view.name);
	}
	for (int i = 0; i < 20; i++) {
		(void)snprintf(name, sizeof(name), "s%d", i);
		(void)!reg_get(rig->me, "default", name, &view);
	}
	for (cursor = 0, n = 0; n < 10000 && reg_agent_next(rig->me, &cursor, &agent); n++)
		for (uint32_t at = 0, i = 0;
		     i < 1000 && reg_agent_image_next(rig->me, agent.id, &at, ref);)
			i++;
	for (cursor = 0, n = 0; n < 10000 && reg_image_next(rig->me, &cursor, ref, &len);)
		n++;
	for (cursor = 0, n = 0; n < 10000 && reg_pool_next(rig->me, &cursor, &pool);)
		n++;
	for (cursor = 0, n = 0; n < 10000 && reg_participant_next(rig->me, &cursor, &participant);)
		n++;
	reg_books(rig->me, &books);
}

static void ignore_orphan(void *arg, const struct reg_orphan *orphan)
{
	(void)reg_abort(((struct rig *)arg)->me, &orphan->lease);
}

static void write_everything(struct rig *rig)
{
	uint16_t ports[2] = {81, 80};
	struct reg_sandbox_view view;
	struct reg_reap_result result;
	struct reg_lease lease;
	reg_sandbox_id taken[16];
	char name[16];

	for (int i = 15; i < 25; i++) {
		struct reg_request req;

		(void)snprintf(name, sizeof(name), "s%d", i);
		req = rig_request(name);
		req.request_id = name;
		req.ports = ports;
		req.port_count = 2;
		if (reg_reserve(rig->me, &req, &lease) == REG_OK)
			(void)reg_abort(rig->me, &lease);
	}
	(void)reg_reap(rig->me, ignore_orphan, rig, &result);
	for (uint32_t cursor = 0, n = 0; n < 100 && reg_next(rig->me, &cursor, NULL, &view); n++) {
		(void)!reg_stop(rig->me, view.sandbox, REG_STOP_DELETE, NULL);
		(void)reg_stopped(rig->me, view.sandbox, NULL);
	}
	for (uint32_t n = reg_dirty_take(rig->me, taken, 16); n > 0 && n <= 16; n--)
		(void)!reg_store_begin(rig->me, taken[n - 1], &view);
	(void)reg_scrub(rig->me);
	read_everything(rig);
}

/* Exit status: the status of attach. */
static void hostile_fn(struct rig *rig, void *arg)
{
	struct rlimit no_core = {0, 0};
	enum reg_status status;

	(void)setrlimit(RLIMIT_CORE, &no_core);
	(void)alarm(20);
	status = reg_attach(rig->path, &rig->reg);
	if (status != REG_OK) {
		CHECK(status > REG_OK && status < REG_STATUS_MAX && !rig->reg);
		_exit((int)status);
	}
	if (arg && reg_join(rig->reg, REG_KIND_TOOL, &rig->me) == REG_OK) {
		read_everything(rig);
		write_everything(rig);
	}
	_exit(REG_OK);
}

static enum reg_status hostile(struct rig *rig, bool use)
{
	int status = rig_join_status(rig_fork_bare(rig, hostile_fn, use ? rig : NULL));

	if (!WIFEXITED(status) || WEXITSTATUS(status) >= REG_STATUS_MAX)
		(void)fprintf(stderr, "wait status 0x%x\n", (unsigned)status);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) < REG_STATUS_MAX);
	return (enum reg_status)WEXITSTATUS(status);
}

/* ---- tests ---- */
static void write_file(const char *path, const void *bytes, size_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, bytes, size), size);
	(void)close(fd);
}

static void test_not_an_arena(void **state)
{
	static uint8_t garbage[1 << 20];
	struct rig rig;
	uint64_t random = rig_seed(5);
	struct reg *reg = NULL;

	(void)state;
	rig_path(&rig);
	CHECK_ST(reg_attach(rig.path, &reg), REG_NO_ARENA);
	CHECK_ST(reg_attach("/nowhere/at/all", &reg), REG_NO_ARENA);
	CHECK(!reg);
	write_file(rig.path, "", 0);
	CHECK_ST(hostile(&rig, false), REG_BAD_MAGIC);
	write_file(rig.path, "short", 5);
	CHECK_ST(hostile(&rig, false), REG_BAD_MAGIC);
	write_file(rig.path, garbage, sizeof(garbage)); /* zeros */
	CHECK_ST(hostile(&rig, false), REG_BAD_MAGIC);
	for (size_t i = 0; i < sizeof(garbage); i++)
		garbage[i] = (uint8_t)rig_random(&random);
	write_file(rig.path, garbage, sizeof(garbage));
	CHECK_ST(hostile(&rig, false), REG_BAD_MAGIC);
	(void)unlink(rig.path);
	CHECK_EQ(mkdir(rig.path, 0700), 0);
	CHECK(reg_attach(rig.path, &reg) != REG_OK);
	CHECK_EQ(rmdir(rig.path), 0);
	CHECK_EQ(mkfifo(rig.path, 0600), 0); /* must not wait for a writer */
	CHECK(hostile(&rig, false) != REG_OK);
	(void)unlink(rig.path);
}

static void test_truncated(void **state)
{
	static struct image image;
	size_t lengths[40];
	int n = 0;

	(void)state;
	image_make(&image);
	CHECK_ST(hostile(&image.rig, true), REG_OK);
	for (size_t len = 1; len < image.size && n < 36; len *= 2)
		lengths[n++] = len;
	lengths[n++] = image.size - 1;
	lengths[n++] = image.size - 4096;
	while (n-- > 0) { /* the longest first */
		enum reg_status status;

		rig_note("truncated to %zu", lengths[n]);
		CHECK_EQ(truncate(image.rig.path, (off_t)lengths[n]), 0);
		status = hostile(&image.rig, true);
		CHECK(status == REG_BAD_MAGIC || status == REG_BAD_LAYOUT || status == REG_CORRUPT);
	}
	image_free(&image);
}

static void test_header_bytes(void **state)
{
	static struct image image;
	uint32_t refused = 0, step = rig_long() ? 1 : 3;

	(void)state;
	image_make(&image);
	for (size_t at = 0; at < HEADER_BYTES; at += at < 256 ? 1 : step) {
		rig_note("header byte %zu", at);
		image_restore(&image);
		image.map[at] ^= 0xff;
		refused += hostile(&image.rig, true) != REG_OK;
		image_restore(&image);
		image.map[at] ^= 0x01;
		refused += hostile(&image.rig, true) != REG_OK;
	}
	printf("%u changes refused\n", refused);
	CHECK(refused > 64);
	image_restore(&image);
	image.map[0] ^= 0x10; /* the magic comes first */
	CHECK_ST(hostile(&image.rig, true), REG_BAD_MAGIC);
	image_restore(&image);
	CHECK_ST(hostile(&image.rig, true), REG_OK);
	image_free(&image);
}

/* Where 32 bits are in use behind the header, which has its own test: that is where damage is read.
 */
static void find_used(struct image *image)
{
	for (int i = 0; i < image->count; i++)
		for (off_t at = image->extents[i].start; at + 4 <= image->extents[i].end; at += 4) {
			uint32_t word;

			memcpy(&word, image->map + at, sizeof(word));
			if (word && at >= HEADER_BYTES && image->used_count < USED_MAX)
				image->used[image->used_count++] = (size_t)at;
		}
}

static void corrupt(struct image *image, uint64_t *random)
{
	uint32_t kind = rig_below(random, 6), flips = 1 + rig_below(random, 64);

	for (uint32_t i = 0; i < flips; i++) {
		size_t used = image->used[rig_below(random, image->used_count)];
		size_t any = image_position(image, rig_random(random) % image->data_bytes);
		uint64_t word = rig_random(random), extreme = UINT64_MAX >> (word % 64);

		if (kind == 0)
			image->map[used + word % 4] ^= (uint8_t)(1u << (word / 4 % 8));
		else if (kind == 1)
			image->map[any] = (uint8_t)word;
		else if (kind == 2)
			memcpy(image->map + used, &extreme, 4);
		else if (kind == 3)
			memcpy(image->map + used, &word, 4);
		else
			memcpy(image->map + (kind == 4 ? used : any) / 8 * 8,
			       i % 2 ? &word : &extreme, 8);
	}
}

static void test_random_damage(void **state)
{
	static struct image image;
	uint64_t random = rig_seed(77);
	uint32_t n = rig_scaled(3000), attached = 0;

	(void)state;
	image_make(&image);
	find_used(&image);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t before = random;

		image_restore(&image);
		corrupt(&image, &random);
		rig_note("damage %u, seed %llu", i, (unsigned long long)before);
		attached += hostile(&image.rig, true) == REG_OK;
	}
	printf("%u of %u attached; %zu bytes of data, %u words in use\n", attached, n,
	       image.data_bytes, image.used_count);
	CHECK(attached > n / 10);
	image_free(&image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_not_an_arena),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_header_bytes),
		cmocka_unit_test(test_random_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
