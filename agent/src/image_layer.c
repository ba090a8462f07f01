/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking one layer. The tar is hostile: every path is resolved inside the layer's directory by
 * the kernel (openat2 with RESOLVE_IN_ROOT), so neither "..", absolute names nor symbolic links
 * made by earlier entries lead out of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "image.h"

enum { ENTRIES_MAX = 4000000 };
#define LAYER_BYTES_MAX (UINT64_C(64) << 30)
#define WHITEOUT	".wh."
#define OPAQUE		".wh..wh..opq"

struct unpack {
	int root_fd;
	const char *what;
	struct archive *tar;
	struct archive_entry *entry;
	uint64_t bytes;
	bool ended; /* the tar stopped short of its end mark */
	struct err *err;
};

static int open_in_root(int root_fd, const char *path, uint64_t flags)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	long fd = syscall(SYS_openat2, root_fd, *path ? path : ".", &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* Removes "/", "./" and doubled slashes; -EBADMSG for "..". */
static int clean_path(const struct unpack *u, const char *path, char *buf, size_t size)
{
	size_t used = 0;

	*buf = '\0';
	while (*path) {
		size_t n = strcspn(path, "/");

		if (n == 2 && !memcmp(path, "..", 2))
			return err_set(
				u->err, -EBADMSG,
				"layer '%s' holds an entry that leads out of the image: '%.128s'",
				u->what, archive_entry_pathname(u->entry));
		if (n && !(n == 1 && *path == '.')) {
			if (used + n + 2 > size)
				return err_set(u->err, -ENAMETOOLONG,
					       "layer '%s': a path is too long", u->what);
			if (used)
				buf[used++] = '/';
			memcpy(buf + used, path, n);
			used += n;
			buf[used] = '\0';
		}
		path += n;
		path += strspn(path, "/");
	}
	return 0;
}

/* Makes path's last component; the ones before exist. Failure shows when it is opened. */
static void make_in_root(const struct unpack *u, char *path)
{
	char *slash = strrchr(path, '/');
	cleanup_close int parent = -1;

	if (slash)
		*slash = '\0';
	parent = open_in_root(u->root_fd, slash ? path : "", O_PATH | O_DIRECTORY);
	if (slash)
		*slash = '/';
	if (parent >= 0)
		(void)mkdirat(parent, slash ? slash + 1 : path, 0755);
}

/* The directory that path lies in, made when missing; splits path. gives the fd. */
static int open_parent(const struct unpack *u, char *path, const char **ret_name)
{
	char *slash = strrchr(path, '/');
	int fd;

	*ret_name = slash ? slash + 1 : path;
	if (!slash)
		return open_in_root(u->root_fd, "", O_PATH | O_DIRECTORY);
	*slash = '\0';
	fd = open_in_root(u->root_fd, path, O_PATH | O_DIRECTORY);
	if (fd != -ENOENT)
		return fd;
	for (char *end = strchr(path, '/'); end; end = strchr(end + 1, '/')) {
		*end = '\0';
		make_in_root(u, path);
		*end = '/';
	}
	make_in_root(u, path);
	return open_in_root(u->root_fd, path, O_PATH | O_DIRECTORY);
}

/* ---- kinds of entries ---- */

/*
 * Copies the entry's data. A tar that stops right after a file's last byte, without padding and end
 * mark (umoci writes such ones), is taken as complete: its digest was checked, so nothing was lost
 * on the way.
 */
static int copy_data(struct unpack *u, int fd)
{
	la_int64_t size = archive_entry_size(u->entry), done = 0, offset;
	const void *block;
	size_t len;
	int rc;

	while ((rc = archive_read_data_block(u->tar, &block, &len, &offset)) == ARCHIVE_OK) {
		if (lseek(fd, offset, SEEK_SET) < 0)
			return -errno;
		rc = io_write_full(fd, block, len);
		if (rc)
			return rc;
		done = offset + (la_int64_t)len;
	}
	u->ended = rc != ARCHIVE_EOF && done == size;
	if (rc != ARCHIVE_EOF && !u->ended)
		return err_set(u->err, -EBADMSG, "layer '%s': '%.128s': %s", u->what,
			       archive_entry_pathname(u->entry), archive_error_string(u->tar));
	return ftruncate(fd, size) ? -errno : 0; /* a hole at the end */
}

static int put_file(struct unpack *u, int parent, const char *name)
{
	cleanup_close int fd =
		openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	u->bytes += (uint64_t)archive_entry_size(u->entry);
	return u->bytes > LAYER_BYTES_MAX ? -EFBIG : copy_data(u, fd);
}

static int put_hardlink(struct unpack *u, int parent, const char *name)
{
	char target[4096];
	const char *target_name;
	cleanup_close int target_dir = -1;
	int rc = clean_path(u, archive_entry_hardlink(u->entry), target, sizeof(target));

	if (rc)
		return rc;
	target_dir = open_parent(u, target, &target_name);
	if (target_dir < 0)
		return target_dir;
	return linkat(target_dir, target_name, parent, name, 0) ? -errno : 0;
}

static int put_directory(int parent, const char *name)
{
	struct stat st;

	if (!mkdirat(parent, name, 0755))
		return 0;
	if (errno != EEXIST || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	if (S_ISDIR(st.st_mode))
		return 0;
	return unlinkat(parent, name, 0) || mkdirat(parent, name, 0755) ? -errno : 0;
}

static int put_object(struct unpack *u, int parent, const char *name)
{
	mode_t type = archive_entry_filetype(u->entry);

	if (!archive_entry_hardlink(u->entry) && type == AE_IFDIR)
		return put_directory(parent, name);
	/* A later entry of that name replaces an earlier one. */
	if (unlinkat(parent, name, 0) && errno == EISDIR) {
		int rc = io_remove_tree(parent, name);

		if (rc)
			return rc;
	}
	if (archive_entry_hardlink(u->entry))
		return put_hardlink(u, parent, name);
	switch (type) {
	case AE_IFREG:
		return put_file(u, parent, name);
	case AE_IFLNK:
		return symlinkat(archive_entry_symlink(u->entry), parent, name) ? -errno : 0;
	case AE_IFCHR:
	case AE_IFBLK:
	case AE_IFIFO:
		/* Sandboxes mount with nodev: a device node is only a name there. */
		return mknodat(parent, name, type | 0600, archive_entry_rdev(u->entry)) ? -errno
											: 0;
	default:
		return -ENOTSUP;
	}
}

/* ---- attributes ---- */

/* Only what means something in a sandbox: never trusted.*, by which overlayfs is steered. */
static bool xattr_is_wanted(const char *name)
{
	return !strcmp(name, "security.capability") || !strncmp(name, "user.", 5);
}

static int put_xattrs(struct unpack *u, int parent, const char *name)
{
	const char *key;
	const void *value;
	size_t size;
	char path[64 + 256];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", parent, name);
	archive_entry_xattr_reset(u->entry);
	while (archive_entry_xattr_next(u->entry, &key, &value, &size) == ARCHIVE_OK) {
		if (!xattr_is_wanted(key))
			continue;
		/* user.* does not exist on every kind of file and file system. */
		if (lsetxattr(path, key, value, size, 0) && errno != ENOTSUP && errno != EPERM)
			return -errno;
	}
	return 0;
}

static int put_attributes(struct unpack *u, int parent, const char *name)
{
	struct archive_entry *e = u->entry;
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
				    {archive_entry_mtime(e), archive_entry_mtime_nsec(e)}};

	if (archive_entry_hardlink(e))
		return 0; /* the file's own entry has them */
	if (fchownat(parent, name, (uid_t)archive_entry_uid(e), (gid_t)archive_entry_gid(e),
		     AT_SYMLINK_NOFOLLOW))
		return -errno;
	/* After the owner, which clears set-id bits and capabilities. Just made, so not a link. */
	if (archive_entry_filetype(e) != AE_IFLNK &&
	    fchmodat(parent, name, archive_entry_perm(e), 0))
		return -errno;
	(void)utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW);
	return put_xattrs(u, parent, name);
}

