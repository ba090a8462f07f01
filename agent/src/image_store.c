/* SPDX-License-Identifier: Apache-2.0 */
/* What is in the store: the refs directory in memory, read again when inotify says that it has
 * changed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "image.h"

enum { REF_FILE_MAX = 4 << 20, IMAGES_MAX = 65536 };

struct image_store {
	int refs_fd, watch_fd;
	struct image *images; /* sorted by ref */
	size_t count, room;
};

static void image_done(struct image *image)
{
	free(image->layers.items);
	free(image->entrypoint.items);
	free(image->cmd.items);
	free(image->env.items);
	json_decref(image->json);
}

static void store_clear(struct image_store *store)
{
	while (store->count)
		image_done(&store->images[--store->count]);
}

/* The strings of a JSON array; null and absent are empty. */
static int read_strv(const json_t *array, struct strv *ret)
{
	size_t n = json_array_size(array);

	ret->items = calloc(n + 1, sizeof(*ret->items));
	if (!ret->items)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const char *text = json_string_value(json_array_get(array, i));

		if (text)
			ret->items[ret->count++] = text;
	}
	return 0;
}

static int parse_image(json_t *json, struct image *ret)
{
	const json_t *config = json_object_get(json, "config");
	const char *workdir = json_string_value(json_object_get(config, "WorkingDir"));
	const char *user = json_string_value(json_object_get(config, "User"));
	struct image image = {
		.json = json_incref(json),
		.ref = json_string_value(json_object_get(json, "ref")),
		.digest = json_string_value(json_object_get(json, "digest")),
		.bytes = (uint64_t)json_integer_value(json_object_get(json, "bytes")),
		.workdir = workdir ? workdir : "",
		.user = user ? user : "",
	};
	int rc = image.ref && image.digest ? 0 : -EBADMSG;

	if (!rc)
		rc = read_strv(json_object_get(json, "layers"), &image.layers);
	if (!rc)
		rc = read_strv(json_object_get(config, "Entrypoint"), &image.entrypoint);
	if (!rc)
		rc = read_strv(json_object_get(config, "Cmd"), &image.cmd);
	if (!rc)
		rc = read_strv(json_object_get(config, "Env"), &image.env);
	if (!rc && !image.layers.count)
		rc = -EBADMSG;
	if (rc)
		image_done(&image);
	else
		*ret = image;
	return rc;
}

static void read_ref(struct image_store *store, const char *file)
{
	cleanup_free char *text = NULL;
	struct image *grown;
	json_t *json;

	if (store->count == IMAGES_MAX ||
	    io_read_file(store->refs_fd, file, REF_FILE_MAX, &text, NULL))
		return;
	json = json_loads(text, 0, NULL);
	if (json && store->count == store->room) {
		grown = reallocarray(store->images, store->room * 2 + 8, sizeof(*grown));
		if (!grown) {
			json_decref(json);
			return;
		}
		store->images = grown;
		store->room = store->room * 2 + 8;
	}
	if (json && !parse_image(json, &store->images[store->count]))
		store->count++;
	json_decref(json);
}

static int compare_images(const void *a, const void *b)
{
	return strcmp(((const struct image *)a)->ref, ((const struct image *)b)->ref);
}

static bool same_refs(const struct image_store *a, const struct image_store *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		if (strcmp(a->images[i].ref, b->images[i].ref))
			return false;
	}
	return true;
}

static void drain_watch(int fd)
{
	char buf[4096];

	while (read(fd, buf, sizeof(buf)) > 0)
		;
}

bool image_store_reload(struct image_store *store)
{
	struct image_store old = *store;
	cleanup_closedir DIR *dir = NULL;
	struct dirent *entry;
	int fd;
	bool same;

	drain_watch(store->watch_fd);
	store->images = NULL;
	store->count = store->room = 0;
	fd = openat(store->refs_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	while (dir && (entry = readdir(dir))) {
		const char *dot = strrchr(entry->d_name, '.');

		if (dot && !strcmp(dot, ".json"))
			read_ref(store, entry->d_name);
	}
	if (store->count)
		qsort(store->images, store->count, sizeof(*store->images), compare_images);
	same = same_refs(&old, store);
	store_clear(&old);
	free(old.images);
	return !same;
}

const struct image *image_store_find(const struct image_store *store, const char *ref)
{
	struct image key = {.ref = ref};

	if (!store->count)
		return NULL;
	return bsearch(&key, store->images, store->count, sizeof(key), compare_images);
}

size_t image_store_count(const struct image_store *store)
{
	return store->count;
}

const struct image *image_store_at(const struct image_store *store, size_t i)
{
	return &store->images[i];
}

int image_store_watch_fd(const struct image_store *store)
{
	return store->watch_fd;
}

struct image_store *image_store_open(const char *run_dir, struct err *err)
{
	struct image_store *store = calloc(1, sizeof(*store));
	char path[256];
	int rc;

	snprintf(path, sizeof(path), "%s/images/refs", run_dir);
	if (!store) {
		err_set(err, -ENOMEM, "open '%s': out of memory", path);
		return NULL;
	}
	store->refs_fd = store->watch_fd = -1;
	rc = io_mkdirs(path, 0700);
	if (!rc) {
		store->refs_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		store->watch_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		if (store->refs_fd < 0 || store->watch_fd < 0 ||
		    inotify_add_watch(store->watch_fd, path, IN_MOVED_TO | IN_DELETE) < 0)
			rc = -errno;
	}
	if (rc) {
		err_errno(err, -rc, "open '%s'", path);
		return image_store_close(store);
	}
	image_store_reload(store);
	return store;
}

struct image_store *image_store_close(struct image_store *store)
{
	if (!store)
		return NULL;
	store_clear(store);
	free(store->images);
	cleanup_closep(&store->refs_fd);
	cleanup_closep(&store->watch_fd);
	free(store);
	return NULL;
}
