/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An arena on a full tmpfs: REG_NO_SPACE from the call that needed memory, never a SIGBUS; nothing
 * is leaked, what exists goes on working, and after room was made everything works again. Each case
 * in a mount namespace of its own.
 */
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77, LEASES = 20000 };

static struct reg_lease leases[LEASES];

struct space {
	struct rig rig;
	char dir[64], ballast[96];
};

/* A private tmpfs; false when this user may not. */
static bool mount_small(struct space *space, const char *options)
{
	(void)snprintf(space->dir, sizeof(space->dir), "/tmp/fsb-test-space-%d", getpid());
	if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
		return false;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return false;
	CHECK(mkdir(space->dir, 0700) == 0);
	if (mount("tmpfs", space->dir, "tmpfs", MS_NOSUID | MS_NODEV, options) != 0) {
		(void)rmdir(space->dir);
		return false;
	}
	(void)snprintf(space->rig.path, sizeof(space->rig.path), "%s/arena", space->dir);
	(void)snprintf(space->ballast, sizeof(space->ballast), "%s/ballast", space->dir);
	return true;
}

static void unmount(struct space *space)
{
	(void)umount2(space->dir, MNT_DETACH);
	(void)rmdir(space->dir);
}

/* Leaves so many KiB. */
static void fill(struct space *space, uint64_t leave_kib)
{
	struct statvfs fs;
	uint64_t bytes;
	int fd = open(space->ballast, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK_EQ(statvfs(space->dir, &fs), 0);
	bytes = (uint64_t)fs.f_bavail * fs.f_bsize;
	bytes = bytes > leave_kib * 1024 ? bytes - leave_kib * 1024 : 0;
	if (bytes > 0)
		CHECK_EQ(posix_fallocate(fd, 0, (off_t)bytes), 0);
	(void)close(fd);
}

static void make_room(struct space *space)
{
	CHECK_EQ(unlink(space->ballast), 0);
}

static enum reg_status reserve(struct rig *rig, uint32_t i, bool port, struct reg_lease *ret)
{
	static uint8_t spec[20000];
	static const uint32_t sizes[] = {100, 20000, 600, 3000, 9000};
	struct reg_request req;
	uint16_t number = (uint16_t)(1 + i % 60000);
	char name[32];

	(void)snprintf(name, sizeof(name), "n%u", i);
	req = rig_request(name);
	req.request_id = name;
	req.ports = &number;
	req.port_count = port;
	req.spec = spec;
	req.spec_len = sizes[i % 5];
	req.labels = spec;
	req.labels_len = sizes[(i + 2) % 5] % REG_LABELS_MAX;
	return reg_reserve(rig->me, &req, ret);
}

/* Reads of what was never allocated must not fault it in. */
static void look_around(struct rig *rig)
{
	struct reg_sandbox_view view;
	struct reg_agent_view agent;
	struct reg_reap_result result;
	uint32_t cursor;
	char name[32];

	for (cursor = 0; reg_next(rig->me, &cursor, NULL, &view);)
		;
	for (cursor = 0; reg_agent_next(rig->me, &cursor, &agent);)
		;
	for (uint32_t i = 0; i < 2000; i++) {
		(void)snprintf(name, sizeof(name), "absent-%u", i);
		CHECK_ST(reg_get(rig->me, "default", name, &view), REG_NOT_FOUND);
	}
	for (uint32_t i = 0; i < 4096; i += 61)
		CHECK(reg_view(rig->me, (reg_sandbox_id){i, 1}, &view) != REG_STATUS_MAX);
	CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &result));
	(void)reg_dirty_rescan(rig->me);
	(void)reg_scrub(rig->me);
	(void)reg_store_lag_ns(rig->me);
	CHECK_SOUND(rig);
}

static uint32_t reserve_until_full(struct rig *rig)
{
	uint32_t n = 0;

	for (uint32_t i = 0, refused = 0; i < LEASES && refused < 200; i++) {
		enum reg_status status = reserve(rig, i, true, &leases[n]);

		if (status == REG_OK) {
			n++;
			continue;
		}
		CHECK_ST(status, REG_NO_SPACE);
		refused++;
	}
	return n;
}

static void full_fn(struct rig *unused, void *arg)
{
	struct space space = {0};
	struct reg_limits limits = {.agents = 512, .sandboxes = 65536, .pools = 64, .images = 64};
	struct rig *rig = &space.rig;
	struct reg_books before, after;
	char name[16];
	uint32_t n;

	(void)unused;
	(void)arg;
	if (!mount_small(&space, "size=48m"))
		_exit(SKIPPED);
	CHECK_OK(reg_create(rig->path, &limits, &rig->reg));
	CHECK_OK(reg_join(rig->reg, REG_KIND_WORKER, &rig->me));
	for (int i = 0; i < 8; i++) {
		(void)snprintf(name, sizeof(name), "a%d", i);
		(void)rig_agent(rig, name, 0);
	}
	fill(&space, 1024);
	n = reserve_until_full(rig);
	rig_note("%u reserved", n);
	look_around(rig);
	reg_books(rig->me, &before);
	CHECK_EQ(before.sandboxes, n);
	CHECK_EQ(before.slots_held, n);
	CHECK_EQ(before.names, n);
	CHECK_EQ(before.request_ids, n);
	CHECK_EQ(before.ports, n);
	/* what exists lives on: to the end, and its memory is used again */
	if (n > 0) {
		CHECK_OK(reg_starting(rig->me, &leases[0]));
		CHECK_OK(reg_commit(rig->me, &leases[0], &(struct reg_started){0}));
		rig_delete(rig, leases[0].sandbox);
		CHECK_OK(reserve(rig, 0, false, &leases[0])); /* a port would be another agent's */
	}
	make_room(&space);
	for (uint32_t i = 0; i < 300; i++) {
		struct reg_lease lease;

		rig_note("%u reserved, then %u more", n, i);
		CHECK_OK(reserve(rig, LEASES + i, true, &lease));
	}
	rig_delete_all(rig);
	reg_books(rig->me, &after);
	CHECK_EQ(after.blobs, 0);
	CHECK_EMPTY(rig);
	(void)reg_leave(rig->me);
	(void)reg_detach(rig->reg);
	unmount(&space);
}

