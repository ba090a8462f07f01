/* SPDX-License-Identifier: Apache-2.0 */
/* Whole-file and whole-buffer I/O, directory helpers. 0 or negative errno. dirfd may be AT_FDCWD.
 */
#ifndef BASE_IO_H
#define BASE_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* Reads a file of at most max bytes; *ret is malloc'ed and NUL-terminated (gives); ret_len may be
 * NULL. -EFBIG over max. */
int io_read_file(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len);
/* Writes to "path.tmp", renames: readers see the old or the new content. sync: fsyncs file and
 * directory. One writer a path. */
int io_write_file_atomic(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
			 int sync);
/* One write(2) to an existing file (cgroup, /proc). */
int io_write_file(int dirfd, const char *path, const char *data, size_t len);
int io_write_full(int fd, const void *data, size_t len);
/* mkdir -p. */
int io_mkdirs(const char *path, mode_t mode);
/*
 * rm -rf; symlinks are not followed; mount points, path itself or below it, stay and are -EBUSY
 * (the rest goes). Missing is 0. Any depth. The parent directories of path must be trusted.
 */
int io_remove_tree(int dirfd, const char *path);

#endif
