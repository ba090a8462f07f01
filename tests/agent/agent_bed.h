/* SPDX-License-Identifier: Apache-2.0 */
/* A test bed with one agent "a" and the busybox image (with the probe in it) loaded. */
#ifndef TESTS_AGENT_AGENT_BED_H
#define TESTS_AGENT_AGENT_BED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "agent_client.h"
#include "base/clock.h"

extern struct testbed bed;
extern struct aclient client; /* registryd's role */
extern pid_t agent_pid;
extern char layout[128];

/* extra: further options, NULL-terminated; NULL for none. */
void agent_spawn(char *const extra[]);
pid_t launcher_pid(void);
/* cmocka group fixtures. */
int agent_bed_setup(void **state);
int agent_bed_teardown(void **state);

/* Nothing of any sandbox is left, and none of its mounts is seen by the host. */
void assert_nothing_left(void);

#define assert_ack(result, want)                                                                   \
	do {                                                                                       \
		struct aresult ack__r = (result);                                                  \
		if (ack__r.code != (want))                                                         \
			print_error("ack %s: %s\n", agentlink_code_name(ack__r.code),              \
				    ack__r.message);                                               \
		assert_int_equal(ack__r.code, want);                                               \
	} while (0)

#endif
