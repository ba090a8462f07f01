/* SPDX-License-Identifier: Apache-2.0 */
/* Whole-file and whole-buffer I/O, directory helpers. 0 or negative errno. */
#ifndef BASE_IO_H
#define BASE_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* Reads a file of at most max bytes; *ret is malloc'ed and NUL-terminated (gives). -EFBIG over max. dirfd may be AT_FDCWD. */
int io_read_file(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len);
/* Writes to "path.tmp", fsyncs when sync, renames: readers see the old or the new content. */
int io_write_file_atomic(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
			 int sync);
/* One write(2) to an existing file (cgroup, /proc). */
int io_write_file(int dirfd, const char *path, const char *data, size_t len);
int io_write_full(int fd, const void *data, size_t len);
/* mkdir -p. */
int io_mkdirs(const char *path, mode_t mode);
/* rm -rf below dirfd; symlinks are not followed; stays on one file system (mount points below are -EBUSY). Missing is 0. */
int io_remove_tree(int dirfd, const char *path);

#endif
