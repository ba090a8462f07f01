/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tombstones: ids that a controller was told do not run here, so that a start which still lies
 * unread in a dead worker's stream is refused. Kept in a file, one line each, and forgotten after
 * an hour, when no stream can hold such a start any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"

enum { FENCES_MAX = 65536, FILE_BYTES_MAX = 32 << 20, BUCKETS = 4096 };
#define LIFETIME_S 3600

struct fence {
	struct fence *next;
	char id[ID_MAX + 1];
	int64_t generation, unix_s;
};

struct agt_fences {
	struct fence *buckets[BUCKETS];
	size_t count;
	size_t appended; /* lines in the file */
	int fd;
	char path[300];
};

static int64_t now_s(void)
{
	return clock_unix_ns() / (int64_t)NS_PER_S;
}

static unsigned int bucket_of(const char *id)
{
	unsigned int h = 5381;

	for (; *id; id++)
		h = h * 33 + (unsigned char)*id;
	return h % BUCKETS;
}

static struct fence *find(struct agt_fences *fs, const char *id)
{
	struct fence *f = fs->buckets[bucket_of(id)];

	while (f && strcmp(f->id, id))
		f = f->next;
	return f;
}

static struct fence *add(struct agt_fences *fs, const char *id)
{
	struct fence *f = calloc(1, sizeof(*f));
	unsigned int bucket = bucket_of(id);

	if (!f)
		return NULL;
	snprintf(f->id, sizeof(f->id), "%s", id);
	f->next = fs->buckets[bucket];
	fs->buckets[bucket] = f;
	fs->count++;
	return f;
}

static void expire(struct agt_fences *fs)
{
	int64_t before = now_s() - LIFETIME_S;

	for (unsigned int i = 0; i < BUCKETS; i++) {
		struct fence **at = &fs->buckets[i];

		while (*at) {
			struct fence *f = *at;

			if (f->unix_s >= before) {
				at = &f->next;
				continue;
			}
			*at = f->next;
			free(f);
			fs->count--;
		}
	}
}

static void load_line(struct agt_fences *fs, const char *line)
{
	char id[ID_MAX + 1];
	long long generation, unix_s;
	struct fence *f;

	/* A torn last line is a fence that nobody was told of. */
	if (sscanf(line, "%64s %lld %lld", id, &generation, &unix_s) != 3)
		return;
	f = find(fs, id);
	if (!f)
		f = add(fs, id);
	if (f && generation >= f->generation) {
		f->generation = generation;
		f->unix_s = unix_s;
	}
}

static int append_line(struct agt_fences *fs, const struct fence *f)
{
	char line[128];
	int n = snprintf(line, sizeof(line), "%s %lld %lld\n", f->id, (long long)f->generation,
			 (long long)f->unix_s);

	fs->appended++;
	return io_write_full(fs->fd, line, (size_t)n);
}

/* Writes the file anew with what is alive. */
static int compact(struct agt_fences *fs)
{
	cleanup_free char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int rc;

	if (!out)
		return -errno;
	for (unsigned int i = 0; i < BUCKETS; i++) {
		for (struct fence *f = fs->buckets[i]; f; f = f->next)
			fprintf(out, "%s %lld %lld\n", f->id, (long long)f->generation,
				(long long)f->unix_s);
	}
	if (fclose(out))
		return -ENOMEM;
	rc = io_write_file_atomic(AT_FDCWD, fs->path, text, len, 0600, 0);
	if (rc)
		return rc;
	cleanup_closep(&fs->fd);
	fs->fd = open(fs->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	fs->appended = fs->count;
	return fs->fd < 0 ? -errno : 0;
}

int agt_fences_open(struct agent *a, struct err *err)
{
	cleanup_free char *text = NULL;
	struct agt_fences *fs = calloc(1, sizeof(*fs));
	char *save = NULL;
	int rc;

	if (!fs)
		return err_set(err, -ENOMEM, "out of memory");
	a->fences = fs;
	fs->fd = -1;
	snprintf(fs->path, sizeof(fs->path), "%s/fences", a->own_dir);
	rc = io_read_file(AT_FDCWD, fs->path, FILE_BYTES_MAX, &text, NULL);
	if (rc && rc != -ENOENT)
		return err_errno(err, -rc, "read '%s'", fs->path);
	for (char *line = rc ? NULL : strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		load_line(fs, line);
	expire(fs);
	rc = compact(fs);
	return rc ? err_errno(err, -rc, "write '%s'", fs->path) : 0;
}

void agt_fences_close(struct agent *a)
{
	struct agt_fences *fs = a->fences;

	if (!fs)
		return;
	for (unsigned int i = 0; i < BUCKETS; i++) {
		while (fs->buckets[i]) {
			struct fence *f = fs->buckets[i];

			fs->buckets[i] = f->next;
			free(f);
		}
	}
	cleanup_closep(&fs->fd);
	free(fs);
	a->fences = NULL;
}

int agt_fence_put(struct agent *a, const char *id, int64_t generation)
{
	struct agt_fences *fs = a->fences;
	struct fence *f = find(fs, id);
	int rc;

	if (f && f->generation >= generation)
		generation = f->generation;
	if (!f && fs->count >= FENCES_MAX)
		expire(fs);
	if (!f && fs->count >= FENCES_MAX)
		return -ENOSPC;
	if (!f)
		f = add(fs, id);
	if (!f)
		return -ENOMEM;
	f->generation = generation;
	f->unix_s = now_s();
	rc = append_line(fs, f);
	if (!rc && fs->appended > 2 * fs->count + 1024)
		rc = compact(fs);
	return rc;
}

bool agt_fence_forbids(struct agent *a, const char *id, int64_t generation)
{
	const struct fence *f = find(a->fences, id);

	return f && f->generation >= generation && f->unix_s >= now_s() - LIFETIME_S;
}
