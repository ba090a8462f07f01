/* SPDX-License-Identifier: Apache-2.0 */
/* From a request to a plan: defaults, checks in a fixed order, encoding, hash. No side effects but
 * memory. */
#include "plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "check.h"
#include "fsb.pb-c.h"

enum { RECOVERY_DEFAULT_S = 60 };

/* "-9999" and "/9999": what the largest index adds. */
static size_t suffix_len(uint32_t members)
{
	return members ? (size_t)snprintf(NULL, 0, "-%" PRIu32, members - 1) : 0;
}

static int check_name(const char *name, uint32_t members, struct fp_fail *fail)
{
	int status = *name ? fp_check_name("name", name, fail) : G_OK;
	size_t len = strlen(name), more = suffix_len(members);

	if (status || !more || len + more <= REG_NAME_MAX)
		return status;
	return fp_fail(
		fail, G_INVALID_ARGUMENT,
		"batch name of %zu bytes: with the members' index it must stay within %d bytes",
		len, REG_NAME_MAX);
}

static int check_consistency(const struct fp_create_args *args, struct fp_fail *fail)
{
	int consistency = args->consistency, wait_for = args->wait_for;

	if (consistency < FP_CONSISTENCY_DEFAULT || consistency > FP_CONSISTENCY_STRONG)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "unknown consistency %d: must be FAST or STRONG",
			       args->consistency_given);
	if (wait_for != FSB__V1__WAIT_FOR__WAIT_STARTED &&
	    wait_for != FSB__V1__WAIT_FOR__WAIT_STORED)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "unknown wait_for %d: must be WAIT_STARTED (0) or WAIT_STORED (1)",
			       wait_for);
	return G_OK;
}

static int check_all(const struct fp_create_args *args, uint32_t members, struct fp_plan *plan,
		     struct fp_fail *fail)
{
	int status = check_name(args->name, members, fail);

	if (!status)
		status = fp_check_namespace(plan->ns, fail);
	if (!status)
		status = fp_check_pool(plan->pool, fail);
	if (!status)
		status = fp_check_image(args->spec->image, plan->image, fail);
	if (!status)
		status = fp_check_spec(args->spec, plan->ports, fail);
	if (!status)
		status = fp_check_labels(&args->labels, fail);
	if (!status)
		status = check_consistency(args, fail);
	if (!status)
		status = fp_check_expire(args->expire_unix_s, clock_unix_ns(), fail);
	if (!status)
		status = fp_check_policy(args->policy, fail);
	if (!status)
		status = fp_check_recovery(args->recovery_timeout_s, fail);
	if (!status)
		status = fp_check_request_id(args->request_id, suffix_len(members), fail);
	return status;
}

/* A text that check_all will look at: too long for its buffer must not turn into a valid one by
 * being cut. */
static int take_text(const char *what, const char *text, const char *def, char *to, size_t size,
		     struct fp_fail *fail)
{
	char q[FP_QUOTED_MAX + 8];

	if (!*text)
		text = def;
	if (strlen(text) >= size)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "%s '%s' has %zu bytes: at most %zu are taken", what,
			       fp_quote(text, q), strlen(text), size - 1);
	memcpy(to, text, strlen(text) + 1);
	return G_OK;
}

static uint64_t plan_hash(const struct fp_plan *plan, const struct fp_create_args *args,
			  uint32_t members)
{
	uint64_t hash = FP_HASH_INIT;

	hash = fp_hash_str(hash, plan->ns);
	hash = fp_hash_str(hash, plan->pool);
	hash = fp_hash_str(hash, args->name);
	hash = fp_hash_bytes(hash, plan->spec->data, plan->spec->len);
	if (plan->labels)
		hash = fp_hash_bytes(hash, plan->labels->data, plan->labels->len);
	hash = fp_hash_i64(hash, plan->expire_unix_s);
	hash = fp_hash_i64(hash, plan->recovery_timeout_s);
	return fp_hash_i64(hash, members);
}

int fp_plan_make(const struct fp_create_args *args, bool default_strong, uint32_t members,
		 struct fp_plan *plan, struct fp_fail *fail)
{
	int status;

	memset(plan, 0, sizeof(*plan));
	status = take_text("namespace", args->ns, "default", plan->ns, sizeof(plan->ns), fail);
	if (!status)
		status = take_text("pool", args->pool, "default-pool", plan->pool,
				   sizeof(plan->pool), fail);
	if (!status)
		status = check_all(args, members, plan, fail);
	if (!status)
		status = fp_spec_encode(args->spec, NULL, &plan->spec, fail);
	if (!status)
		status = fp_labels_encode(&args->labels, &plan->labels, fail);
	if (status) {
		fp_plan_done(plan);
		return status;
	}
	memcpy(plan->name, args->name, strlen(args->name) + 1);
	memcpy(plan->request_id, args->request_id, strlen(args->request_id) + 1);
	plan->port_count = (uint32_t)args->spec->n_exposed_ports;
	plan->strong = args->consistency == FP_CONSISTENCY_STRONG ||
		       (args->consistency == FP_CONSISTENCY_DEFAULT && default_strong);
	plan->wait_stored = args->wait_for == FSB__V1__WAIT_FOR__WAIT_STORED;
	plan->expire_unix_s = args->expire_unix_s;
	plan->recovery_timeout_s =
		args->recovery_timeout_s ? args->recovery_timeout_s : RECOVERY_DEFAULT_S;
	plan->hash = plan_hash(plan, args, members);
	return G_OK;
}

void fp_plan_done(struct fp_plan *plan)
{
	plan->spec = fp_blob_unref(plan->spec);
	plan->labels = fp_blob_unref(plan->labels);
}

void fp_plan_request(const struct fp_plan *plan, const struct fp_member *member,
		     struct reg_request *request)
{
	*request = (struct reg_request){
		.ns = plan->ns,
		.name = member->name,
		.id = member->id,
		.pool = plan->pool,
		.image = plan->image,
		.request_id = member->request_id,
		.request_hash = member->hash,
		.ports = plan->ports,
		.port_count = plan->port_count,
		.spec = member->spec->data,
		.spec_len = member->spec->len,
		.labels = plan->labels ? plan->labels->data : NULL,
		.labels_len = plan->labels ? plan->labels->len : 0,
		.created_unix_ns = member->created_unix_ns,
		.expire_unix_s = plan->expire_unix_s,
		.policy = REG_MANUAL,
		.recovery_timeout_s = plan->recovery_timeout_s,
		.consistency = plan->strong ? REG_STRONG : REG_FAST,
	};
}
