/* SPDX-License-Identifier: Apache-2.0 */
/* The SQLite store on real files: transactions, order, refusals, and the lock that keeps a second
 * crdsync out. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/io.h"
#include "store.h"

struct files {
	char dir[64], path[128], url[160];
};

static int setup(void **state)
{
	struct files *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/fsb-store-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/store.db", f->dir);
	snprintf(f->url, sizeof(f->url), "sqlite:%s", f->path);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct files *f = *state;

	io_remove_tree(AT_FDCWD, f->dir);
	free(f);
	return 0;
}

static struct crd_store *open_store(const struct files *f)
{
	struct crd_store *store = NULL;
	struct err err = ERR_INIT;

	if (crd_store_open(f->url, &store, &err) < 0)
		fail_msg("%s", err.msg);
	return store;
}

static int put(struct crd_store *s, const char *id, const char *json)
{
	return s->ops->put(s,
			   &(struct crd_row){.id = id,
					     .ns = "default",
					     .name = id,
					     .json = json,
					     .json_len = strlen(json)},
			   NULL);
}

/* "id=json " of all rows */
static int collect(void *arg, const struct crd_row *row)
{
	char *to = arg;

	assert_int_equal(strlen(row->json), row->json_len);
	sprintf(to + strlen(to), "%s=%s ", row->id, row->json);
	return 0;
}

static void assert_rows(struct crd_store *s, const char *wanted)
{
	char got[256] = "";

	assert_int_equal(s->ops->load(s, collect, got, NULL), 0);
	assert_string_equal(got, wanted);
}

static void test_transactions(void **state)
{
	struct crd_store *s = open_store(*state);

	assert_int_equal(s->ops->begin(s, NULL), 0);
	assert_int_equal(put(s, "a", "1"), 0);
	assert_int_equal(put(s, "b", "1"), 0);
	assert_int_equal(put(s, "a", "2"), 0);
	assert_int_equal(s->ops->commit(s, NULL), 0);
	assert_rows(s, "b=1 a=2 "); /* newest insert first; an update keeps its place */
	assert_int_equal(s->ops->begin(s, NULL), 0);
	assert_int_equal(s->ops->del(s, "a", NULL), 0);
	assert_int_equal(s->ops->del(s, "nobody", NULL), 0);
	s->ops->rollback(s);
	s->ops->rollback(s);
	crd_store_close(s);
	s = open_store(*state);
	assert_rows(s, "b=1 a=2 ");
	crd_store_close(s);
}

static void test_instance(void **state)
{
	struct crd_store *s = open_store(*state);
	char text[64];

	assert_int_equal(s->ops->get_instance(s, text, sizeof(text), NULL), 0);
	assert_string_equal(text, "");
	assert_int_equal(s->ops->set_instance(s, "one", NULL), 0);
	assert_int_equal(s->ops->set_instance(s, "two", NULL), 0);
	crd_store_close(s);
	s = open_store(*state);
	assert_int_equal(s->ops->get_instance(s, text, sizeof(text), NULL), 0);
	assert_string_equal(text, "two");
	crd_store_close(s);
}

static void test_private_file(void **state)
{
	const struct files *f = *state;
	mode_t old = umask(0077);
	struct crd_store *s = open_store(f);
	struct stat st;

	umask(old);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	crd_store_close(s);
}

static void sql(const struct files *f, const char *text)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void assert_refused(const struct files *f, int code, const char *word)
{
	struct crd_store *s = NULL;
	struct err err = ERR_INIT;
	int r = crd_store_open(f->url, &s, &err);

	if (r != code || !strstr(err.msg, word) || !strstr(err.msg, "store.db"))
		fail_msg("code %d, message '%s', wanted %d and '%s'", r, err.msg, code, word);
}

static void test_other_program(void **state)
{
	sql(*state, "CREATE TABLE t(a)");
	assert_refused(*state, -EINVAL, "another program");
}

static void test_newer_schema(void **state)
{
	crd_store_close(open_store(*state));
	sql(*state, "PRAGMA user_version = 99");
	assert_refused(*state, -EINVAL, "99");
}

static void test_not_a_database(void **state)
{
	const struct files *f = *state;
	char junk[4096];

	memset(junk, 'x', sizeof(junk));
	assert_int_equal(io_write_file_atomic(AT_FDCWD, f->path, junk, sizeof(junk), 0600, 0), 0);
	assert_refused(f, -EINVAL, "not a database");
}

static void test_no_directory(void **state)
{
	struct files *f = *state;

	snprintf(f->url, sizeof(f->url), "sqlite:%s/missing/store.db", f->dir);
	assert_refused(f, -ENOENT, "missing");
}

static void test_second_opener(void **state)
{
	struct crd_store *s = open_store(*state);

	assert_refused(*state, -EBUSY, "in use");
	crd_store_close(s);
	crd_store_close(open_store(*state));
}

static void test_urls(void **state)
{
	static const char *const urls[] = {"",	    "sqlite:", "kube",
					   "kube:", "/tmp/x",  "SQLITE:/tmp/x"};
	struct crd_store *s;

	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++)
		assert_int_equal(crd_store_open(urls[i], &s, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_transactions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_instance, setup, teardown),
		cmocka_unit_test_setup_teardown(test_private_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_program, setup, teardown),
		cmocka_unit_test_setup_teardown(test_newer_schema, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_a_database, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_second_opener, setup, teardown),
		cmocka_unit_test(test_urls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
