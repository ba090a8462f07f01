/* SPDX-License-Identifier: Apache-2.0 */
/* Checking, naming, encoding and reserving batch members (see batch_members.h). */
#include "batch_members.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "check.h"
#include "fsb.pb-c.h"

static int check_override(const struct fp_member_args *o, int32_t count, struct fp_fail *fail)
{
	struct fp_fail why;
	int status;

	if (o->index >= (uint32_t)count)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "override of member %" PRId32
			       ": the batch has members 0 to %" PRId32,
			       (int32_t)o->index, count - 1);
	status = fp_check_argv("command", o->over.command, o->over.n_command, &why);
	if (!status)
		status = fp_check_argv("args", o->over.args, o->over.n_args, &why);
	if (!status)
		status = fp_check_envs(&o->over.envs, &why);
	return status ? fp_fail(fail, status, "override of member %" PRIu32 ": %s", o->index,
				why.msg)
		      : G_OK;
}

static int check_overrides(const struct fp_batch_args *args, struct fp_fail *fail)
{
	bool *seen = calloc((size_t)args->count, sizeof(*seen));
	int status =
		seen ? G_OK : fp_fail(fail, G_RESOURCE_EXHAUSTED, "this worker is out of memory");

	for (size_t i = 0; !status && i < args->n_overrides; i++) {
		uint32_t index = args->overrides[i].index;

		status = check_override(&args->overrides[i], args->count, fail);
		if (status)
			break;
		if (seen[index])
			status = fp_fail(fail, G_INVALID_ARGUMENT,
					 "member %" PRIu32 " has two overrides: give at most one",
					 index);
		seen[index] = true;
	}
	free(seen);
	return status;
}

int fp_batch_check(const struct fp_batch_args *args, struct fp_fail *fail)
{
	if (args->count < 1 || args->count > FP_BATCH_MAX)
		return fp_fail(fail, G_INVALID_ARGUMENT, "count %" PRId32 ": must be 1 to %d",
			       args->count, FP_BATCH_MAX);
	if (args->mode != FSB__V1__BATCH_MODE__ALL_OR_NOTHING &&
	    args->mode != FSB__V1__BATCH_MODE__PARTIAL)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "unknown mode %d: must be ALL_OR_NOTHING (0) or PARTIAL (1)",
			       args->mode);
	return check_overrides(args, fail);
}

static int encode_specs(const struct fp_plan *plan, const struct fp_batch_args *args,
			struct fp_members *ms, struct fp_fail *fail)
{
	size_t bytes = 0;

	for (size_t i = 0; i < args->n_overrides; i++) {
		const struct fp_member_args *o = &args->overrides[i];
		struct fp_fail why;
		int status =
			fp_spec_encode(args->common.spec, &o->over, &ms->specs[o->index], &why);

		if (status)
			return fp_fail(fail, status, "override of member %" PRIu32 ": %s", o->index,
				       why.msg);
		bytes += ms->specs[o->index]->len;
		if (bytes > FP_BATCH_BYTES_MAX)
			break;
	}
	bytes += (args->count - args->n_overrides) * (size_t)plan->spec->len;
	if (bytes > FP_BATCH_BYTES_MAX)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "the encoded specs of all members come to more than %d bytes: use "
			       "smaller specs or several batches",
			       FP_BATCH_BYTES_MAX);
	for (uint32_t i = 0; i < ms->count; i++) {
		if (!ms->specs[i])
			ms->specs[i] = fp_blob_ref(plan->spec);
	}
	return G_OK;
}

static int name_members(const struct fp_plan *plan, struct fp_members *ms, int64_t now,
			struct fp_fail *fail)
{
	for (uint32_t i = 0; i < ms->count; i++) {
		struct fp_member *m = &ms->members[i];
		int n = snprintf(m->name, sizeof(m->name), "%s-%" PRIu32, plan->name, i);

		/* plan.c has left room for the index in both. */
		if (n < 0 || (size_t)n >= sizeof(m->name))
			return fp_fail(fail, G_INVALID_ARGUMENT, "batch name '%s' is too long",
				       plan->name);
		if (*plan->request_id &&
		    snprintf(m->request_id, sizeof(m->request_id), "%s/%" PRIu32, plan->request_id,
			     i) >= (int)sizeof(m->request_id))
			return fp_fail(fail, G_INVALID_ARGUMENT, "request_id '%s' is too long",
				       plan->request_id);
		m->created_unix_ns = now;
		m->spec = ms->specs[i];
		m->hash = plan->hash;
		if (ms->specs[i] != plan->spec)
			m->hash = fp_hash_bytes(m->hash, m->spec->data, m->spec->len);
		if (fp_sandbox_id(m->name, plan->ns, now, m->id))
			return fp_fail(fail, G_INTERNAL, "libcrypto offers no md5");
	}
	return G_OK;
}

int fp_members_make(struct fp_plan *plan, const struct fp_batch_args *args, struct fp_members *ret,
		    struct fp_fail *fail)
{
	struct fp_members ms = {.count = (uint32_t)args->count};
	int64_t now = clock_unix_ns();
	int status;

	if (!*plan->name)
		snprintf(plan->name, sizeof(plan->name), "batch-%" PRId64, now);
	ms.members = calloc(ms.count, sizeof(*ms.members));
	ms.specs = calloc(ms.count, sizeof(struct fp_blob *));
	ms.leases = calloc(ms.count, sizeof(*ms.leases));
	ms.status = calloc(ms.count, sizeof(*ms.status));
	ms.requests = calloc(ms.count, sizeof(*ms.requests));
	if (!ms.requests || !ms.members || !ms.specs || !ms.leases || !ms.status)
		status = fp_fail(fail, G_RESOURCE_EXHAUSTED, "this worker is out of memory");
	else
		status = encode_specs(plan, args, &ms, fail);
	if (!status)
		status = name_members(plan, &ms, now, fail);
	if (status)
		fp_members_done(&ms);
	else
		*ret = ms;
	return status;
}

void fp_members_done(struct fp_members *ms)
{
	for (uint32_t i = 0; ms->specs && i < ms->count; i++)
		fp_blob_unref(ms->specs[i]);
	free(ms->members);
	free(ms->specs);
	free(ms->leases);
	free(ms->status);
	free(ms->requests);
}

static bool all_seen(const struct fp_members *ms)
{
	for (uint32_t i = 0; i < ms->count; i++) {
		if (ms->status[i] != REG_REQUEST_SEEN || !ms->leases[i].sandbox.gen)
			return false;
	}
	return true;
}

bool fp_members_reserve(struct reg_self *me, const struct fp_plan *plan, struct fp_members *ms,
			bool all)
{
	enum reg_status status;

	for (uint32_t i = 0; i < ms->count; i++)
		fp_plan_request(plan, &ms->members[i], &ms->requests[i]);
	status = reg_reserve_batch(me, ms->requests, ms->count, all, ms->leases, ms->status);
	/* A repeat of the whole batch: the first one's members. */
	return status == REG_OK || all_seen(ms);
}
