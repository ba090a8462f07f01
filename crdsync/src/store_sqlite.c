/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store as one SQLite file. WAL, so that a reader (sqlite3, a backup) never blocks the writer;
 * synchronous=FULL, because in WAL mode NORMAL leaves a committed transaction in the page cache,
 * and a STRONG create is acknowledged on the strength of that commit. One crdsync at a time holds a
 * lock file beside the database.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "store.h"

enum {
	STORE_APPLICATION_ID = 0x66736273, /* "fsbs", in bytes 68..71 of the file */
	STORE_VERSION = 1,
	STORE_BUSY_MS = 5000,
};

struct store_sqlite {
	struct crd_store base;
	sqlite3 *db;
	sqlite3_stmt *put, *del;
	int lock_fd;
};

static struct store_sqlite *self(struct crd_store *store)
{
	return (struct store_sqlite *)store;
}

static int errno_of(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
		return -EINVAL;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_TOOBIG:
		return -E2BIG;
	case SQLITE_READONLY:
		return -EROFS;
	default:
		return -EIO;
	}
}

static int db_error(sqlite3 *db, int rc, const char *doing, struct err *err)
{
	const char *path = sqlite3_db_filename(db, "main");

	return err_set(err, errno_of(rc), "%s '%s': %s", doing, path ? path : "",
		       sqlite3_errmsg(db));
}

static int exec(sqlite3 *db, const char *sql, struct err *err)
{
	int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : db_error(db, rc, "write store", err);
}

static int pragma_int(sqlite3 *db, const char *sql, int *ret, struct err *err)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*ret = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	return rc == SQLITE_ROW ? 0 : db_error(db, rc, "read store", err);
}

/* ---- opening ---- */

