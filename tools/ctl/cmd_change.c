/* SPDX-License-Identifier: Apache-2.0 */
/* update and reset: what changes a sandbox that is there. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "ctl.h"
#include "msg.h"
#include "specfile.h"
#include "text.h"

/* ---- one Update call ---- */

/* The reply is kept in the command's memory by the caller's arena. Upstream reports failures in the
 * reply, not as a status. */
static int call_update(struct ctl *ctl, const Fastpath__V1__UpdateRequest *request,
		       struct pb_arena **ret_arena, const Fastpath__V1__UpdateResponse **ret_reply,
		       struct err *err)
{
	ProtobufCMessage *msg = NULL;
	int rc = ctl_call(ctl, FASTPATH_V1 "UpdateSandbox", &request->base,
			  &fastpath__v1__update_response__descriptor, ret_arena, &msg, err);

	if (rc)
		return rc;
	*ret_reply = (const Fastpath__V1__UpdateResponse *)msg;
	if (!(*ret_reply)->success)
		return err_set(err, -EIO, "%s",
			       (*ret_reply)->message[0] ? (*ret_reply)->message : "update failed");
	return 0;
}

static void init_request(Fastpath__V1__UpdateRequest *request, struct ctl *ctl, char *name)
{
	fastpath__v1__update_request__init(request);
	request->sandbox_name = name;
	request->namespace_ = ctl->ns;
}

/* ---- update ---- */

static struct {
	const char *expire, *policy, *labels;
	int64_t recovery_s;
	bool recovery_set;
} flags;

static const struct opt update_opts[] = {
	{.name = "expire-time",
	 .kind = OPT_STRING,
	 .arg = "TIME",
	 .help = "Unix seconds, RFC 3339, or from now: 90s, 10m, 2h, 1d; 0: never",
	 .string = &flags.expire},
	{.name = "failure-policy",
	 .kind = OPT_STRING,
	 .arg = "P",
	 .help = "manual or autorecreate",
	 .string = &flags.policy},
	{.name = "recovery-timeout",
	 .kind = OPT_INT,
	 .arg = "S",
	 .help = "seconds before a lost sandbox is re-created",
	 .min = 0,
	 .max = INT32_MAX,
	 .number = &flags.recovery_s,
	 .ret_set = &flags.recovery_set},
	{.name = "labels",
	 .kind = OPT_STRING,
	 .arg = "K=V,...",
	 .help = "labels to add or overwrite",
	 .string = &flags.labels},
	{.name = NULL},
};

enum { MAX_REQUESTS = 4 };

/* The wire takes one of expiry, policy and recovery timeout at a time, so each becomes a request;
 * labels ride on the first. */
static int make_requests(struct ctl *ctl, char *name, Fastpath__V1__UpdateRequest *requests,
			 int *ret_n, struct err *err)
{
	struct kv labels = {.keys.n = 0};
	bool recreate = false;
	int n = 0;
	int rc = 0;

	for (int i = 0; i < MAX_REQUESTS; i++)
		init_request(&requests[i], ctl, name);
	if (flags.expire) {
		requests[n].update_case = FASTPATH__V1__UPDATE_REQUEST__UPDATE_EXPIRE_TIME_SECONDS;
		rc = text_parse_time("--expire-time", flags.expire,
				     &requests[n++].expire_time_seconds, err);
	}
	if (!rc && flags.policy) {
		rc = spec_parse_policy("--failure-policy", flags.policy, &recreate, err);
		requests[n].update_case = FASTPATH__V1__UPDATE_REQUEST__UPDATE_FAILURE_POLICY;
		requests[n++].failure_policy = recreate
						       ? FASTPATH__V1__FAILURE_POLICY__AUTO_RECREATE
						       : FASTPATH__V1__FAILURE_POLICY__MANUAL;
	}
	if (!rc && flags.recovery_set) {
		requests[n].update_case =
			FASTPATH__V1__UPDATE_REQUEST__UPDATE_RECOVERY_TIMEOUT_SECONDS;
		requests[n++].recovery_timeout_seconds = (int32_t)flags.recovery_s;
	}
	if (!rc && flags.labels)
		rc = text_parse_map(&ctl->mem, "--labels", flags.labels, &labels, err);
	if (labels.keys.n) {
		requests[0].n_labels = labels.keys.n;
		requests[0].labels = msg_update_labels(&ctl->mem, &labels);
		n = n ? n : 1;
	}
	*ret_n = n;
	return rc;
}

static int update(struct ctl *ctl, int npos, char **pos, struct err *err)
{
	Fastpath__V1__UpdateRequest requests[MAX_REQUESTS];
	int n = 0;
	int rc = ctl_one_namespace(ctl, err);

	if (!rc)
		rc = make_requests(ctl, pos[0], requests, &n, err);
	if (rc)
		return rc;
	if (!n)
		return err_set(err, -EINVAL,
			       "nothing to update: give --expire-time, --failure-policy, "
			       "--recovery-timeout or --labels");
	for (int i = 0; i < n; i++) {
		cleanup_pb struct pb_arena *arena = NULL;
		const Fastpath__V1__UpdateResponse *reply = NULL;

		rc = call_update(ctl, &requests[i], &arena, &reply, err);
		if (rc)
			return i ? err_wrap(err, "%d of %d changes were made; then", i, n) : rc;
		if (i < n - 1)
			continue;
		printf("✓ Sandbox %s updated successfully\n", pos[0]);
		if (reply->sandbox)
			printf("  Phase: %s\n  Agent: %s\n", reply->sandbox->phase,
			       reply->sandbox->agent_pod);
	}
	return 0;
}

const struct ctl_command ctl_cmd_update = {
	.name = "update",
	.args = "NAME",
	.summary = "change expiry, failure policy or labels",
	.opts = update_opts,
	.epilog = "All options given are applied, one after the other.",
	.min_pos = 1,
	.max_pos = 1,
	.verbatim_from = -1,
	.run = update,
};

/* ---- reset ---- */

static const struct opt reset_opts[] = {{.name = NULL}};

static int reset(struct ctl *ctl, int npos, char **pos, struct err *err)
{
	cleanup_pb struct pb_arena *arena = NULL;
	const Fastpath__V1__UpdateResponse *reply = NULL;
	Fastpath__V1__UpdateRequest request;
	char now[40];
	int rc = ctl_one_namespace(ctl, err);

	if (rc)
		return rc;
	init_request(&request, ctl, pos[0]);
	request.update_case = FASTPATH__V1__UPDATE_REQUEST__UPDATE_RESET_REVISION;
	request.reset_revision = clock_rfc3339(clock_unix_ns(), now, sizeof(now));
	rc = call_update(ctl, &request, &arena, &reply, err);
	if (rc)
		return rc;
	printf("✓ Sandbox %s reset triggered\n  Revision: %s\n", pos[0], now);
	return 0;
}

const struct ctl_command ctl_cmd_reset = {
	.name = "reset",
	.alias = "restart",
	.args = "NAME",
	.summary = "start a sandbox anew, with the same id",
	.opts = reset_opts,
	.min_pos = 1,
	.max_pos = 1,
	.verbatim_from = -1,
	.run = reset,
};
