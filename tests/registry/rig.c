/* SPDX-License-Identifier: Apache-2.0 */
/* The shared part of the registry's tests: checks, numbers, the arena and its clean-up. Processes:
 * rig_proc.c. */
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rig_proc.h"

static char note[256];
static char alarm_path[128];

/* ---- checks ---- */
static void die(const char *file, int line)
{
	if (note[0])
		(void)fprintf(stderr, "  at: %s\n", note);
	if (rig_proc_in_child())
		_exit(99);
	_fail(file, line);
}

void rig_check(bool ok, const char *what, const char *file, int line)
{
	if (ok)
		return;
	(void)fprintf(stderr, "%s:%d: [%d] not true: %s\n", file, line, getpid(), what);
	die(file, line);
}

void rig_check_eq(uint64_t have, uint64_t want, const char *what, const char *file, int line)
{
	if (have == want)
		return;
	(void)fprintf(stderr, "%s:%d: [%d] %s is %llu (0x%llx), want %llu (0x%llx)\n", file, line,
		      getpid(), what, (unsigned long long)have, (unsigned long long)have,
		      (unsigned long long)want, (unsigned long long)want);
	die(file, line);
}

void rig_check_status(enum reg_status have, enum reg_status want, const char *what,
		      const char *file, int line)
{
	if (have == want)
		return;
	(void)fprintf(stderr, "%s:%d: [%d] %s gives %s, want %s\n", file, line, getpid(), what,
		      reg_status_name(have), reg_status_name(want));
	die(file, line);
}

void rig_check_str(const char *have, const char *want, const char *what, const char *file, int line)
{
	if (strcmp(have, want) == 0)
		return;
	(void)fprintf(stderr, "%s:%d: [%d] %s is '%s', want '%s'\n", file, line, getpid(), what,
		      have, want);
	die(file, line);
}

void rig_note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(note, sizeof(note), format, args);
	va_end(args);
}

/* ---- numbers ---- */
bool rig_long(void)
{
	const char *text = getenv("FSB_LONG");

	return text && *text && strcmp(text, "0") != 0;
}

uint32_t rig_scaled(uint32_t n)
{
	if (rig_long())
		return n * 10;
	return RIG_SANITIZED && n > 10 ? n / 10 : n;
}

uint64_t rig_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * UINT64_C(2685821657736338717);
}

uint32_t rig_below(uint64_t *state, uint32_t n)
{
	return (uint32_t)((rig_random(state) >> 33) % n);
}

uint64_t rig_seed(uint64_t fallback)
{
	const char *text = getenv("FSB_SEED");
	uint64_t seed = text && *text ? strtoull(text, NULL, 0) : fallback;

	printf("seed %llu (set FSB_SEED to repeat)\n", (unsigned long long)seed);
	return seed ? seed : 1;
}

/* ---- an arena ---- */
const struct reg_limits rig_limits = {
	.agents = 64,
	.sandboxes = 4096,
	.pools = 16,
	.images = 64,
	.slots_per_agent_unlimited = 64,
};

static void on_alarm(int sig)
{
	static const char text[] = "the test hangs: ended by its own alarm\n";

	(void)sig;
	if (rig_proc_in_child())
		_exit(98);
	if (write(2, text, sizeof(text) - 1) < 0)
		_exit(97);
	(void)unlink(alarm_path);
	_exit(98); /* the children die with us */
}

/* What a failed test has left; children leave it alone. */
static void remove_last(void)
{
	if (!rig_proc_in_child() && alarm_path[0])
		(void)unlink(alarm_path);
}

void rig_path(struct rig *rig)
{
	static int n;

	if (n == 0)
		(void)atexit(remove_last);
	remove_last();
	*rig = (struct rig){0};
	(void)snprintf(rig->path, sizeof(rig->path), "/dev/shm/fsb-test-%d-%d", getpid(), n++);
	(void)unlink(rig->path);
	(void)snprintf(alarm_path, sizeof(alarm_path), "%s", rig->path);
	(void)signal(SIGALRM, on_alarm);
	(void)alarm(rig_long() ? 3000 : 280);
	note[0] = '\0';
}

void rig_open(struct rig *rig, const struct reg_limits *limits)
{
	rig_path(rig);
	CHECK_OK(reg_create(rig->path, limits, &rig->reg));
	CHECK_OK(reg_join(rig->reg, REG_KIND_TOOL, &rig->me));
}

void rig_close(struct rig *rig)
{
	rig->me = reg_leave(rig->me);
	rig->reg = reg_detach(rig->reg);
	(void)unlink(rig->path);
	(void)alarm(0);
}

int rig_setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	if (!rig)
		return -1;
	rig_open(rig, &rig_limits);
	*state = rig;
	return 0;
}

int rig_teardown(void **state)
{
	struct rig *rig = *state;

	rig_proc_end_all();
	rig_close(rig);
	free(rig);
	return 0;
}

reg_agent_id rig_agent_in(struct rig *rig, const char *name, const char *pool, int32_t capacity)
{
	struct reg_agent_info info = {.ns = "default",
				      .name = name,
				      .pool = pool,
				      .node = "node",
				      .address = "unix:/nowhere",
				      .host_ip = "127.0.0.1",
				      .capacity = capacity};
	reg_agent_id agent;

	CHECK_OK(reg_agent_join(rig->me, &info, &agent));
	CHECK_OK(reg_agent_set_ready(rig->me, agent, true));
	return agent;
}

reg_agent_id rig_agent(struct rig *rig, const char *name, int32_t capacity)
{
	return rig_agent_in(rig, name, "pool", capacity);
}

