/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where Sandbox objects are kept durably. One interface over the possible stores; it knows rows of
 * (id, namespace, name, JSON) and transactions, nothing of the arena. One thread.
 */
#ifndef CRDSYNC_STORE_H
#define CRDSYNC_STORE_H

#include <stddef.h>

#include "base/err.h"

struct crd_store;

struct crd_row {
	const char *id; /* primary key */
	const char *ns, *name;
	const char *json;
	size_t json_len;
};

/* A store puts struct crd_store first into its own struct. All return 0 or a negative errno. */
struct crd_store_ops {
	/* Each row, newest inserted first; row's non-zero return ends the walk and is returned. */
	int (*load)(struct crd_store *store, int (*row)(void *arg, const struct crd_row *row),
		    void *arg, struct err *err);
	/* A transaction: what was put and deleted is durable when commit has returned 0, or none of
	 * it ever was. */
	int (*begin)(struct crd_store *store, struct err *err);
	int (*put)(struct crd_store *store, const struct crd_row *row, struct err *err);
	/* Absent is 0. */
	int (*del)(struct crd_store *store, const char *id, struct err *err);
	int (*commit)(struct crd_store *store, struct err *err);
	void (*rollback)(struct crd_store *store);
	/* The arena instance that last used the store, "" for none: tells whether an arena was
	 * loaded from it. */
	int (*get_instance)(struct crd_store *store, char *buf, size_t size, struct err *err);
	int (*set_instance)(struct crd_store *store, const char *instance, struct err *err);
	void (*close)(struct crd_store *store);
};

struct crd_store {
	const struct crd_store_ops *ops;
};

/*
 * url: "sqlite:PATH". gives. -EINVAL: no such kind of store, or what is there is not ours, of a
 * newer version or damaged (the message says what to do); -EBUSY: another process holds it, try
 * again; others: the system's.
 */
int crd_store_open(const char *url, struct crd_store **ret, struct err *err);
/* Takes NULL. Returns NULL. */
struct crd_store *crd_store_close(struct crd_store *store);

/* store_sqlite.c */
int crd_store_sqlite_open(const char *path, struct crd_store **ret, struct err *err);

#endif
