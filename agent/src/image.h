/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images: OCI layouts unpacked into RUN_DIR/images, which all agents of a run directory share.
 *   layers/NAME       one directory per layer, NAME the first 32 hex digits of its blob's sha256
 *   refs/HASH.json    one file per reference: name, digest, layers, configuration
 *   tmp/, lock        unpacking, one at a time
 */
#ifndef AGENT_IMAGE_H
#define AGENT_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <jansson.h>

#include "base/err.h"

enum { IMAGE_REF_MAX = 512, IMAGE_LAYERS_MAX = 100, LAYER_NAME_LEN = 32, DIGEST_LEN = 71 };

struct strv {
	const char **items;
	size_t count;
};

/* Borrows from its JSON. */
struct image {
	json_t *json;
	const char *ref, *digest, *workdir, *user;
	uint64_t bytes;
	struct strv layers; /* uppermost first */
	struct strv entrypoint, cmd, env;
};

/* ---- image_store.c: what the refs directory says; one thread ---- */
struct image_store;
/* gives. */
struct image_store *image_store_open(const char *run_dir, struct err *err);
struct image_store *image_store_close(struct image_store *store);
/* Readable when the refs directory has changed. */
int image_store_watch_fd(const struct image_store *store);
/* Reads the directory again; true when the set of references differs from before. Images found
 * earlier are gone. */
bool image_store_reload(struct image_store *store);
/* By canonical reference. */
const struct image *image_store_find(const struct image_store *store, const char *ref);
size_t image_store_count(const struct image_store *store);
const struct image *image_store_at(const struct image_store *store, size_t i);

/* ---- image_load.c: from a layout into the store; any thread, any process ---- */
struct image_load_request {
	const char *run_dir;
	const char *layout_path;
	const char *layout_ref; /* "": the only one */
	const char *name;	/* "": layout_ref */
};
struct image_load_result {
	char ref[IMAGE_REF_MAX];
	char digest[DIGEST_LEN + 1];
	uint64_t bytes;
	bool already_present;
};
/* 0; -ENOENT: no such layout, reference or blob; -EINVAL, -EBADMSG: the layout is at fault; others:
 * the host. */
int image_load(const struct image_load_request *request, struct image_load_result *ret,
	       struct err *err);

/* ---- image_layout.c ---- */
struct image_manifest {
	json_t *manifest, *config;
	char digest[DIGEST_LEN + 1];
	const char *tag; /* the annotation it was found by, or NULL; borrowed from index */
	json_t *index;
};
/* gives (image_manifest_done). layout_fd is the layout's directory. */
int image_layout_read(int layout_fd, const char *layout_ref, struct image_manifest *ret,
		      struct err *err);
void image_manifest_done(struct image_manifest *m);
/* Opens blob DIGEST of a descriptor after checking name, size and sha256; gives the fd at offset 0.
 */
int image_blob_open(int layout_fd, const json_t *descriptor, int *ret_fd, struct err *err);

/* ---- image_layer.c ---- */
/* Unpacks a layer's tar (any compression) below dir_fd. what: its digest, for messages. */
int image_layer_unpack(int tar_fd, int dir_fd, const char *what, struct err *err);

#endif
