/* SPDX-License-Identifier: Apache-2.0 */
/* Updates: each field alone, revisions, and readers beside writers in other processes that never
 * see a torn blob or record. */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_fields(void **state)
{
	struct rig *rig = *state;
	struct reg_request req = rig_request("one");
	struct reg_update update = {.expire_unix_s = 7,
				    .policy = REG_AUTO_RECREATE,
				    .recovery_timeout_s = 8,
				    .labels = "abc",
				    .labels_len = 3};
	struct reg_sandbox_view view;
	reg_sandbox_id id;
	uint64_t revision;
	uint32_t len;
	char buf[8];

	(void)rig_agent(rig, "a", 1);
	id = rig_run(rig, &req);
	CHECK_OK(reg_view(rig->me, id, &view));
	revision = view.revision;
	for (uint32_t bit = 0; bit < 4; bit++) {
		update.fields = 1u << bit;
		CHECK_OK(reg_update(rig->me, id, &update));
		CHECK_OK(reg_view(rig->me, id, &view));
		CHECK(view.revision > revision);
		revision = view.revision;
		CHECK_EQ(view.expire_unix_s, 7);
		CHECK_EQ(view.policy, bit >= 1 ? REG_AUTO_RECREATE : REG_MANUAL);
		CHECK_EQ(view.recovery_timeout_s, bit >= 2 ? 8 : 0);
		CHECK_EQ(view.labels_len, bit >= 3 ? 3 : 0);
	}
	CHECK_OK(reg_labels(rig->me, id, buf, sizeof(buf), &len));
	CHECK_EQ(len, 3);
	CHECK(memcmp(buf, "abc", 3) == 0);
	update.labels = NULL; /* replaces all: none */
	update.labels_len = 0;
	CHECK_OK(reg_update(rig->me, id, &update));
	CHECK_OK(reg_labels(rig->me, id, buf, sizeof(buf), &len));
	CHECK_EQ(len, 0);
	update.fields = 1u << 20; /* no such field */
	CHECK_ST(reg_update(rig->me, id, &update), REG_INVALID);
	update.fields = REG_SET_EXPIRE;
	rig_delete(rig, id);
	CHECK_ST(reg_update(rig->me, id, &update), REG_STALE);
	CHECK_EMPTY(rig);
}

/* Read, merge, write: of two that have read the same, the second is told. */
static void test_labels_only_as_seen(void **state)
{
	struct rig *rig = *state;
	struct reg_request req = rig_request("one");
	struct reg_update update = {
		.fields = REG_SET_LABELS | REG_IF_LABELS, .labels = "mine", .labels_len = 4};
	struct reg_sandbox_view first, second;
	reg_sandbox_id id;
	uint32_t len;
	char buf[8];

	(void)rig_agent(rig, "a", 1);
	id = rig_run(rig, &req);
	CHECK_OK(reg_view(rig->me, id, &first)); /* no labels yet: that, too, is something seen */
	update.labels_seen = first.labels_token;
	CHECK_OK(reg_update(rig->me, id, &update));
	CHECK_OK(reg_view(rig->me, id, &second));
	update.labels = "late";
	CHECK_ST(reg_update(rig->me, id, &update), REG_CONFLICT);
	CHECK_OK(reg_labels(rig->me, id, buf, sizeof(buf), &len));
	CHECK(len == 4 && memcmp(buf, "mine", 4) == 0);
	update.labels_seen = second.labels_token;
	CHECK_OK(reg_update(rig->me, id, &update));
	rig_delete(rig, id);
	CHECK_EMPTY(rig);
}

/* ---- readers beside writers ---- */
struct shared {
	reg_sandbox_id id;
	struct rig_barrier barrier; /* all four begin together */
	struct rig_barrier ended;   /* both writers */
	_Atomic uint32_t writers_left;
	_Atomic uint64_t reads;
};

/* Labels of a length and content that follow from a number. */
static uint32_t make_labels(uint8_t *buf, uint32_t n)
{
	uint32_t len = 16 + n * 37 % 6000;

	memset(buf, (int)(n % 251), len);
	memcpy(buf, &n, sizeof(n));
	return len;
}

static void check_labels(const uint8_t *buf, uint32_t len)
{
	uint32_t n;

	CHECK(len >= 16);
	memcpy(&n, buf, sizeof(n));
	CHECK_EQ(len, 16 + n * 37 % 6000);
	for (uint32_t i = sizeof(n); i < len; i++)
		CHECK(buf[i] == n % 251);
}

/* So many rounds, and until the readers have read something, too. */
static bool go_on(struct shared *shared, uint32_t i, uint32_t n)
{
	return i < n ||
	       (i < 100 * n && atomic_load_explicit(&shared->reads, memory_order_relaxed) < 1000);
}

static void writer_fn(struct rig *rig, void *arg)
{
	struct shared *shared = arg;
	static uint8_t labels[8192];
	struct reg_books books;
	struct reg_update update = {.fields = REG_SET_LABELS | REG_SET_EXPIRE, .labels = labels};

	rig_barrier_wait(&shared->barrier, 4);
	for (uint32_t i = 0; go_on(shared, i, rig_scaled(20000)); i++) {
		update.labels_len = make_labels(labels, i);
		update.expire_unix_s = i;
		CHECK_OK(reg_update(rig->me, shared->id, &update));
	}
	atomic_fetch_sub_explicit(&shared->writers_left, 1, memory_order_release);
	/* Both have ended and nobody has left yet, whose leaving would take back what was lost: one
	 * spec at most, the labels. */
	rig_barrier_wait(&shared->ended, 2);
	reg_books(rig->me, &books);
	CHECK(books.blobs <= 2);
	rig_barrier_wait(&shared->ended, 2);
}

