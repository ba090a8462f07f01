/* SPDX-License-Identifier: Apache-2.0 */
/* A private directory and arena for one test, the processes that it starts, and waiting with a
 * deadline instead of sleeping. */
#ifndef TESTS_FIXTURE_H
#define TESTS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "registry/registry.h"

struct fixture {
	char dir[64];	/* removed at the end */
	char arena[64]; /* in /dev/shm */
	struct reg *reg;
	struct reg_self *me; /* a worker */
	pid_t children[16];
	int child_count;
};

struct fixture *fixture_new(void);
/* Kills what still runs, detaches, removes files. */
void fixture_free(struct fixture *f);

/* The arena as this process makes or finds it, joined as a worker. */
void fixture_create_arena(struct fixture *f);
bool fixture_attach_arena(struct fixture *f, uint64_t timeout_ns);
void fixture_detach_arena(struct fixture *f);

/* argv ends with NULL; env: "NAME=value" or NULL, added. stderr goes to DIR/LOG. */
pid_t fixture_spawn(struct fixture *f, const char *const *argv, const char *env, const char *log);
/* Exit code, 128 + signal when killed; fails the test when it does not end in time. */
int fixture_wait(struct fixture *f, pid_t pid, uint64_t timeout_ns);
/* Sends the signal and waits. */
int fixture_end(struct fixture *f, pid_t pid, int signo);
/* SIGSTOP, and it has stopped. */
void fixture_stop(pid_t pid);
void fixture_print_log(struct fixture *f, const char *log);

/* Evaluates cond until it is true; fails with its text after 10 s. */
#define WAIT_FOR(cond)                                                                             \
	do {                                                                                       \
		uint64_t wait_deadline_ = clock_mono_ns() + 10 * NS_PER_S;                         \
		while (!(cond)) {                                                                  \
			if (clock_mono_ns() > wait_deadline_)                                      \
				fail_msg("not within 10 s: %s", #cond);                            \
			usleep(1000);                                                              \
		}                                                                                  \
	} while (0)

#define assert_reg(want, got)                                                                      \
	do {                                                                                       \
		enum reg_status got_ = (got);                                                      \
		if (got_ != (want))                                                                \
			fail_msg("%s: %s, wanted %s", #got, reg_status_name(got_),                 \
				 reg_status_name(want));                                           \
	} while (0)

/* A ready agent that nobody runs: only its slots are used. */
reg_agent_id fixture_agent(struct fixture *f, const char *name, int32_t capacity);

/* A request with everything set; name decides id, request id and labels. Blobs are the fixture's
 * until the next call. */
struct reg_request fixture_request(const char *name);
/* The same with ports 8080 and 22. */
struct reg_request fixture_request_ports(const char *name);
/* reserve, starting, commit. */
reg_sandbox_id fixture_run(struct fixture *f, const struct reg_request *req);
/* stop and stopped: gone. */
void fixture_delete(struct fixture *f, reg_sandbox_id sandbox);

#endif
