/* SPDX-License-Identifier: Apache-2.0 */
/* Update: fields go to the registry at once (expiry acts from there), and to the agent, which keeps
 * them for a rebuild. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "check.h"
#include "service.h"
#include "status.h"

#define META_ANSWER_NS (10 * NS_PER_S)

static int check_args(const struct fp_update_args *args, struct fp_fail *fail)
{
	int status = G_OK;

	if (args->reset)
		return fp_fail(fail, G_UNIMPLEMENTED, "reset is not available: " FP_NO_LIFECYCLE);
	/* A time in the past is fine here: the sandbox expires at once. */
	if (args->fields & REG_SET_EXPIRE)
		status = fp_check_expire(args->expire_unix_s, 0, fail);
	if (!status && args->fields & REG_SET_POLICY)
		status = fp_check_policy(args->policy, fail);
	if (!status && args->fields & REG_SET_RECOVERY)
		status = fp_check_recovery(args->recovery_timeout_s, fail);
	if (!status)
		status = fp_check_labels(&args->labels, fail);
	return status;
}

/* What the record has, overlaid by what was given. *ret NULL: no labels at all. */
static int merge_labels(struct fp_service *svc, const struct reg_sandbox_view *view,
			const struct fp_map *given, struct fp_blob **ret, struct fp_fail *fail)
{
	struct fp_labels have = {0};
	struct fp_map merged;
	int status;

	if (view->labels_len && fp_labels_of(svc->me, view->sandbox, &have))
		return fp_fail(fail, G_NOT_FOUND, "the sandbox was deleted meanwhile");
	if (fp_map_sorted(&have.map, given, &merged)) {
		fp_labels_done(&have);
		return fp_fail(fail, G_RESOURCE_EXHAUSTED, "this worker is out of memory");
	}
	status = fp_check_labels(&merged, fail);
	if (!status)
		status = fp_labels_encode(&merged, ret, fail);
	fp_map_free(&merged);
	fp_labels_done(&have);
	return status;
}

/* *ret_again: somebody else has changed the labels that were merged; nothing was done. */
static int apply(struct fp_service *svc, const struct fp_update_args *args,
		 const struct reg_sandbox_view *view, bool *ret_again, struct fp_fail *fail)
{
	struct reg_update update = {
		.fields = args->fields & ~(uint32_t)REG_SET_LABELS,
		.expire_unix_s = args->expire_unix_s,
		.policy = (enum reg_policy)args->policy,
		.recovery_timeout_s = args->recovery_timeout_s,
	};
	struct fp_blob *labels = NULL;
	enum reg_status reg;
	int status = G_OK;

	if (args->labels.n) {
		status = merge_labels(svc, view, &args->labels, &labels, fail);
		update.fields |= REG_SET_LABELS | REG_IF_LABELS;
		update.labels_seen = view->labels_token;
		update.labels = labels ? labels->data : NULL;
		update.labels_len = labels ? labels->len : 0;
	}
	if (!status && update.fields) {
		reg = reg_update(svc->me, view->sandbox, &update);
		*ret_again = reg == REG_CONFLICT;
		if (reg != REG_OK)
			status = fp_fail_reg(fail, reg, view->name);
	}
	fp_blob_unref(labels);
	return status;
}

/* ---- the agent's copy: best effort, fsb-registryd and the store have the truth ---- */

static void on_ack(void *arg, enum agentlink_result result, const Fsb__Agent__V1__Ack *ack,
		   const char *reason)
{
	if (result != AGENTLINK_ACKED)
		log_debug("agent has not confirmed new meta", "reason=%s", reason);
}

static void push_meta(struct fp_service *svc, const struct reg_sandbox_view *view)
{
	Fsb__Agent__V1__Command command = FSB__AGENT__V1__COMMAND__INIT;
	struct fp_labels labels = {0};
	struct agentlink *link;
	Fsb__V1__SandboxMeta meta;
	struct fp_fail fail;

	if (view->agent.idx == UINT32_MAX ||
	    (view->labels_len && fp_labels_of(svc->me, view->sandbox, &labels)))
		return;
	fp_meta_of_view(view, &labels, &meta);
	command.kind_case = FSB__AGENT__V1__COMMAND__KIND_SET_META;
	command.set_meta = &meta;
	if (!fp_links_get(svc->links, view->agent, &link, NULL, &fail))
		(void)agentlink_command(link, &command, META_ANSWER_NS, on_ack, NULL);
	fp_labels_done(&labels);
}

int fp_update(struct fp_service *svc, const struct fp_update_args *args,
	      struct reg_sandbox_view *ret, bool *ret_found, struct fp_fail *fail)
{
	reg_sandbox_id sandbox;
	int status = fp_lookup(svc, args->ns, args->name, ret, fail);

	*ret_found = status == G_OK;
	if (!status)
		status = check_args(args, fail);
	for (bool again = true; !status && again;) {
		again = false;
		status = apply(svc, args, ret, &again, fail);
		if (again)
			status = fp_lookup(svc, args->ns, args->name, ret, fail);
	}
	if (status)
		return status;
	sandbox = ret->sandbox;
	if (reg_view(svc->me, sandbox, ret) != REG_OK) {
		*ret_found = false;
		return fp_fail(fail, G_NOT_FOUND, "the sandbox was deleted meanwhile");
	}
	push_meta(svc, ret);
	return G_OK;
}
