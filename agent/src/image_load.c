/* SPDX-License-Identifier: Apache-2.0 */
/* From a layout into the store: layers that are missing are unpacked beside it and renamed, then
 * the reference is written. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "image.h"

struct load {
	const struct image_load_request *request;
	int store_fd, layout_fd, lock_fd;
	struct image_manifest m;
	struct err *err;
};

static int make_store(struct load *ld)
{
	static const char *const dirs[] = {"layers", "refs", "tmp"};
	char path[256];
	int rc;

	snprintf(path, sizeof(path), "%s/images", ld->request->run_dir);
	rc = io_mkdirs(path, 0700);
	if (rc)
		return err_errno(ld->err, -rc, "make '%s'", path);
	ld->store_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ld->store_fd < 0)
		return err_errno(ld->err, errno, "open '%s'", path);
	for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
		if (mkdirat(ld->store_fd, dirs[i], 0700) && errno != EEXIST)
			return err_errno(ld->err, errno, "make '%s/%s'", path, dirs[i]);
	}
	return 0;
}

/* One load at a time over all agents of the run directory; what a killed one left in tmp/ goes
 * first. */
static int lock_store(struct load *ld)
{
	ld->lock_fd = openat(ld->store_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (ld->lock_fd < 0 || flock(ld->lock_fd, LOCK_EX))
		return err_errno(ld->err, errno, "lock the image store");
	/* Another process may be in make_store and have it made again already. */
	if (io_remove_tree(ld->store_fd, "tmp") ||
	    (mkdirat(ld->store_fd, "tmp", 0700) && errno != EEXIST))
		return err_set(ld->err, -EIO, "the image store's tmp directory can't be emptied");
	return 0;
}

static int unpack_layer(struct load *ld, const json_t *descriptor, const char *digest,
			const char *target)
{
	cleanup_close int blob = -1, dir = -1;
	int rc = image_blob_open(ld->layout_fd, descriptor, &blob, ld->err);

	if (rc)
		return rc;
	if (mkdirat(ld->store_fd, "tmp/layer", 0755))
		return err_errno(ld->err, errno, "make a temporary directory");
	dir = openat(ld->store_fd, "tmp/layer", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_errno(ld->err, errno, "open a temporary directory");
	rc = image_layer_unpack(blob, dir, digest, ld->err);
	if (!rc && renameat(ld->store_fd, "tmp/layer", ld->store_fd, target))
		rc = err_errno(ld->err, errno, "move layer '%s' into place", digest);
	if (rc)
		(void)io_remove_tree(ld->store_fd, "tmp/layer");
	return rc;
}

static int ensure_layer(struct load *ld, const json_t *descriptor, char *ret_name,
			bool *ret_present)
{
	const char *digest = json_string_value(json_object_get(descriptor, "digest"));
	char target[64];

	if (!digest || strlen(digest) != DIGEST_LEN || strncmp(digest, "sha256:", 7) ||
	    strspn(digest + 7, "0123456789abcdef") != 64)
		return err_set(ld->err, -EBADMSG,
			       "'%s' is not a digest that is supported: sha256 and 64 hex digits",
			       digest ? digest : "");
	snprintf(ret_name, LAYER_NAME_LEN + 1, "%s", digest + 7);
	snprintf(target, sizeof(target), "layers/%s", ret_name);
	if (!faccessat(ld->store_fd, target, F_OK, 0))
		return 0;
	*ret_present = false;
	return unpack_layer(ld, descriptor, digest, target);
}

/* Fills the array of layer names, uppermost first, and the size of all blobs. */
static int ensure_layers(struct load *ld, json_t *names, uint64_t *ret_bytes, bool *ret_present)
{
	const json_t *layers = json_object_get(ld->m.manifest, "layers"), *layer;
	size_t i;

	*ret_bytes = 0;
	*ret_present = true;
	json_array_foreach(layers, i, layer)
	{
		char name[LAYER_NAME_LEN + 1];
		int rc = ensure_layer(ld, layer, name, ret_present);

		if (rc)
			return rc;
		*ret_bytes += (uint64_t)json_integer_value(json_object_get(layer, "size"));
		if (json_array_insert_new(names, 0, json_string(name)))
			return err_set(ld->err, -ENOMEM, "out of memory");
	}
	return 0;
}

static int ref_path(const char *ref, char *buf, size_t size)
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	char hex[65];
	unsigned int len;

	if (!EVP_Digest(ref, strlen(ref), sum, &len, EVP_sha256(), NULL))
		return -ENOMEM;
	snprintf(buf, size, "refs/%s.json", str_hex(sum, 32, hex));
	return 0;
}

/* Writes the reference's file unless it says the same already; *present stays true only then. */
static int write_ref(struct load *ld, const json_t *doc, const char *ref, bool *present)
{
	cleanup_free char *text = json_dumps(doc, JSON_INDENT(1) | JSON_SORT_KEYS), *old = NULL;
	char path[96];
	int rc = text ? ref_path(ref, path, sizeof(path)) : -ENOMEM;

	if (rc)
		return err_set(ld->err, rc, "out of memory");
	if (*present && !io_read_file(ld->store_fd, path, 4 << 20, &old, NULL) &&
	    !strcmp(old, text))
		return 0;
	*present = false;
	rc = io_write_file_atomic(ld->store_fd, path, text, strlen(text), 0600, 0);
	return rc ? err_errno(ld->err, -rc, "write the reference '%s'", ref) : 0;
}

static int store_image(struct load *ld, struct image_load_result *ret)
{
	json_t *names = json_array(), *doc = NULL;
	int rc = ensure_layers(ld, names, &ret->bytes, &ret->already_present);

	if (!rc) {
		json_t *config = json_object_get(ld->m.config, "config");

		doc = json_pack("{s:s, s:s, s:I, s:O, s:O?}", "ref", ret->ref, "digest",
				ret->digest, "bytes", (json_int_t)ret->bytes, "layers", names,
				"config", json_is_object(config) ? config : NULL);
		rc = doc ? write_ref(ld, doc, ret->ref, &ret->already_present)
			 : err_set(ld->err, -ENOMEM, "out of memory");
	}
	json_decref(doc);
	json_decref(names);
	return rc;
}

static int choose_name(struct load *ld, char *buf)
{
	const char *name = *ld->request->name ? ld->request->name : ld->request->layout_ref;

	if (!*name)
		name = ld->m.tag ? ld->m.tag : "";
	if (!*name)
		return err_set(ld->err, -EINVAL, "the image has no reference: give a name");
	if (str_image_canonical(name, buf, IMAGE_REF_MAX))
		return err_set(ld->err, -EINVAL, "'%.200s' is not an image reference", name);
	return 0;
}

static int load_all(struct load *ld, struct image_load_result *ret)
{
	const struct image_load_request *request = ld->request;
	int rc;

	if (*request->layout_path != '/')
		return err_set(ld->err, -EINVAL, "the path '%s' is not absolute",
			       request->layout_path);
	ld->layout_fd = open(request->layout_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ld->layout_fd < 0)
		return err_errno(ld->err, errno, "open the directory");
	rc = image_layout_read(ld->layout_fd, request->layout_ref, &ld->m, ld->err);
	if (!rc)
		rc = choose_name(ld, ret->ref);
	if (!rc)
		rc = make_store(ld);
	if (!rc)
		rc = lock_store(ld);
	if (rc)
		return rc;
	memcpy(ret->digest, ld->m.digest, sizeof(ret->digest));
	return store_image(ld, ret);
}

int image_load(const struct image_load_request *request, struct image_load_result *ret,
	       struct err *err)
{
	struct load ld = {
		.request = request, .store_fd = -1, .layout_fd = -1, .lock_fd = -1, .err = err};
	struct image_load_result result = {0};
	int rc = load_all(&ld, &result);

	image_manifest_done(&ld.m);
	cleanup_closep(&ld.lock_fd);
	cleanup_closep(&ld.store_fd);
	cleanup_closep(&ld.layout_fd);
	if (rc)
		return err_wrap(err, "load image from '%s'", request->layout_path), rc;
	*ret = result;
	return 0;
}
