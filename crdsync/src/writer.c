/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One turn in steps, and what a death leaves at each: taken (bits cleared, nothing else:
 * reg_dirty_rescan of the successor finds them by revision), begun (the arena knows that the store
 * may hold them: the same), written (an open transaction, which SQLite rolls back), committed (the
 * rows are there and the arena does not know: written once more), published.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "object.h"
#include "writer.h"

enum { PARKED_MAX = 64 };
#define PARK_MIN_NS (1 * NS_PER_S)
#define PARK_MAX_NS (60 * NS_PER_S)

/* One object of a turn. */
struct op {
	reg_sandbox_id sandbox;
	bool gone;
	uint64_t revision, dirty_since_ns;
	char id[REG_ID_MAX + 1], ns[REG_NAMESPACE_MAX + 1], name[REG_NAME_MAX + 1];
	char *json; /* NULL: gone */
	size_t json_len;
};

struct parked {
	reg_sandbox_id sandbox;
	uint64_t due_ns,
		delay_ns; /* due_ns UINT64_MAX: tried again, forgotten unless it fails again */
};

struct crd_writer {
	struct reg_self *me;
	struct crd_store *store;
	struct crd_writer_stats stats;
	uint32_t taken_count, op_count, parked_count;
	reg_sandbox_id taken[CRD_BATCH_MAX];
	struct op ops[CRD_BATCH_MAX];
	struct parked parked[PARKED_MAX];
	struct reg_sandbox_view view;
	uint8_t spec[REG_SPEC_MAX], labels[REG_LABELS_MAX];
};

struct crd_writer *crd_writer_new(struct reg_self *me, struct crd_store *store)
{
	struct crd_writer *w = calloc(1, sizeof(*w));

	if (w) {
		w->me = me;
		w->store = store;
	}
	return w;
}

static void drop_ops(struct crd_writer *w)
{
	for (uint32_t i = 0; i < w->op_count; i++) {
		free(w->ops[i].json);
		w->ops[i].json = NULL;
	}
	w->op_count = 0;
}

struct crd_writer *crd_writer_free(struct crd_writer *writer)
{
	if (writer)
		drop_ops(writer);
	free(writer);
	return NULL;
}

uint32_t crd_writer_parked(const struct crd_writer *writer)
{
	return writer->parked_count;
}

void crd_writer_stats_get(const struct crd_writer *writer, struct crd_writer_stats *ret)
{
	*ret = writer->stats;
}

/* ---- objects that can't be written ---- */

static struct parked *find_parked(struct crd_writer *w, reg_sandbox_id sandbox)
{
	for (uint32_t i = 0; i < w->parked_count; i++) {
		if (w->parked[i].sandbox.idx == sandbox.idx &&
		    w->parked[i].sandbox.gen == sandbox.gen)
			return &w->parked[i];
	}
	return NULL;
}

static void unpark(struct crd_writer *w, reg_sandbox_id sandbox)
{
	struct parked *p = find_parked(w, sandbox);

	if (p)
		*p = w->parked[--w->parked_count];
}

/* Tries again later, each time twice as late. With a full table it is tried again at once, with the
 * next turn. */
static void park(struct crd_writer *w, reg_sandbox_id sandbox, const struct err *why)
{
	struct parked *p = find_parked(w, sandbox);

	w->stats.failed++;
	if (!p && w->parked_count == PARKED_MAX) {
		reg_dirty_again(w->me, sandbox);
		return;
	}
	if (!p) {
		p = &w->parked[w->parked_count++];
		*p = (struct parked){.sandbox = sandbox, .delay_ns = PARK_MIN_NS / 2};
	}
	p->delay_ns = p->delay_ns * 2 > PARK_MAX_NS ? PARK_MAX_NS : p->delay_ns * 2;
	p->due_ns = clock_mono_ns() + p->delay_ns;
	log_error("object not written", "namespace=%s name=%s retry_s=%lu err=%s", w->view.ns,
		  w->view.name, (unsigned long)(p->delay_ns / NS_PER_S), why->msg);
}

static void release_due(struct crd_writer *w)
{
	uint64_t now = clock_mono_ns();

	for (uint32_t i = 0; i < w->parked_count; i++) {
		if (w->parked[i].due_ns <= now) {
			w->parked[i].due_ns = UINT64_MAX;
			reg_dirty_again(w->me, w->parked[i].sandbox);
		}
	}
}

/* ---- taking ---- */

static enum reg_status copy_blobs(struct crd_writer *w, reg_sandbox_id sandbox)
{
	enum reg_status st;

