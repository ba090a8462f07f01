/* SPDX-License-Identifier: Apache-2.0 */
/* Files and directories. The removal of trees trusts nothing below its root: no symlink is
 * followed, no mount is entered. */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

static ssize_t read_some(int fd, void *buf, size_t len)
{
	ssize_t n;

	do
		n = read(fd, buf, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Files of /proc and cgroups have size 0, so the size is only where the buffer starts. */
static size_t first_size(int fd, size_t max)
{
	struct stat st;
	size_t size = 4096;

	if (fstat(fd, &st) == 0 && st.st_size > 0)
		size = (size_t)st.st_size + 1;
	return size > max ? max + 1 : size;
}

int io_read_file(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len)
{
	cleanup_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	cleanup_free char *buf = NULL;
	size_t size = 0, len = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t n;

		if (len == size) { /* size - 1 ≤ max: one byte over max is read to notice it */
			char *grown;

			size = size == 0	? first_size(fd, max)
			       : size > max / 2 ? max + 1
						: size * 2;
			grown = realloc(buf, size + 1);
			if (!grown)
				return -ENOMEM;
			buf = grown;
		}
		n = read_some(fd, buf + len, size - len);
		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > max)
			return -EFBIG;
	}
	buf[len] = '\0';
	if (ret_len)
		*ret_len = len;
	*ret = take_ptr(buf);
	return 0;
}

int io_write_full(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int io_write_file(int dirfd, const char *path, const char *data, size_t len)
{
	cleanup_close int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	do
		n = write(fd, data, len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

static int write_new(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
		     int sync)
{
	cleanup_close int fd =
		openat(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
	int r;

	if (fd < 0)
		return -errno;
	if (fchmod(fd, mode) != 0) /* whatever the umask */
		return -errno;
	r = io_write_full(fd, data, len);
	if (r < 0)
		return r;
	return sync && fsync(fd) != 0 ? -errno : 0;
}

/* The new name itself is durable only when its directory is. */
static int sync_parent(int dirfd, const char *path)
{
	cleanup_close int fd = -1;
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX];

	(void)snprintf(parent, sizeof(parent), "%.*s", slash ? (int)(slash - path) + 1 : 1,
		       slash ? path : ".");
	fd = openat(dirfd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) != 0 ? -errno : 0;
}

int io_write_file_atomic(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
			 int sync)
{
	char tmp[PATH_MAX];
	int r, n = snprintf(tmp, sizeof(tmp), "%s.tmp", path);

	if (n < 0 || (size_t)n >= sizeof(tmp))
		return -ENAMETOOLONG;
	r = write_new(dirfd, tmp, data, len, mode, sync);
	if (r == 0 && renameat(dirfd, tmp, dirfd, path) != 0)
		r = -errno;
	if (r < 0) {
		(void)unlinkat(dirfd, tmp, 0);
		return r;
	}
	return sync ? sync_parent(dirfd, path) : 0;
}

/* A directory is there afterwards. */
static int make_dir(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (stat(path, &st) != 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int io_mkdirs(const char *path, mode_t mode)
{
	char part[PATH_MAX];
	size_t len = strlen(path);

	if (len == 0)
		return -ENOENT;
	if (len >= sizeof(part))
		return -ENAMETOOLONG;
	memcpy(part, path, len + 1);
	for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		int r;

		*slash = '\0';
		r = make_dir(part, mode);
		if (r < 0)
			return r;
		*slash = '/';
	}
	return make_dir(part, mode);
}

/* ---- removal ---- */

enum { REMOVE_DEPTH_MAX = 32 };

/* One removal. Directories deeper than REMOVE_DEPTH_MAX are first moved up to the root, so fds and
 * stack stay bounded. */
struct removal {
	int rootfd;
	unsigned int moved; /* names given so far */
	bool again;	    /* something was moved up in this pass */
};

static int open_below(int dirfd, const char *name)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS,
	};
	int fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof(how));

	if (fd < 0)
		return errno == EXDEV ? -EBUSY : -errno; /* EXDEV: a mount point */
	return fd;
}

static int remove_contents(struct removal *removal, int fd, int depth);

static int move_up(struct removal *removal, int dirfd, const char *name)
{
	char to[32];
	int r;

	do {
		(void)snprintf(to, sizeof(to), ".fsb-rm-%u", removal->moved++);
		r = renameat2(dirfd, name, removal->rootfd, to, RENAME_NOREPLACE);
	} while (r != 0 && errno == EEXIST);
	if (r != 0)
		return -errno;
	removal->again = true;
	return 0;
}

static int remove_dir(struct removal *removal, int dirfd, const char *name, int depth)
{
	int fd, r;

	if (depth > REMOVE_DEPTH_MAX)
		return move_up(removal, dirfd, name);
	fd = open_below(dirfd, name);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	r = remove_contents(removal, fd, depth);
	if (r < 0)
		return r;
	return unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
}

static int remove_entry(struct removal *removal, int dirfd, const struct dirent *entry, int depth)
{
	if (entry->d_type != DT_DIR) {
		if (unlinkat(dirfd, entry->d_name, 0) == 0 || errno == ENOENT)
			return 0;
		if (errno != EISDIR)
			return -errno;
	}
	return remove_dir(removal, dirfd, entry->d_name, depth + 1);
}

/* Goes on after a failure, so that as much as possible is gone; the first failure is returned.
 * Takes fd. */
static int remove_contents(struct removal *removal, int fd, int depth)
{
	cleanup_closedir DIR *dir = fdopendir(fd);
	const struct dirent *entry;
	int first = 0;

	if (!dir) {
		first = -errno;
		(void)close(fd);
		return first;
	}
	while (errno = 0, (entry = readdir(dir))) {
		int r;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		r = remove_entry(removal, fd, entry, depth);
		if (r < 0 && first == 0)
			first = r;
	}
	return first ? first : -errno;
}

/* A mount point must be noticed before its contents are gone. */
static int refuse_mount(int dirfd, const char *path, bool *ret_is_dir)
{
	struct statx stx;

	if (statx(dirfd, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &stx) != 0)
		return -errno;
	if (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT)
		return -EBUSY;
	*ret_is_dir = S_ISDIR(stx.stx_mode);
	return 0;
}

int io_remove_tree(int dirfd, const char *path)
{
	cleanup_close int rootfd = -1;
	struct removal removal = {0};
	bool is_dir;
	int r = refuse_mount(dirfd, path, &is_dir);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (!is_dir)
		return unlinkat(dirfd, path, 0) == 0 || errno == ENOENT ? 0 : -errno;
	rootfd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (rootfd < 0)
		return errno == ENOENT ? 0 : -errno;
	removal.rootfd = rootfd;
	do {
		int fd = openat(rootfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		removal.again = false;
		r = fd < 0 ? -errno : remove_contents(&removal, fd, 0);
	} while (removal.again && (r == 0 || r == -ENOTEMPTY));
	if (r < 0)
		return r;
	return unlinkat(dirfd, path, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
}
