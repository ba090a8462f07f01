/* SPDX-License-Identifier: Apache-2.0 */
/* An arena, a database file and fsb-crdsync processes between them. */
#ifndef TESTS_CRDSYNC_RIG_H
#define TESTS_CRDSYNC_RIG_H

#include <signal.h>
#include <unistd.h>

#include "fixture.h"

#include "base/clock.h"

struct test {
	struct fixture *f;
	char db[128], url[160];
};

int rig_setup(void **state);
int rig_teardown(void **state);
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

pid_t start_with(struct test *t, const char *url, const char *env);
pid_t start(struct test *t);
/* Started and the store loaded. */
pid_t start_loaded(struct test *t);
/* One number or text of the database (static storage); the file may not exist yet. */
char *query(struct test *t, const char *sql);
void execute(struct test *t, const char *sql);
bool is_stored(struct test *t, reg_sandbox_id sandbox);
bool is_freed(struct test *t, reg_sandbox_id sandbox);
/* status.phase of the row of that name. */
void assert_phase(struct test *t, const char *name, const char *phase);

#endif
