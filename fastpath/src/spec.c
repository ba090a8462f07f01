/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding and decoding of spec, labels and meta (see spec.h). Knows no policy; check.c has been
 * here before. */
#include "spec.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/pb.h"

static struct fp_blob *blob_pack(const ProtobufCMessage *msg, size_t len)
{
	struct fp_blob *blob = malloc(sizeof(*blob) + len);

	if (!blob)
		return NULL;
	blob->refs = 1;
	blob->len = (uint32_t)protobuf_c_message_pack(msg, blob->data);
	return blob;
}

struct fp_blob *fp_blob_ref(struct fp_blob *blob)
{
	blob->refs++;
	return blob;
}

struct fp_blob *fp_blob_unref(struct fp_blob *blob)
{
	if (blob && --blob->refs == 0)
		free(blob);
	return NULL;
}

static int fail_nomem(struct fp_fail *fail)
{
	return fp_fail(fail, G_RESOURCE_EXHAUSTED, "this worker is out of memory; try again");
}

static int encode(const Fsb__V1__SandboxSpec *spec, struct fp_blob **ret, struct fp_fail *fail)
{
	size_t len = fsb__v1__sandbox_spec__get_packed_size(spec);

	if (len > REG_SPEC_MAX)
		return fp_fail(
			fail, G_INVALID_ARGUMENT,
			"the encoded spec has %zu bytes: at most %d are taken; command, args and "
			"envs are what makes it large",
			len, REG_SPEC_MAX);
	*ret = blob_pack(&spec->base, len);
	return *ret ? G_OK : fail_nomem(fail);
}

int fp_spec_encode(const Fsb__V1__SandboxSpec *spec, const struct fp_override *over,
		   struct fp_blob **ret, struct fp_fail *fail)
{
	struct fp_map in_envs = FP_MAP(spec, envs), in_resources = FP_MAP(spec, resources);
	Fsb__V1__SandboxSpec out = *spec;
	struct fp_map envs, resources = {0};
	int status;

	if (fp_map_sorted(&in_envs, over ? &over->envs : NULL, &envs) ||
	    fp_map_sorted(&in_resources, NULL, &resources)) {
		fp_map_free(&envs);
		return fail_nomem(fail);
	}
	out.base.n_unknown_fields = 0;
	out.n_envs = envs.n;
	out.envs = (Fsb__V1__SandboxSpec__EnvsEntry **)envs.entries;
	out.n_resources = resources.n;
	out.resources = (Fsb__V1__SandboxSpec__ResourcesEntry **)resources.entries;
	if (over && over->n_command) {
		out.n_command = over->n_command;
		out.command = over->command;
	}
	if (over && over->n_args) {
		out.n_args = over->n_args;
		out.args = over->args;
	}
	status = encode(&out, ret, fail);
	fp_map_free(&envs);
	fp_map_free(&resources);
	return status;
}

int fp_labels_encode(const struct fp_map *labels, struct fp_blob **ret, struct fp_fail *fail)
{
	Fsb__V1__StringMap msg = FSB__V1__STRING_MAP__INIT;
	struct fp_map sorted;
	size_t len;

	*ret = NULL;
	if (labels->n == 0)
		return G_OK;
	if (fp_map_sorted(labels, NULL, &sorted))
		return fail_nomem(fail);
	msg.n_entries = sorted.n;
	msg.entries = (Fsb__V1__StringMap__EntriesEntry **)sorted.entries;
	len = fsb__v1__string_map__get_packed_size(&msg);
	if (len <= REG_LABELS_MAX)
		*ret = blob_pack(&msg.base, len);
	fp_map_free(&sorted);
	if (len > REG_LABELS_MAX)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "the labels have %zu bytes encoded: at most %d are taken", len,
			       REG_LABELS_MAX);
	return *ret ? G_OK : fail_nomem(fail);
}

int fp_labels_decode(const void *data, size_t len, struct fp_labels *ret)
{
	ProtobufCMessage *msg;
	struct fp_map map;
	int rc;

	*ret = (struct fp_labels){0};
	if (len == 0)
		return 0;
	rc = pb_unpack(&fsb__v1__string_map__descriptor, data, len, NULL, &ret->arena, &msg, NULL);
	if (rc)
		return rc;
	map = FP_MAP((Fsb__V1__StringMap *)msg, entries);
	rc = fp_map_sorted(&map, NULL, &ret->map);
	if (rc)
		ret->arena = pb_free(ret->arena);
	return rc;
}

int fp_labels_of(struct reg_self *me, reg_sandbox_id sandbox, struct fp_labels *ret)
{
	cleanup_free void *buf = malloc(REG_LABELS_MAX);
	enum reg_status status;
	uint32_t len;

	*ret = (struct fp_labels){0};
	if (!buf)
		return -ENOMEM;
	status = reg_labels(me, sandbox, buf, REG_LABELS_MAX, &len);
	if (status != REG_OK)
		return -ESTALE;
	return fp_labels_decode(buf, len, ret);
}

void fp_labels_done(struct fp_labels *labels)
{
	fp_map_free(&labels->map);
	labels->arena = pb_free(labels->arena);
}

void fp_meta_of_view(const struct reg_sandbox_view *view, const struct fp_labels *labels,
		     Fsb__V1__SandboxMeta *meta)
{
	fsb__v1__sandbox_meta__init(meta);
	meta->id = fp_borrow(view->id);
	meta->namespace_ = fp_borrow(view->ns);
	meta->name = fp_borrow(view->name);
	meta->pool = fp_borrow(view->pool);
	meta->created_unix_ns = view->created_unix_ns;
	meta->generation = view->generation;
	meta->request_id = fp_borrow(view->request_id);
	meta->request_hash = view->request_hash;
	meta->expire_unix_s = view->expire_unix_s;
	meta->failure_policy = view->policy;
	meta->recovery_timeout_s = view->recovery_timeout_s;
	meta->n_labels = labels->map.n;
	meta->labels = (Fsb__V1__SandboxMeta__LabelsEntry **)labels->map.entries;
	meta->consistency = view->consistency;
}