static int put_root_attributes(struct unpack *u)
{
	if (fchown(u->root_fd, (uid_t)archive_entry_uid(u->entry),
		   (gid_t)archive_entry_gid(u->entry)) ||
	    fchmod(u->root_fd, archive_entry_perm(u->entry)))
		return -errno;
	return 0;
}

/* ---- whiteouts, as overlayfs spells them ---- */

static int put_opaque(int parent)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", parent);
	return setxattr(path, "trusted.overlay.opaque", "y", 1, 0) ? -errno : 0;
}

static int put_whiteout(int parent, const char *name)
{
	if (!strcmp(name, OPAQUE))
		return put_opaque(parent);
	name += strlen(WHITEOUT);
	if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EBADMSG;
	/* The same layer may have made it anew: then it stays. */
	return mknodat(parent, name, S_IFCHR | 0600, makedev(0, 0)) && errno != EEXIST ? -errno : 0;
}

static int put_entry(struct unpack *u)
{
	const char *raw = archive_entry_pathname(u->entry), *name;
	cleanup_close int parent = -1;
	char path[4096];
	int rc;

	if (!raw)
		return -EBADMSG;
	rc = clean_path(u, raw, path, sizeof(path));
	if (rc)
		return rc;
	if (!*path)
		return put_root_attributes(u);
	parent = open_parent(u, path, &name);
	if (parent < 0)
		return parent;
	if (strlen(name) > 255)
		return -ENAMETOOLONG;
	if (!strncmp(name, WHITEOUT, strlen(WHITEOUT)))
		return put_whiteout(parent, name);
	rc = put_object(u, parent, name);
	return rc ? rc : put_attributes(u, parent, name);
}

static int put_all(struct unpack *u)
{
	for (int n = 0;; n++) {
		int rc = u->ended ? ARCHIVE_EOF : archive_read_next_header(u->tar, &u->entry);

		if (rc == ARCHIVE_EOF)
			return 0;
		if (rc < ARCHIVE_WARN)
			return err_set(u->err, -EBADMSG, "layer '%s' can't be read: %s", u->what,
				       archive_error_string(u->tar));
		if (n == ENTRIES_MAX)
			return err_set(u->err, -E2BIG, "layer '%s' has more than %d entries",
				       u->what, ENTRIES_MAX);
		rc = put_entry(u);
		if (rc && u->err && u->err->code)
			return rc;
		if (rc)
			return err_errno(u->err, -rc, "layer '%s': unpack '%.128s'", u->what,
					 archive_entry_pathname(u->entry));
	}
}

int image_layer_unpack(int tar_fd, int dir_fd, const char *what, struct err *err)
{
	struct err own = ERR_INIT;
	struct unpack u = {.root_fd = dir_fd,
			   .what = what,
			   .tar = archive_read_new(),
			   .err = err ? err : &own};
	int rc;

	if (!u.tar)
		return err_set(err, -ENOMEM, "unpack layer '%s': out of memory", what);
	archive_read_support_filter_all(u.tar);
	archive_read_support_format_tar(u.tar);
	archive_read_support_format_empty(u.tar);
	if (archive_read_open_fd(u.tar, tar_fd, 256 << 10) != ARCHIVE_OK)
		rc = err_set(err, -EBADMSG, "layer '%s' can't be read: %s", what,
			     archive_error_string(u.tar));
	else
		rc = put_all(&u);
	archive_read_free(u.tar);
	return rc;
}
