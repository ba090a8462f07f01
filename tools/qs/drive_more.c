/* SPDX-License-Identifier: Apache-2.0 */
/* The calls after the batch: single creates one by one, the store's figures, and deleting
 * everything. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "drive_int.h"

#define CALL_DEADLINE_NS (60 * NS_PER_S)
#define DRAIN_LIMIT_NS	 (20 * NS_PER_S)

static char space[] = "default";

static int get_stats(struct drive *d, struct gchannel *channel, struct pb_arena **ret_arena,
		     const Fsb__V1__GetStatsResponse **ret_stats, struct err *err)
{
	Fsb__V1__GetStatsRequest request = FSB__V1__GET_STATS_REQUEST__INIT;
	ProtobufCMessage *reply = NULL;
	int status = G_OK;
	int rc = gclient_unary_wait(channel, FSB_ADMIN "GetStats", &request.base,
				    &fsb__v1__get_stats_response__descriptor, CALL_DEADLINE_NS,
				    &status, ret_arena, &reply, err);

	if (!rc)
		*ret_stats = (const Fsb__V1__GetStatsResponse *)reply;
	return rc;
}

/* Connections are made by the first call; a create shall not be charged for it. */
int drive_connect(struct drive *d, struct err *err)
{
	int rc = 0;

	for (int i = 0; !rc && i < d->connections; i++) {
		struct pb_arena *arena = NULL;
		const Fsb__V1__GetStatsResponse *stats;

		rc = get_stats(d, d->channels[i], &arena, &stats, err);
		(void)pb_free(arena);
	}
	return rc;
}

/* ---- singles ---- */

static void note_single(struct drive *d, struct member *member, uint64_t took_ns,
			const Fsb__V1__Sandbox *sandbox)
{
	member->started = true;
	drive_note_use(d, sandbox);
	sample_add(&d->single_create, took_ns);
	if (sandbox->timings) {
		sample_add(&d->single_start, sandbox->timings->start_ns);
		sample_add(&d->single_reserve, sandbox->timings->reserve_ns);
	}
}

static int create_single(struct drive *d, struct member *member, struct err *err)
{
	static char yes[] = "true";
	char *command[] = {yes};
	char image[256];
	Fsb__V1__CreateSandboxRequest request = FSB__V1__CREATE_SANDBOX_REQUEST__INIT;
	Fsb__V1__SandboxSpec spec = FSB__V1__SANDBOX_SPEC__INIT;
	Fsb__V1__SandboxOptions options = FSB__V1__SANDBOX_OPTIONS__INIT;
	struct pb_arena *arena = NULL;
	ProtobufCMessage *reply = NULL;
	uint64_t sent_ns;
	int status = G_OK;
	int rc;

	(void)snprintf(image, sizeof(image), "%s", d->image);
	spec.image = image;
	spec.command = command;
	spec.n_command = 1;
	options.namespace_ = space;
	request.name = member->name;
	request.spec = &spec;
	request.options = &options;
	sent_ns = clock_mono_ns();
	rc = gclient_unary_wait(drive_channel(member), FSB_V1 "CreateSandbox", &request.base,
				&fsb__v1__sandbox__descriptor, CALL_DEADLINE_NS, &status, &arena,
				&reply, err);
	if (rc) {
		drive_fail(d, "create", member->name, 0, err ? err->msg : "");
		return status == G_UNAVAILABLE ? rc : 0;
	}
	note_single(d, member, clock_mono_ns() - sent_ns, (const Fsb__V1__Sandbox *)reply);
	(void)pb_free(arena);
	return 0;
}

int drive_singles(struct drive *d, struct err *err)
{
	for (int i = 0; i < N_SINGLES; i++) {
		struct member *member = &d->members[d->sandboxes + i];
		int rc;

		(void)snprintf(member->name, sizeof(member->name), "qs-single-%d", i);
		rc = create_single(d, member, err);
		if (rc)
			return rc;
	}
	return drive_wait(d, d->sandboxes, N_SINGLES, err);
}

/* ---- store ---- */

static void note_stats(struct drive *d, const Fsb__V1__GetStatsResponse *stats)
{
	d->drained = stats->dirty == 0;
	for (size_t i = 0; i < stats->n_histograms; i++) {
		const Fsb__V1__Histogram *h = stats->histograms[i];

		if (strcmp(h->name, "store_lag"))
			continue;
		d->lag_p50_ns = h->p50_ns;
		d->lag_p99_ns = h->p99_ns;
		d->lag_max_ns = h->max_ns;
	}
}

/* Until everything has been written; the histogram then holds the lag of each write. */
int drive_store(struct drive *d, struct err *err)
{
	uint64_t end_ns = clock_mono_ns() + DRAIN_LIMIT_NS;

	do {
		struct pb_arena *arena = NULL;
		const Fsb__V1__GetStatsResponse *stats;
		int rc = get_stats(d, d->channels[0], &arena, &stats, err);

		if (rc)
			return rc;
		note_stats(d, stats);
		(void)pb_free(arena);
		if (!d->drained)
			(void)gloop_poll(d->loop, 5);
	} while (!d->drained && clock_mono_ns() < end_ns);
	if (!d->drained)
		drive_fail(d, "store", "lag", 0, "not everything was written within 20 s");
	return 0;
}

/* ---- delete ---- */

static void on_deleted(void *arg, const struct gresult *result, const ProtobufCMessage *reply)
{
	struct member *member = arg;

	member->drive->parallel.open--;
	member->deleted = result->status == G_OK;
	if (!member->deleted)
		drive_fail(member->drive, "delete", member->name, result->status, result->message);
}

static bool start_delete(struct member *member)
{
	Fsb__V1__DeleteSandboxRequest request = FSB__V1__DELETE_SANDBOX_REQUEST__INIT;

	if (!member->started) {
		member->drive->parallel.open--;
		return true;
	}
	request.name = member->name;
	request.namespace_ = space;
	request.wait = true;
	return gclient_unary(drive_channel(member), FSB_V1 "Delete", &request.base,
			     &fsb__v1__delete_sandbox_response__descriptor, CALL_DEADLINE_NS,
			     on_deleted, member);
}

static int check_none_left(struct drive *d, struct err *err)
{
	Fsb__V1__ListSandboxesRequest request = FSB__V1__LIST_SANDBOXES_REQUEST__INIT;
	struct pb_arena *arena = NULL;
	ProtobufCMessage *reply = NULL;
	int status = G_OK;
	int rc = gclient_unary_wait(d->channels[0], FSB_V1 "List", &request.base,
				    &fsb__v1__list_sandboxes_response__descriptor, CALL_DEADLINE_NS,
				    &status, &arena, &reply, err);
	const Fsb__V1__ListSandboxesResponse *list = (const Fsb__V1__ListSandboxesResponse *)reply;

	if (rc)
		return rc;
	for (size_t i = 0; i < list->n_items; i++)
		drive_fail(d, "still listed after its delete:", list->items[i]->name, 0,
			   list->items[i]->phase);
	(void)pb_free(arena);
	return 0;
}

int drive_delete(struct drive *d, struct err *err)
{
	int rc = drive_all(d, 0, d->sandboxes + N_SINGLES, 64, start_delete, err);

	return rc ? rc : check_none_left(d, err);
}