void rig_images(struct rig *rig, reg_agent_id agent, const char *image)
{
	CHECK_OK(reg_agent_set_images(rig->me, agent, image ? &image : NULL, image ? 1 : 0));
}

struct reg_request rig_request(const char *name)
{
	return (struct reg_request){.ns = "default",
				    .name = name,
				    .id = name,
				    .pool = "pool",
				    .image = "img",
				    .created_unix_ns = 1700000000000000000,
				    .spec = "spec",
				    .spec_len = 4};
}

reg_sandbox_id rig_run(struct rig *rig, const struct reg_request *req)
{
	struct reg_started started = {.started_unix_ns = 1700000001000000000, .start_ns = 1000};
	struct reg_lease lease;

	CHECK_OK(reg_reserve(rig->me, req, &lease));
	CHECK_OK(reg_starting(rig->me, &lease));
	CHECK_OK(reg_commit(rig->me, &lease, &started));
	return lease.sandbox;
}

enum reg_state rig_state(struct rig *rig, reg_sandbox_id sandbox)
{
	struct reg_sandbox_view view;
	enum reg_status status = reg_view(rig->me, sandbox, &view);

	if (status == REG_STALE)
		return REG_FREE;
	CHECK_ST(status, REG_OK);
	return view.state;
}

/* ---- clean-up ---- */
void rig_delete(struct rig *rig, reg_sandbox_id sandbox)
{
	struct reg_sandbox_view view;
	struct reg_lease lease;

	if (reg_view(rig->me, sandbox, &view) != REG_OK || view.state == REG_GONE)
		return;
	if (view.state == REG_RESERVED || view.state == REG_STARTING) {
		CHECK_EQ(view.owner, reg_self_idx(rig->me));
		lease = (struct reg_lease){.sandbox = sandbox,
					   .agent = view.agent,
					   .slot = view.slot,
					   .slot_gen = view.slot_gen};
		CHECK_OK(reg_abort(rig->me, &lease));
		return;
	}
	if (view.state == REG_RESTORED)
		CHECK_OK(reg_lost(rig->me, sandbox, "no agent has it"));
	CHECK_OK(reg_stop(rig->me, sandbox, REG_STOP_DELETE, NULL));
	CHECK_OK(reg_stopped(rig->me, sandbox, NULL));
}

uint32_t rig_store_run(struct rig *rig)
{
	reg_sandbox_id taken[64];
	struct reg_sandbox_view view;
	uint32_t n, all = 0;

	while ((n = reg_dirty_take(rig->me, taken, 64)) > 0) {
		all += n;
		for (uint32_t i = 0; i < n; i++) {
			enum reg_status status = reg_store_begin(rig->me, taken[i], &view);

			if (status == REG_STALE)
				continue;
			CHECK_ST(status, REG_OK);
			if (view.state == REG_GONE)
				status = reg_store_forgotten(rig->me, taken[i]);
			else
				status = reg_stored(rig->me, taken[i], view.revision, 1);
			/* somebody else may have deleted it meanwhile, and forgotten it */
			CHECK(status == REG_OK || reg_view(rig->me, taken[i], &view) != REG_OK);
		}
		CHECK(all < 10000000);
	}
	return all;
}

void rig_delete_all(struct rig *rig)
{
	struct reg_sandbox_view view;
	uint32_t cursor = 0;

	while (reg_next(rig->me, &cursor, NULL, &view))
		rig_delete(rig, view.sandbox);
	(void)reg_dirty_rescan(rig->me);
	(void)rig_store_run(rig);
}

void rig_abort_orphan(void *arg, const struct reg_orphan *orphan)
{
	struct rig *rig = arg;

	CHECK_OK(reg_abort(rig->me, &orphan->lease));
}

void rig_check_sound(struct rig *rig, const char *file, int line)
{
	struct reg_books books;

	reg_books(rig->me, &books);
	rig_check_eq(books.contradictions, 0, "books.contradictions", file, line);
}

void rig_check_empty(struct rig *rig, const char *file, int line)
{
	struct reg_books books;
	struct reg_agent_view agent;
	uint32_t cursor = 0;

	reg_books(rig->me, &books);
	rig_check_eq(books.contradictions, 0, "books.contradictions", file, line);
	rig_check_eq(books.slots_held, 0, "books.slots_held", file, line);
	rig_check_eq(books.sandboxes, 0, "books.sandboxes", file, line);
	rig_check_eq(books.names, 0, "books.names", file, line);
	rig_check_eq(books.request_ids, 0, "books.request_ids", file, line);
	rig_check_eq(books.ports, 0, "books.ports", file, line);
	rig_check_eq(books.blobs, 0, "books.blobs", file, line);
	(void)reg_scrub(rig->me);
	while (reg_agent_next(rig->me, &cursor, &agent))
		rig_check_eq(agent.allocated, 0, "agent.allocated", file, line);
}

void rig_check_free_slots(struct rig *rig, const char *pool, uint32_t n)
{
	struct reg_lease *leases = calloc(n + 1, sizeof(*leases));
	struct reg_request req;
	char name[64];

	CHECK(leases);
	for (uint32_t i = 0; i <= n; i++) {
		(void)snprintf(name, sizeof(name), "free-slot-%u", i);
		req = rig_request(name);
		req.pool = pool;
		CHECK_ST(reg_reserve(rig->me, &req, &leases[i]), i < n ? REG_OK : REG_NO_CAPACITY);
	}
	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t j = 0; j < i; j++)
			CHECK(leases[i].agent.idx != leases[j].agent.idx ||
			      leases[i].slot != leases[j].slot);
	}
	for (uint32_t i = 0; i < n; i++)
		CHECK_OK(reg_abort(rig->me, &leases[i]));
	free(leases);
}
