/* SPDX-License-Identifier: Apache-2.0 */
/* See rig.h. */
#include "rig.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int rig_setup(void **state)
{
	struct test *t = calloc(1, sizeof(*t));

	t->f = fixture_new();
	snprintf(t->db, sizeof(t->db), "%s/store.db", t->f->dir);
	snprintf(t->url, sizeof(t->url), "sqlite:%s", t->db);
	fixture_create_arena(t->f);
	*state = t;
	return 0;
}

int rig_teardown(void **state)
{
	struct test *t = *state;

	fixture_free(t->f);
	free(t);
	return 0;
}

/* It has joined: signals have their handlers from before that. */
static bool has_joined(struct test *t, pid_t pid)
{
	struct reg_participant p;
	uint32_t cursor = 0;

	while (reg_participant_next(t->f->me, &cursor, &p)) {
		if (p.pid == pid)
			return true;
	}
	return false;
}

pid_t start_with(struct test *t, const char *url, const char *env)
{
	const char *const argv[] = {FSB_CRDSYNC, "--arena", t->f->arena, "--store", url, NULL};

	return fixture_spawn(t->f, argv, env, "crdsync.log");
}

pid_t start(struct test *t)
{
	return start_with(t, t->url, NULL);
}

/* Started and the store loaded. */
pid_t start_loaded(struct test *t)
{
	pid_t pid = start(t);

	WAIT_FOR(reg_store_loaded(t->f->reg) && has_joined(t, pid));
	return pid;
}

/* One number or text of the database; the file may not exist yet. */
char *query(struct test *t, const char *sql)
{
	static char result[65536];
	sqlite3_stmt *stmt = NULL;
	sqlite3 *db = NULL;

	strcpy(result, "(nothing)");
	if (sqlite3_open_v2(t->db, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK) {
		sqlite3_busy_timeout(db, 5000);
		if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
		    sqlite3_step(stmt) == SQLITE_ROW)
			snprintf(result, sizeof(result), "%s",
				 (const char *)sqlite3_column_text(stmt, 0));
		sqlite3_finalize(stmt);
	}
	sqlite3_close(db);
	return result;
}

void execute(struct test *t, const char *sql)
{
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(t->db, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

bool is_stored(struct test *t, reg_sandbox_id sandbox)
{
	struct reg_sandbox_view view;

	assert_reg(REG_OK, reg_view(t->f->me, sandbox, &view));
	return view.stored_revision == view.revision;
}

bool is_freed(struct test *t, reg_sandbox_id sandbox)
{
	struct reg_sandbox_view view;

	return reg_view(t->f->me, sandbox, &view) == REG_STALE;
}

/* Row and record agree, and the record holds the newest state. */
void assert_phase(struct test *t, const char *name, const char *phase)
{
	char sql[256];

	snprintf(sql, sizeof(sql),
		 "SELECT json_extract(json, '$.status.phase') FROM objects WHERE name = '%s'",
		 name);
	assert_string_equal(query(t, sql), phase);
}