	st = reg_spec(w->me, sandbox, w->spec, sizeof(w->spec), &w->view.spec_len);
	if (st == REG_OK)
		st = reg_labels(w->me, sandbox, w->labels, sizeof(w->labels), &w->view.labels_len);
	return st;
}

static int encode(struct crd_writer *w, struct op *op, struct err *err)
{
	enum reg_status st = copy_blobs(w, op->sandbox);

	if (st != REG_OK)
		return st == REG_STALE
			       ? -ESTALE
			       : err_set(err, -EBADMSG, "read blobs: %s", reg_status_text(st));
	return crd_object_encode(&w->view, w->spec, w->labels, clock_unix_ns(), &op->json,
				 &op->json_len, err);
}

/* Copies one record into an op. Nothing is added when there is nothing to write. */
static void begin_one(struct crd_writer *w, reg_sandbox_id sandbox)
{
	struct op *op = &w->ops[w->op_count];
	struct err err = ERR_INIT;
	int r = 0;

	if (reg_store_begin(w->me, sandbox, &w->view) != REG_OK) {
		w->stats.skipped++;
		unpark(w, sandbox);
		return;
	}
	*op = (struct op){
		.sandbox = sandbox,
		.gone = w->view.state == REG_GONE,
		.revision = w->view.revision,
		.dirty_since_ns = w->view.dirty_since_ns,
	};
	memcpy(op->id, w->view.id, sizeof(op->id));
	memcpy(op->ns, w->view.ns, sizeof(op->ns));
	memcpy(op->name, w->view.name, sizeof(op->name));
	if (!op->gone)
		r = encode(w, op, &err);
	if (r == 0)
		w->op_count++;
	else if (r !=
		 -ESTALE) /* stale: it went meanwhile, and its GONE record is dirty in its turn */
		park(w, sandbox, &err);
}

/* ---- writing ---- */

static int write_one(struct crd_writer *w, const struct op *op, struct err *err)
{
	if (op->gone)
		return w->store->ops->del(w->store, op->id, err);
	return w->store->ops->put(w->store,
				  &(struct crd_row){
					  .id = op->id,
					  .ns = op->ns,
					  .name = op->name,
					  .json = op->json,
					  .json_len = op->json_len,
				  },
				  err);
}

static int write_ops(struct crd_writer *w, struct err *err)
{
	int r = w->store->ops->begin(w->store, err);

	for (uint32_t i = 0; r == 0 && i < w->op_count; i++)
		r = write_one(w, &w->ops[i], err);
	if (r == 0 && FAILPOINT("crdsync.written"))
		r = err_set(err, -EIO, "failpoint crdsync.written");
	if (r == 0)
		r = w->store->ops->commit(w->store, err);
	if (r < 0)
		w->store->ops->rollback(w->store);
	return r;
}

static void publish(struct crd_writer *w)
{
	uint64_t now = clock_mono_ns();

	w->stats.commits++;
	for (uint32_t i = 0; i < w->op_count; i++) {
		struct op *op = &w->ops[i];
		uint64_t lag = op->dirty_since_ns && op->dirty_since_ns < now
				       ? now - op->dirty_since_ns
				       : 0;

		if (op->gone) {
			w->stats.deleted++;
			reg_store_forgotten(w->me, op->sandbox);
		} else {
			w->stats.written++;
			reg_stored(w->me, op->sandbox, op->revision, lag);
		}
		unpark(w, op->sandbox);
	}
}

int crd_writer_turn(struct crd_writer *writer, uint32_t *ret_taken, struct err *err)
{
	struct crd_writer *w = writer;
	int r = 0;

	release_due(w);
	w->taken_count = reg_dirty_take(w->me, w->taken, CRD_BATCH_MAX);
	w->stats.turns++;
	if (ret_taken)
		*ret_taken = w->taken_count;
	if (!w->taken_count)
		return 0;
	(void)FAILPOINT("crdsync.taken");
	for (uint32_t i = 0; i < w->taken_count; i++)
		begin_one(w, w->taken[i]);
	(void)FAILPOINT("crdsync.begun");
	if (w->op_count)
		r = write_ops(w, err);
	if (r == 0 && w->op_count) {
		(void)FAILPOINT("crdsync.committed");
		publish(w);
		(void)FAILPOINT("crdsync.published");
	} else if (r < 0) {
		for (uint32_t i = 0; i < w->op_count; i++)
			reg_dirty_again(w->me, w->ops[i].sandbox);
	}
	drop_ops(w);
	return r;
}
