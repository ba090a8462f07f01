/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rebuild and reconcile. The store remembers which arena instance used it last, written before
 * store_loaded is published: dying between the two repeats the load (rows that are present already
 * are skipped), and an arena that says "loaded" while the store names another one was loaded from
 * elsewhere, so that no row may be judged by it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "load.h"
#include "object.h"

struct load {
	struct reg_self *me;
	struct crd_store *store;
	struct crd_load_stats *stats;
	struct err *err;
	/* rows to remove after the walk; a statement must not delete under its own feet */
	char (*doomed)[REG_ID_MAX + 1];
	uint32_t doomed_count, doomed_cap;
};

static int doom(struct load *l, const char *id)
{
	if (l->doomed_count == l->doomed_cap) {
		uint32_t cap = l->doomed_cap ? l->doomed_cap * 2 : 64;
		void *bigger = reallocarray(l->doomed, cap, sizeof(l->doomed[0]));

		if (!bigger)
			return err_set(l->err, -ENOMEM, "out of memory");
		l->doomed = bigger;
		l->doomed_cap = cap;
	}
	strncpy(l->doomed[l->doomed_count], id, REG_ID_MAX);
	l->doomed[l->doomed_count++][REG_ID_MAX] = '\0';
	return 0;
}

static int remove_doomed(struct load *l)
{
	int r;

	if (!l->doomed_count)
		return 0;
	r = l->store->ops->begin(l->store, l->err);
	for (uint32_t i = 0; r == 0 && i < l->doomed_count; i++)
		r = l->store->ops->del(l->store, l->doomed[i], l->err);
	if (r == 0)
		r = l->store->ops->commit(l->store, l->err);
	if (r < 0)
		l->store->ops->rollback(l->store);
	else
		l->stats->removed += l->doomed_count;
	return r;
}

/* ---- a new arena ---- */

/* The name is taken: by the same sandbox (an earlier try), or by a newer one, which means that the
 * row's was gone. */
static int insert_taken(struct load *l, const struct crd_row *row)
{
	struct reg_sandbox_view view;

	if (reg_get(l->me, row->ns, row->name, &view) == REG_OK && strcmp(view.id, row->id) == 0) {
		l->stats->present++;
		return 0;
	}
	log_warn("stale row removed", "namespace=%s name=%s id=%s newer=%s", row->ns, row->name,
		 row->id, view.id);
	return doom(l, row->id);
}

static int insert(struct load *l, const struct crd_row *row, struct crd_object *object)
{
	reg_sandbox_id sandbox;
	enum reg_status st = reg_insert(l->me, &object->restore, &sandbox);

	switch (st) {
	case REG_OK:
		l->stats->inserted++;
		if (object->deleting)
			st = reg_stop(l->me, sandbox, REG_STOP_DELETE, NULL);
		return 0;
	case REG_NAME_EXISTS:
	case REG_NAME_TERMINATING:
	case REG_REQUEST_SEEN:
	case REG_REQUEST_MISMATCH:
		return insert_taken(l, row);
	case REG_INVALID:
	case REG_TOO_LARGE:
		l->stats->unreadable++;
		log_error("row not loaded", "namespace=%s name=%s id=%s err=%s", row->ns, row->name,
			  row->id, reg_status_text(st));
		return 0;
	default:
		return err_set(l->err, -ENOSPC, "insert sandbox '%s/%s': %s", row->ns, row->name,
			       reg_status_text(st));
	}
}

static int load_row(void *arg, const struct crd_row *row)
{
	struct load *l = arg;
	struct err err = ERR_INIT;
	struct crd_object object;
	int r;

	l->stats->rows++;
	r = crd_object_decode(row->json, row->json_len, &object, &err);
	if (r == 0 && strcmp(object.restore.req.id, row->id) != 0)
		r = err_set(&err, -EBADMSG, "its status.sandboxID is '%s'", object.restore.req.id);
	if (r == 0)
		r = insert(l, row, &object);
	else if (r != -ENOMEM) { /* kept for whoever can read it */
		l->stats->unreadable++;
		log_error("row not loaded", "namespace=%s name=%s id=%s err=%s", row->ns, row->name,
			  row->id, err.msg);
		r = 0;
	}
	crd_object_clear(&object);
	return r;
}

static int load_cold(struct load *l)
{
	struct reg *reg = reg_self_reg(l->me);
	int r = l->store->ops->load(l->store, load_row, l, l->err);

	(void)FAILPOINT("crdsync.inserted");
	if (r == 0)
		r = remove_doomed(l);
	if (r == 0)
		r = l->store->ops->set_instance(l->store, reg_instance(reg), l->err);
	if (r == 0)
		reg_store_loaded_set(reg);
	return r;
}

/* ---- an arena that lives ---- */

static int check_row(void *arg, const struct crd_row *row)
{
	struct load *l = arg;
	struct reg_sandbox_view view;

	l->stats->rows++;
	if (reg_get(l->me, row->ns, row->name, &view) == REG_OK && strcmp(view.id, row->id) == 0) {
		l->stats->present++;
		return 0;
	}
	return doom(l, row->id);
}

static int count_row(void *arg, const struct crd_row *row)
{
	struct load *l = arg;

	l->stats->rows++;
	return 0;
}

/* A store that never saw this arena must be empty; then it gets everything. */
static int adopt_store(struct load *l)
{
	struct reg *reg = reg_self_reg(l->me);
	struct reg_sandbox_view view;
	uint32_t cursor = 0;
	int r = l->store->ops->load(l->store, count_row, l, l->err);

	if (r == 0 && l->stats->rows)
		r = err_set(
			l->err, -EINVAL,
			"the arena was loaded from another store, and this one holds %u sandboxes: "
			"give the store that the arena was loaded from, or an empty one",
			l->stats->rows);
	if (r == 0)
		r = l->store->ops->set_instance(l->store, reg_instance(reg), l->err);
	while (r == 0 && reg_next(l->me, &cursor, NULL, &view)) {
		reg_dirty_again(l->me, view.sandbox);
		l->stats->marked++;
	}
	if (r == 0)
		reg_dirty_rescan(l->me); /* what is deleted already, too */
	return r;
}

static int load_warm(struct load *l)
{
	char instance[64];
	int r = l->store->ops->get_instance(l->store, instance, sizeof(instance), l->err);

	if (r < 0)
		return r;
	if (strcmp(instance, reg_instance(reg_self_reg(l->me))) != 0)
		return adopt_store(l);
	r = l->store->ops->load(l->store, check_row, l, l->err);
	if (r == 0)
		r = remove_doomed(l);
	if (r == 0)
		l->stats->marked = reg_dirty_rescan(l->me);
	return r;
}

int crd_load(struct reg_self *me, struct crd_store *store, struct crd_load_stats *ret,
	     struct err *err)
{
	struct load l = {.me = me, .store = store, .stats = ret, .err = err};
	int r;

	*ret = (struct crd_load_stats){0};
	r = reg_store_loaded(reg_self_reg(me)) ? load_warm(&l) : load_cold(&l);
	free(l.doomed);
	return r;
}
