/* SPDX-License-Identifier: Apache-2.0 */
/* Reading an OCI layout directory: index, manifest for this platform, configuration; each blob
 * checked against its digest. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "image.h"

enum { JSON_BYTES_MAX = 4 << 20, INDEX_DEPTH_MAX = 4, HASH_CHUNK = 256 << 10 };

static const char *const index_types[] = {
	"application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
};

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static bool digest_is_valid(const char *digest)
{
	return strlen(digest) == DIGEST_LEN && !strncmp(digest, "sha256:", 7) &&
	       strspn(digest + 7, "0123456789abcdef") == 64;
}

/* ---- blobs ---- */

static int hash_fd(int fd, char *ret_hex)
{
	cleanup_free uint8_t *chunk = malloc(HASH_CHUNK);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned int len;
	ssize_t n = 0;
	int rc = chunk && ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) ? 0 : -ENOMEM;

	while (!rc && (n = read(fd, chunk, HASH_CHUNK)) > 0) {
		if (!EVP_DigestUpdate(ctx, chunk, (size_t)n))
			rc = -ENOMEM;
	}
	if (!rc && n < 0)
		rc = -errno;
	if (!rc && !EVP_DigestFinal_ex(ctx, sum, &len))
		rc = -ENOMEM;
	EVP_MD_CTX_free(ctx);
	if (!rc)
		str_hex(sum, 32, ret_hex);
	return rc;
}

static int check_blob(int fd, const json_t *descriptor, const char *digest, struct err *err)
{
	json_int_t size = json_integer_value(json_object_get(descriptor, "size"));
	char hex[65];
	struct stat st;
	int rc;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		return err_set(err, -EBADMSG, "blob '%s' is not a regular file", digest);
	if (json_object_get(descriptor, "size") && st.st_size != size)
		return err_set(err, -EBADMSG, "blob '%s' has %lld bytes, its descriptor says %lld",
			       digest, (long long)st.st_size, (long long)size);
	rc = hash_fd(fd, hex);
	if (rc)
		return err_errno(err, -rc, "read blob '%s'", digest);
	if (strcmp(hex, digest + 7))
		return err_set(err, -EBADMSG, "blob '%s' is corrupt: its content has sha256 '%s'",
			       digest, hex);
	return lseek(fd, 0, SEEK_SET) ? err_errno(err, errno, "seek in blob '%s'", digest) : 0;
}

