/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox record as a Sandbox object in the CRD's JSON shape (sandbox.fast.io/v1alpha1) and back.
 * The JSON alone is enough to rebuild the record: what the CRD has no field for stands in additive
 * fields and annotations. No I/O, no arena access.
 */
#ifndef CRDSYNC_OBJECT_H
#define CRDSYNC_OBJECT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "registry/registry.h"

/*
 * One JSON document (gives), compact, UTF-8. spec and labels are the record's blobs
 * (view->spec_len, view->labels_len bytes). deleted_unix_ns becomes metadata.deletionTimestamp when
 * view->deleting. -EBADMSG: a blob or text that can't be expressed.
 */
int crd_object_encode(const struct reg_sandbox_view *view, const void *spec, const void *labels,
		      int64_t deleted_unix_ns, char **ret_json, size_t *ret_len, struct err *err);

/* A decoded object: a reg_restore whose texts and blobs live as long as it does. */
struct crd_object {
	struct reg_restore restore; /* from_store is set */
	bool deleting;		    /* a delete had been asked for */
	void *owned;		    /* what restore points into */
};

/* 0, or -EBADMSG with the field that is wrong. *ret is to be cleared. */
int crd_object_decode(const char *json, size_t len, struct crd_object *ret, struct err *err);
void crd_object_clear(struct crd_object *object);

/* Metadata keys. */
#define CRD_API_VERSION		    "sandbox.fast.io/v1alpha1"
#define CRD_LABEL_CREATED_BY	    "sandbox.fast.io/created-by"
#define CRD_CREATED_BY_FAST	    "fastpath-fast"
#define CRD_ANNOTATION_CREATED	    "sandbox.fast.io/createTimestamp"
#define CRD_ANNOTATION_REQUEST_ID   "sandbox.fast.io/request-id"
#define CRD_ANNOTATION_REQUEST_HASH "sandbox.fast.io/request-hash"

/* status.phase of a record. */
const char *crd_phase(const struct reg_sandbox_view *view);

/* Unix seconds as RFC 3339 ("2026-01-02T03:04:05Z"; after the year 9999: its last second); buf
 * holds 32 bytes. Returns buf. */
char *crd_time_format(int64_t unix_s, char *buf, size_t size);
int crd_time_parse(const char *text, int64_t *ret_unix_s);

#endif