static void reader_fn(struct rig *rig, void *arg)
{
	struct shared *shared = arg;
	static uint8_t buf[REG_LABELS_MAX];
	struct reg_sandbox_view view;
	uint64_t revision = 0;
	uint32_t len;

	rig_barrier_wait(&shared->barrier, 4);
	while (atomic_load_explicit(&shared->writers_left, memory_order_acquire) > 0) {
		CHECK_OK(reg_labels(rig->me, shared->id, buf, sizeof(buf), &len));
		check_labels(buf, len);
		CHECK_OK(reg_view(rig->me, shared->id, &view));
		CHECK(view.revision >= revision); /* never backwards */
		revision = view.revision;
		CHECK_STR(view.name, "one");
		CHECK_EQ(view.spec_len, 4);
		atomic_fetch_add_explicit(&shared->reads, 1, memory_order_relaxed);
	}
}

static void test_labels_beside_readers(void **state)
{
	struct rig *rig = *state;
	struct shared *shared = rig_shared_alloc(sizeof(*shared));
	struct reg_request req = rig_request("one");
	uint8_t labels[6016];
	pid_t pids[4];

	(void)rig_agent(rig, "a", 1);
	req.labels = labels;
	req.labels_len = make_labels(labels, 1);
	shared->id = rig_run(rig, &req);
	shared->writers_left = 2;
	for (int i = 0; i < 4; i++)
		pids[i] = rig_fork(rig, i < 2 ? writer_fn : reader_fn, shared);
	for (int i = 0; i < 4; i++)
		rig_join(pids[i]);
	printf("%llu reads\n", (unsigned long long)shared->reads);
	CHECK(shared->reads > 0);
	CHECK_SOUND(rig);
	rig_delete(rig, shared->id);
	CHECK_EMPTY(rig);
	rig_shared_free(shared, sizeof(*shared));
}

/* ---- records that are reused at once: a reader gets one sandbox or the other, never a mixture
 * ---- */
static void make_record(struct reg_request *req, char *text, uint8_t *spec, uint32_t n)
{
	(void)snprintf(text, 64, "name-%u-%0*u", n, (int)(n % 40), n);
	*req = rig_request(text);
	req->created_unix_ns = n;
	req->request_hash = n;
	req->expire_unix_s = n;
	req->request_id = text;
	req->spec = spec;
	req->spec_len = make_labels(spec, n);
}

static void churn_fn(struct rig *rig, void *arg)
{
	struct shared *shared = arg;
	static uint8_t spec[8192];
	struct reg_request req;
	struct reg_lease lease;
	char text[64];

	rig_barrier_wait(&shared->barrier, 4);
	for (uint32_t i = 0; go_on(shared, i, rig_scaled(40000)); i++) {
		make_record(&req, text, spec, i * 2 + reg_self_idx(rig->me) % 2);
		if (reg_reserve(rig->me, &req, &lease) == REG_OK)
			CHECK_OK(reg_abort(rig->me, &lease));
	}
	atomic_fetch_sub_explicit(&shared->writers_left, 1, memory_order_release);
}

static void check_record(struct rig *rig, const struct reg_sandbox_view *view)
{
	static uint8_t spec[REG_SPEC_MAX], want[8192];
	struct reg_request req;
	enum reg_status status;
	uint32_t len;
	char text[64];

	make_record(&req, text, want, (uint32_t)view->request_hash);
	CHECK_STR(view->name, text);
	CHECK_STR(view->id, text);
	CHECK_STR(view->request_id, text);
	CHECK_STR(view->pool, "pool");
	CHECK_EQ(view->created_unix_ns, req.created_unix_ns);
	CHECK_EQ(view->expire_unix_s, req.expire_unix_s);
	CHECK_EQ(view->spec_len, req.spec_len);
	status = reg_spec(rig->me, view->sandbox, spec, sizeof(spec), &len);
	if (status != REG_OK) {
		CHECK_ST(status, REG_STALE);
		return;
	}
	CHECK_EQ(len, req.spec_len);
	CHECK(memcmp(spec, want, len) == 0);
}

static void lister_fn(struct rig *rig, void *arg)
{
	struct shared *shared = arg;
	struct reg_sandbox_view view;

	rig_barrier_wait(&shared->barrier, 4);
	while (atomic_load_explicit(&shared->writers_left, memory_order_acquire) > 0)
		for (uint32_t cursor = 0; reg_next(rig->me, &cursor, NULL, &view);) {
			check_record(rig, &view);
			atomic_fetch_add_explicit(&shared->reads, 1, memory_order_relaxed);
		}
}

static void test_reuse_beside_readers(void **state)
{
	struct rig *rig = *state;
	struct shared *shared = rig_shared_alloc(sizeof(*shared));
	pid_t pids[4];

	(void)rig_agent(rig, "a", 2);
	shared->writers_left = 2;
	for (int i = 0; i < 4; i++)
		pids[i] = rig_fork(rig, i < 2 ? churn_fn : lister_fn, shared);
	for (int i = 0; i < 4; i++)
		rig_join(pids[i]);
	printf("%llu records read\n", (unsigned long long)shared->reads);
	CHECK(shared->reads > 0);
	CHECK_EMPTY(rig);
	rig_shared_free(shared, sizeof(*shared));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fields, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_labels_only_as_seen, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_labels_beside_readers, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_reuse_beside_readers, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