int image_blob_open(int layout_fd, const json_t *descriptor, int *ret_fd, struct err *err)
{
	const char *digest = text_of(descriptor, "digest");
	cleanup_close int fd = -1;
	char path[128];
	int rc;

	if (!digest_is_valid(digest))
		return err_set(err, -EBADMSG,
			       "'%s' is not a digest that is supported: sha256 and 64 hex digits",
			       digest);
	snprintf(path, sizeof(path), "blobs/sha256/%s", digest + 7);
	fd = openat(layout_fd, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open blob '%s'", digest);
	rc = check_blob(fd, descriptor, digest, err);
	if (!rc)
		*ret_fd = take_fd(&fd);
	return rc;
}

static int read_json(int fd, const char *what, json_t **ret, struct err *err)
{
	json_error_t json_err;
	struct stat st;

	if (fstat(fd, &st))
		return err_errno(err, errno, "stat '%s'", what);
	if (st.st_size > JSON_BYTES_MAX)
		return err_set(err, -EBADMSG, "'%s' has %lld bytes; at most %d are taken", what,
			       (long long)st.st_size, JSON_BYTES_MAX);
	*ret = json_loadfd(fd, JSON_REJECT_DUPLICATES, &json_err);
	if (!json_is_object(*ret)) {
		json_decref(*ret);
		return err_set(err, -EBADMSG, "'%s' is not a JSON object: line %d: %s", what,
			       json_err.line, json_err.text);
	}
	return 0;
}

static int read_json_blob(int layout_fd, const json_t *descriptor, json_t **ret, struct err *err)
{
	cleanup_close int fd = -1;
	int rc = image_blob_open(layout_fd, descriptor, &fd, err);

	return rc ? rc : read_json(fd, text_of(descriptor, "digest"), ret, err);
}

/* ---- which manifest ---- */

static const char *tag_of(const json_t *descriptor)
{
	return json_string_value(json_object_get(json_object_get(descriptor, "annotations"),
						 "org.opencontainers.image.ref.name"));
}

/* The descriptor with that tag, or the only one. NULL with err set. */
static const json_t *pick_tagged(const json_t *index, const char *ref, struct err *err)
{
	const json_t *list = json_object_get(index, "manifests"), *found = NULL, *entry;
	size_t i, n = json_array_size(list);

	json_array_foreach(list, i, entry)
	{
		const char *tag = tag_of(entry);

		if (!*ref || (tag && !strcmp(tag, ref)))
			found = entry;
	}
	if (!*ref && n > 1) {
		err_set(err, -EINVAL, "the layout holds %zu images: say which one by its reference",
			n);
		return NULL;
	}
	if (!found)
		err_set(err, -ENOENT, "the layout has no image with the reference '%s'", ref);
	return found;
}

static bool is_index(const json_t *descriptor)
{
	const char *type = text_of(descriptor, "mediaType");

	return !strcmp(type, index_types[0]) || !strcmp(type, index_types[1]);
}

static const json_t *pick_platform(const json_t *index, struct err *err)
{
	const json_t *entry;
	size_t i;

	json_array_foreach(json_object_get(index, "manifests"), i, entry)
	{
		const json_t *platform = json_object_get(entry, "platform");

		if (!strcmp(text_of(platform, "os"), "linux") &&
		    !strcmp(text_of(platform, "architecture"), "amd64"))
			return entry;
	}
	err_set(err, -ENOENT, "the image has no variant for linux/amd64");
	return NULL;
}

/* Follows nested indexes down to a manifest. */
static int resolve_manifest(int layout_fd, const json_t *descriptor, struct image_manifest *m,
			    struct err *err)
{
	json_t *doc = NULL;
	int rc = read_json_blob(layout_fd, descriptor, &doc, err);

	for (int depth = 0; !rc && is_index(descriptor); depth++) {
		json_t *inner = NULL;

		descriptor = pick_platform(doc, err);
		if (!descriptor)
			rc = err ? err->code : -ENOENT;
		else if (depth == INDEX_DEPTH_MAX)
			rc = err_set(err, -EBADMSG, "indexes are nested more than %d deep", depth);
		else
			rc = read_json_blob(layout_fd, descriptor, &inner, err);
		if (!rc)
			snprintf(m->digest, sizeof(m->digest), "%s", text_of(descriptor, "digest"));
		/* The descriptor lies in doc: what is asked of it next must outlive that. */
		if (!rc && is_index(descriptor))
			json_object_set(inner, "mediaType",
					json_object_get(descriptor, "mediaType"));
		json_decref(doc);
		doc = inner;
		descriptor = inner;
	}
	m->manifest = doc;
	return rc;
}

static int check_manifest(const struct image_manifest *m, struct err *err)
{
	size_t layers = json_array_size(json_object_get(m->manifest, "layers"));

	if (!layers || layers > IMAGE_LAYERS_MAX)
		return err_set(err, -EBADMSG, "the image has %zu layers; 1 to %d are supported",
			       layers, IMAGE_LAYERS_MAX);
	return 0;
}

/* A manifest of one platform may still be of the wrong one. */
static int check_config(const struct image_manifest *m, struct err *err)
{
	const char *os = text_of(m->config, "os"), *arch = text_of(m->config, "architecture");

	if ((*os && strcmp(os, "linux")) || (*arch && strcmp(arch, "amd64")))
		return err_set(err, -EBADMSG, "the image is for %s/%s, this host is linux/amd64",
			       os, arch);
	return 0;
}

static int check_version(int layout_fd, struct err *err)
{
	json_t *doc = NULL;
	cleanup_close int fd = openat(layout_fd, "oci-layout", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return err_set(err, -ENOENT, "it has no readable file 'oci-layout': %s",
			       strerror(errno));
	rc = read_json(fd, "oci-layout", &doc, err);
	if (!rc && strncmp(text_of(doc, "imageLayoutVersion"), "1.", 2))
		rc = err_set(err, -EBADMSG, "layout version '%s' is not supported: 1.x is",
			     text_of(doc, "imageLayoutVersion"));
	json_decref(doc);
	return rc;
}

int image_layout_read(int layout_fd, const char *layout_ref, struct image_manifest *ret,
		      struct err *err)
{
	struct image_manifest m = {0};
	cleanup_close int fd = -1;
	const json_t *descriptor;
	int rc = check_version(layout_fd, err);

	if (rc)
		return rc;
	fd = openat(layout_fd, "index.json", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open 'index.json'");
	rc = read_json(fd, "index.json", &m.index, err);
	if (rc)
		return rc;
	descriptor = pick_tagged(m.index, layout_ref, err);
	rc = descriptor ? 0 : *layout_ref ? -ENOENT : -EINVAL;
	if (!rc) {
		m.tag = tag_of(descriptor);
		snprintf(m.digest, sizeof(m.digest), "%s", text_of(descriptor, "digest"));
		rc = resolve_manifest(layout_fd, descriptor, &m, err);
	}
	if (!rc)
		rc = check_manifest(&m, err);
	if (!rc)
		rc = read_json_blob(layout_fd, json_object_get(m.manifest, "config"), &m.config,
				    err);
	if (!rc)
		rc = check_config(&m, err);
	if (rc)
		image_manifest_done(&m);
	else
		*ret = m;
	return rc;
}

void image_manifest_done(struct image_manifest *m)
{
	json_decref(m->manifest);
	json_decref(m->config);
	json_decref(m->index);
	*m = (struct image_manifest){0};
}
