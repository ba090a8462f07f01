/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the registry's tests share: an arena of their own under /dev/shm, child processes that
 * attach it for themselves, checks that work in parent and children alike, and the clean-up that a
 * stop and a delete need.
 */
#ifndef TESTS_REGISTRY_RIG_H
#define TESTS_REGISTRY_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "registry/registry.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RIG_SANITIZED 1
#else
#define RIG_SANITIZED 0
#endif

/* A forked child that joins starts a thread, which ThreadSanitizer can't follow when its parent had
 * threads as well. */
#ifdef __SANITIZE_THREAD__
#define RIG_SKIP_PROCESSES()                                                                       \
	do {                                                                                       \
		printf("skipped: ThreadSanitizer can't follow forked processes with threads\n");   \
		skip();                                                                            \
	} while (0)
#else
#define RIG_SKIP_PROCESSES() ((void)0)
#endif

/* ---- checks: both values are printed; a child ends with status 99, the parent fails its cmocka
 * test ---- */
void rig_check(bool ok, const char *what, const char *file, int line);
void rig_check_eq(uint64_t have, uint64_t want, const char *what, const char *file, int line);
void rig_check_status(enum reg_status have, enum reg_status want, const char *what,
		      const char *file, int line);
void rig_check_str(const char *have, const char *want, const char *what, const char *file,
		   int line);
#define CHECK(cond) rig_check(!!(cond), #cond, __FILE__, __LINE__)
#define CHECK_EQ(have, want)                                                                       \
	rig_check_eq((uint64_t)(have), (uint64_t)(want), #have, __FILE__, __LINE__)
#define CHECK_ST(expr, want)  rig_check_status((expr), (want), #expr, __FILE__, __LINE__)
#define CHECK_OK(expr)	      CHECK_ST(expr, REG_OK)
#define CHECK_STR(have, want) rig_check_str((have), (want), #have, __FILE__, __LINE__)
/* A line printed with the next failed check: which round, which failpoint. */
void rig_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- numbers ---- */
/* Iterations: n, a tenth of it under a sanitizer, ten times with $FSB_LONG. */
uint32_t rig_scaled(uint32_t n);
bool rig_long(void);
/* xorshift64*; the state must not be 0. */
uint64_t rig_random(uint64_t *state);
uint32_t rig_below(uint64_t *state, uint32_t n);
/* $FSB_SEED or the given one; printed. */
uint64_t rig_seed(uint64_t fallback);

/* ---- an arena ---- */
struct rig {
	char path[128];
	struct reg *reg;
	struct reg_self *me; /* REG_KIND_TOOL in the parent, REG_KIND_WORKER in children */
};

extern const struct reg_limits
	rig_limits; /* small: 64 agents, 4096 sandboxes, 16 pools, 64 images */

void rig_path(struct rig *rig); /* a new path under /dev/shm, nothing there */
void rig_open(struct rig *rig, const struct reg_limits *limits);
void rig_close(struct rig *rig); /* also removes the file */
/* cmocka setup and teardown with rig_limits; *state is a struct rig. */
int rig_setup(void **state);
int rig_teardown(void **state);

/* A ready agent "default"/name in pool "pool". */
reg_agent_id rig_agent(struct rig *rig, const char *name, int32_t capacity);
reg_agent_id rig_agent_in(struct rig *rig, const char *name, const char *pool, int32_t capacity);
void rig_images(struct rig *rig, reg_agent_id agent,
		const char *image); /* exactly this one; NULL: none */
/* ns default, pool "pool", image "img", id = name. */
struct reg_request rig_request(const char *name);
/* reserve → starting → commit, each OK. */
reg_sandbox_id rig_run(struct rig *rig, const struct reg_request *req);
enum reg_state rig_state(struct rig *rig, reg_sandbox_id sandbox); /* REG_FREE: stale */
/* Deletes all that is visible (also what others marked), plays the store for what it may hold. */
void rig_delete_all(struct rig *rig);
void rig_delete(struct rig *rig, reg_sandbox_id sandbox);
/* Plays the store: takes what is dirty, "writes" it, forgets what is GONE. Returns how many were
 * taken. */
uint32_t rig_store_run(struct rig *rig);
/* contradictions 0, nothing held, no sandbox, no name, request id, port; every agent's allocated 0.
 */
void rig_check_empty(struct rig *rig, const char *file, int line);
void rig_check_sound(struct rig *rig, const char *file, int line); /* contradictions 0 only */
#define CHECK_EMPTY(rig) rig_check_empty((rig), __FILE__, __LINE__)
#define CHECK_SOUND(rig) rig_check_sound((rig), __FILE__, __LINE__)
/* Takes every free slot of the pool one by one, wants exactly n, then NO_CAPACITY; gives them back.
 */
void rig_check_free_slots(struct rig *rig, const char *pool, uint32_t n);
/* rig_delete_all and abort of what an orphan is. */
void rig_abort_orphan(void *rig, const struct reg_orphan *orphan);

/* ---- processes ---- */
typedef void (*rig_fn)(struct rig *child, void *arg);
/* A child that attaches, joins, calls fn, leaves and exits 0. Dies with the parent. */
pid_t rig_fork(const struct rig *rig, rig_fn fn, void *arg);
/* Before a fork: with AddressSanitizer no other thread may be running. */
void rig_threads_rest(void);
/* As rig_fork without attaching: child->reg and child->me are NULL. */
pid_t rig_fork_bare(const struct rig *rig, rig_fn fn, void *arg);
void rig_join(pid_t pid);	  /* must exit 0 within the deadline */
bool rig_join_killed(pid_t pid);  /* true: SIGKILLed; false: it exited 0; anything else fails */
bool rig_join_stopped(pid_t pid); /* true: stopped now; false: it exited 0 */
int rig_join_status(pid_t pid);	  /* the wait status */
void rig_end(pid_t pid);	  /* SIGKILL and wait */

/* Zeroed memory shared with children forked later. */
void *rig_shared_alloc(size_t size);
void rig_shared_free(void *p, size_t size);

struct rig_barrier {
	_Atomic uint32_t arrived, round;
};
/* All n meet; yields the processor while it waits, fails after a minute. */
void rig_barrier_wait(struct rig_barrier *barrier, uint32_t n);

#endif