/* The lock falls with the process, so a successor of a killed crdsync has it at once. */
static int take_lock(const char *path, int *ret_fd, struct err *err)
{
	char lock_path[PATH_MAX];
	cleanup_close int fd = -1;

	if (snprintf(lock_path, sizeof(lock_path), "%s.lock", path) >= (int)sizeof(lock_path))
		return err_set(err, -EINVAL, "store path '%s' is too long", path);
	fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, errno, "open '%s'", lock_path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return err_set(err, -EBUSY, "store '%s' is in use by another fsb-crdsync",
				       path);
		return err_errno(err, errno, "lock '%s'", lock_path);
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

/* New (no tables, no mark): *ret_new. Else it must be marked as ours and of a version that we know.
 */
static int check_ours(sqlite3 *db, const char *path, bool *ret_new, struct err *err)
{
	int app = 0, version = 0, tables = 0, r;

	r = pragma_int(db, "PRAGMA application_id", &app, err);
	if (r == 0)
		r = pragma_int(db, "PRAGMA user_version", &version, err);
	if (r == 0)
		r = pragma_int(db, "SELECT count(*) FROM sqlite_master", &tables, err);
	if (r < 0)
		return r;
	*ret_new = app == 0 && tables == 0;
	if (!*ret_new && app != STORE_APPLICATION_ID)
		return err_set(err, -EINVAL,
			       "'%s' is a database of another program; name a file of its own",
			       path);
	if (version > STORE_VERSION)
		return err_set(err, -EINVAL,
			       "'%s' has schema version %d, this build knows up to %d; use the "
			       "newer build",
			       path, version, STORE_VERSION);
	return 0;
}

static int make_schema(sqlite3 *db, struct err *err)
{
	char mark[96];
	int r;

	r = exec(db,
		 "BEGIN IMMEDIATE;"
		 "CREATE TABLE objects(id TEXT PRIMARY KEY NOT NULL, namespace TEXT NOT NULL,"
		 " name TEXT NOT NULL, json TEXT NOT NULL);"
		 "CREATE TABLE meta(key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)"
		 " WITHOUT ROWID;",
		 err);
	snprintf(mark, sizeof(mark), "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT;",
		 STORE_APPLICATION_ID, STORE_VERSION);
	return r < 0 ? r : exec(db, mark, err);
}

static int prepare(struct store_sqlite *s, struct err *err)
{
	int rc;

	rc = sqlite3_prepare_v3(
		s->db,
		"INSERT INTO objects(id, namespace, name, json) VALUES(?1, ?2, ?3, ?4)"
		" ON CONFLICT(id) DO UPDATE SET json = excluded.json",
		-1, SQLITE_PREPARE_PERSISTENT, &s->put, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v3(s->db, "DELETE FROM objects WHERE id = ?1", -1,
					SQLITE_PREPARE_PERSISTENT, &s->del, NULL);
	return rc == SQLITE_OK ? 0 : db_error(s->db, rc, "prepare store", err);
}

static int open_db(struct store_sqlite *s, const char *path, struct err *err)
{
	bool is_new = false;
	int rc, r;

	rc = sqlite3_open_v2(path, &s->db,
			     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
			     NULL);
	if (rc != SQLITE_OK)
		return err_set(err, errno_of(rc), "open store '%s': %s", path,
			       s->db ? sqlite3_errmsg(s->db) : "out of memory");
	sqlite3_busy_timeout(s->db, STORE_BUSY_MS);
	r = check_ours(s->db, path, &is_new, err);
	if (r == 0)
		r = exec(s->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;", err);
	if (r == 0 && is_new)
		r = make_schema(s->db, err);
	return r < 0 ? r : prepare(s, err);
}

/* ---- the interface ---- */

static void sqlite_close(struct crd_store *store)
{
	struct store_sqlite *s = self(store);

	sqlite3_finalize(s->put);
	sqlite3_finalize(s->del);
	sqlite3_close(s->db);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	free(s);
}

static int sqlite_load(struct crd_store *store, int (*row)(void *arg, const struct crd_row *row),
		       void *arg, struct err *err)
{
	struct store_sqlite *s = self(store);
	sqlite3_stmt *stmt = NULL;
	int rc, r = 0;

	rc = sqlite3_prepare_v2(s->db,
				"SELECT id, namespace, name, json FROM objects ORDER BY rowid DESC",
				-1, &stmt, NULL);
	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		rc = sqlite3_step(stmt);
		if (rc != SQLITE_ROW)
			break;
		r = row(arg, &(struct crd_row){
				     .id = (const char *)sqlite3_column_text(stmt, 0),
				     .ns = (const char *)sqlite3_column_text(stmt, 1),
				     .name = (const char *)sqlite3_column_text(stmt, 2),
				     .json = (const char *)sqlite3_column_text(stmt, 3),
				     .json_len = (size_t)sqlite3_column_bytes(stmt, 3),
			     });
		if (r)
			break;
	}
	if (!r && rc != SQLITE_DONE)
		r = db_error(s->db, rc, "load store", err);
	sqlite3_finalize(stmt);
	return r;
}

static int sqlite_begin(struct crd_store *store, struct err *err)
{
	return exec(self(store)->db, "BEGIN IMMEDIATE", err);
}

/* Runs a statement that gives no rows and makes it ready for the next time. */
static int run(sqlite3 *db, sqlite3_stmt *stmt, struct err *err)
{
	int rc = sqlite3_step(stmt), r = 0;

	if (rc != SQLITE_DONE)
		r = db_error(db, rc, "write store", err);
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
	return r;
}

static int sqlite_put(struct crd_store *store, const struct crd_row *row, struct err *err)
{
	struct store_sqlite *s = self(store);

	/* bind can fail for want of memory only, and the step then fails on NOT NULL */
	(void)sqlite3_bind_text(s->put, 1, row->id, -1, SQLITE_STATIC);
	(void)sqlite3_bind_text(s->put, 2, row->ns, -1, SQLITE_STATIC);
	(void)sqlite3_bind_text(s->put, 3, row->name, -1, SQLITE_STATIC);
	(void)sqlite3_bind_text64(s->put, 4, row->json, row->json_len, SQLITE_STATIC, SQLITE_UTF8);
	return run(s->db, s->put, err);
}

static int sqlite_del(struct crd_store *store, const char *id, struct err *err)
{
	struct store_sqlite *s = self(store);

	(void)sqlite3_bind_text(s->del, 1, id, -1, SQLITE_STATIC);
	return run(s->db, s->del, err);
}

static int sqlite_commit(struct crd_store *store, struct err *err)
{
	return exec(self(store)->db, "COMMIT", err);
}

static void sqlite_rollback(struct crd_store *store)
{
	if (!sqlite3_get_autocommit(self(store)->db))
		(void)exec(self(store)->db, "ROLLBACK", NULL);
}

static int sqlite_get_instance(struct crd_store *store, char *buf, size_t size, struct err *err)
{
	sqlite3 *db = self(store)->db;
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, "SELECT value FROM meta WHERE key = 'instance'", -1, &stmt,
				    NULL);

	buf[0] = '\0';
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		snprintf(buf, size, "%s", (const char *)sqlite3_column_text(stmt, 0));
	sqlite3_finalize(stmt);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : db_error(db, rc, "read store", err);
}

static int sqlite_set_instance(struct crd_store *store, const char *instance, struct err *err)
{
	sqlite3 *db = self(store)->db;
	sqlite3_stmt *stmt = NULL;
	int r, rc = sqlite3_prepare_v2(
		       db, "INSERT OR REPLACE INTO meta(key, value) VALUES('instance', ?1)", -1,
		       &stmt, NULL);

	if (rc != SQLITE_OK)
		return db_error(db, rc, "write store", err);
	(void)sqlite3_bind_text(stmt, 1, instance, -1, SQLITE_STATIC);
	r = run(db, stmt, err);
	sqlite3_finalize(stmt);
	return r;
}

int crd_store_sqlite_open(const char *path, struct crd_store **ret, struct err *err)
{
	static const struct crd_store_ops ops = {
		.load = sqlite_load,
		.begin = sqlite_begin,
		.put = sqlite_put,
		.del = sqlite_del,
		.commit = sqlite_commit,
		.rollback = sqlite_rollback,
		.get_instance = sqlite_get_instance,
		.set_instance = sqlite_set_instance,
		.close = sqlite_close,
	};
	struct store_sqlite *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->base.ops = &ops;
	s->lock_fd = -1;
	r = take_lock(path, &s->lock_fd, err);
	if (r == 0)
		r = open_db(s, path, err);
	if (r < 0) {
		sqlite_close(&s->base);
		return r;
	}
	*ret = &s->base;
	return 0;
}
