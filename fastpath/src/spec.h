/* SPDX-License-Identifier: Apache-2.0 */
/* The encoded forms that the arena holds and agents are sent: spec and labels blobs, and
 * SandboxMeta. */
#ifndef FASTPATH_SPEC_H
#define FASTPATH_SPEC_H

#include <stdint.h>

#include "fail.h"
#include "map.h"
#include "registry/registry.h"
#include "spec.pb-c.h"

/* Bytes that several owners share on one thread. */
struct fp_blob {
	uint32_t refs;
	uint32_t len;
	uint8_t data[];
};
struct fp_blob *fp_blob_ref(struct fp_blob *blob);
/* NULL is fine. Returns NULL. */
struct fp_blob *fp_blob_unref(struct fp_blob *blob);

/* What a batch member changes of the spec; NULL or empty parts change nothing. */
struct fp_override {
	size_t n_command, n_args;
	char **command, **args;
	struct fp_map envs;
};

/* Encodes spec with over (may be NULL), maps sorted and last-wins. *ret gives. Refuses more than
 * REG_SPEC_MAX bytes. */
int fp_spec_encode(const Fsb__V1__SandboxSpec *spec, const struct fp_override *over,
		   struct fp_blob **ret, struct fp_fail *fail);
/* *ret is NULL for no labels. Refuses more than REG_LABELS_MAX bytes. */
int fp_labels_encode(const struct fp_map *labels, struct fp_blob **ret, struct fp_fail *fail);

/* Labels decoded from their blob, sorted. */
struct fp_labels {
	struct pb_arena *arena;
	struct fp_map map;
};
/* blob: len bytes of an encoded StringMap. 0 or a negative errno. */
int fp_labels_decode(const void *data, size_t len, struct fp_labels *ret);
/* Those of a record; none when it has none or is gone. 0, -ESTALE, -ENOMEM, -EBADMSG. */
int fp_labels_of(struct reg_self *me, reg_sandbox_id sandbox, struct fp_labels *ret);
void fp_labels_done(struct fp_labels *labels);

/* meta borrows everything from view and labels. */
void fp_meta_of_view(const struct reg_sandbox_view *view, const struct fp_labels *labels,
		     Fsb__V1__SandboxMeta *meta);

#endif