/* Too small for an arena: refused, and the half-made file is gone. */
static void create_fn(struct rig *unused, void *arg)
{
	struct space space = {0};
	struct reg_limits limits = {.agents = 512, .sandboxes = 65536, .pools = 64, .images = 64};
	struct statvfs before, after;
	uint32_t refused = 0;

	(void)unused;
	(void)arg;
	if (!mount_small(&space, "size=64m"))
		_exit(SKIPPED);
	CHECK_EQ(statvfs(space.dir, &before), 0);
	for (uint64_t kib = 0; kib <= 32768; kib = kib ? kib * 2 : 4) {
		enum reg_status status;

		rig_note("%llu KiB left", (unsigned long long)kib);
		fill(&space, kib);
		status = reg_create(space.rig.path, &limits, &space.rig.reg);
		if (status == REG_OK) {
			CHECK_OK(reg_join(space.rig.reg, REG_KIND_TOOL, &space.rig.me));
			look_around(&space.rig);
			(void)reg_leave(space.rig.me);
			(void)reg_detach(space.rig.reg);
			CHECK_EQ(unlink(space.rig.path), 0);
		} else {
			CHECK_ST(status, REG_NO_SPACE);
			refused++;
		}
		make_room(&space);
		CHECK_EQ(statvfs(space.dir, &after), 0);
		CHECK_EQ(after.f_bavail, before.f_bavail);
		CHECK_EQ(after.f_ffree, before.f_ffree);
	}
	CHECK(refused > 0);
	unmount(&space);
}

/* Agents and images, too. */
static void agents_fn(struct rig *unused, void *arg)
{
	struct space space = {0};
	struct reg_limits limits = {
		.agents = 16384, .sandboxes = 4096, .pools = 4096, .images = 4096};
	struct rig *rig = &space.rig;
	uint32_t joined = 0, refused = 0;
	char name[16];

	(void)unused;
	(void)arg;
	if (!mount_small(&space, "size=96m"))
		_exit(SKIPPED);
	CHECK_OK(reg_create(rig->path, &limits, &rig->reg));
	CHECK_OK(reg_join(rig->reg, REG_KIND_REGISTRYD, &rig->me));
	fill(&space, 512);
	for (uint32_t i = 0; i < 16000 && refused < 50; i++) {
		struct reg_agent_info info = {.ns = "default",
					      .name = name,
					      .pool = name,
					      .node = name,
					      .address = name,
					      .host_ip = "127.0.0.1",
					      .capacity = 0};
		const char *image = name;
		enum reg_status status;
		reg_agent_id id;

		(void)snprintf(name, sizeof(name), "a%u", i);
		status = reg_agent_join(rig->me, &info, &id);
		if (status == REG_OK &&
		    (i >= 4096 || reg_agent_set_images(rig->me, id, &image, 1) == REG_OK)) {
			joined++;
			continue;
		}
		CHECK(status == REG_OK || status == REG_NO_SPACE || status == REG_LIMIT_POOLS);
		refused++;
	}
	rig_note("%u joined, %u refused", joined, refused);
	look_around(rig);
	CHECK(refused > 0);
	make_room(&space);
	(void)rig_agent(rig, "a0", 0);
	CHECK_SOUND(rig);
	(void)reg_leave(rig->me);
	(void)reg_detach(rig->reg);
	unmount(&space);
}

static void run_case(rig_fn fn)
{
	struct rig rig = {0};
	pid_t pid = rig_fork_bare(&rig, fn, NULL);
	int status = rig_join_status(pid);
	char dir[64];

	(void)snprintf(dir, sizeof(dir), "/tmp/fsb-test-space-%d", pid);
	(void)rmdir(dir); /* the mount went with the child's namespace */
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) {
		printf("skipped: this user may not mount a tmpfs in a namespace of its own\n");
		skip();
	}
	CHECK_EQ(status, 0);
}

static void test_full(void **state)
{
	(void)state;
	run_case(full_fn);
}

static void test_create_on_full(void **state)
{
	(void)state;
	run_case(create_fn);
}

static void test_agents_on_full(void **state)
{
	(void)state;
	run_case(agents_fn);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_create_on_full),
		cmocka_unit_test(test_agents_on_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
