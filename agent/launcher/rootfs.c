/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandbox's file systems. The root is pivoted first, so that whatever symbolic links the image
 * holds, every later path is looked up inside the sandbox.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "child.h"

/* As container runtimes hide them: they tell of the host, or act on it. */
static const char *const masked[] = {
	"/proc/acpi",	     "/proc/asound",  "/proc/interrupts",
	"/proc/kcore",	     "/proc/keys",    "/proc/latency_stats",
	"/proc/sched_debug", "/proc/scsi",    "/proc/timer_list",
	"/proc/timer_stats", "/sys/firmware", "/sys/devices/virtual/powercap",
};
static const char *const read_only[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};
static const struct {
	const char *path;
	unsigned int minor;
} devices[] = {
	{"/dev/null", 3},   {"/dev/zero", 5},	 {"/dev/full", 7},
	{"/dev/random", 8}, {"/dev/urandom", 9},
};
static const char *const dev_links[][2] = {
	{"/proc/self/fd", "/dev/fd"},	    {"/proc/self/fd/0", "/dev/stdin"},
	{"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"},
	{"pts/ptmx", "/dev/ptmx"},
};

static int mount_on(const char *type, const char *target, unsigned long flags, const char *data)
{
	if (!mount(type, target, type, flags, data))
		return 0;
	if (errno != ENOENT || (mkdir(target, 0755) && errno != EEXIST))
		return -errno;
	return mount(type, target, type, flags, data) ? -errno : 0;
}

/*
 * Where the writable layer goes. In memory, in a file system of the sandbox's own: it is charged to
 * its cgroup, limited, made in a tenth of the time that inodes on a disk take, and gone with the
 * last process, whatever becomes of us. Or in the state directory.
 */
static int open_scratch(const struct child *c)
{
	char text[512];

	if (c->request->disk_layer) {
		snprintf(text, sizeof(text), "%s/%s", c->l->state_dir, c->request->meta->id);
		return open(text, O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	/* Half of the memory limit: the other half stays for the processes. */
	snprintf(text, sizeof(text), "mode=700,size=%lld", (long long)c->request->memory_bytes / 2);
	if (mount("tmpfs", c->l->scratch_dir, "tmpfs", MS_NODEV, text))
		return -1;
	return open(c->l->scratch_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/*
 * Layer names are relative to the layers directory (a page is all that mount takes), the rest goes
 * by fd. All are opened here: overlayfs takes paths of its caller's own mount namespace only.
 */
static int mount_overlay(struct child *c)
{
	cleanup_close int scratch_fd = open_scratch(c), base_fd = -1;
	char data[4096];
	size_t used;

	if (scratch_fd < 0 || mkdirat(scratch_fd, "upper", 0755) ||
	    mkdirat(scratch_fd, "work", 0700))
		return -errno;
	base_fd = open(c->l->base_layer, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (base_fd < 0 || chdir(c->l->layers_dir))
		return -errno;
	used = (size_t)snprintf(
		data, sizeof(data),
		"volatile,upperdir=/proc/self/fd/%d/upper,workdir=/proc/self/fd/%d/work,lowerdir=",
		scratch_fd, scratch_fd);
	for (size_t i = 0; i < c->request->n_layers && used < sizeof(data); i++)
		used += (size_t)snprintf(data + used, sizeof(data) - used,
					 "%s:", c->request->layers[i]);
	if (used < sizeof(data))
		used += (size_t)snprintf(data + used, sizeof(data) - used, "/proc/self/fd/%d",
					 base_fd);
	if (used >= sizeof(data))
		return -E2BIG;
	return mount("overlay", c->l->root_dir, "overlay", MS_NODEV, data) ? -errno : 0;
}

int rootfs_mount(struct child *c)
{
	int rc = mount_overlay(c);

	if (rc)
		return rc;
	/* The old root ends up on top of the new one and is taken off. */
	if (chdir(c->l->root_dir) || syscall(SYS_pivot_root, ".", ".") ||
	    umount2(".", MNT_DETACH) || chdir("/"))
		return -errno;
	return 0;
}

static int mount_dev(void)
{
	int rc = mount_on("tmpfs", "/dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");

	if (rc)
		return rc;
	for (size_t i = 0; i < sizeof(devices) / sizeof(*devices); i++) {
		if (mknod(devices[i].path, S_IFCHR | 0666, makedev(1, devices[i].minor)))
			return -errno;
	}
	if (mknod("/dev/tty", S_IFCHR | 0666, makedev(5, 0)))
		return -errno;
	for (size_t i = 0; i < sizeof(dev_links) / sizeof(*dev_links); i++) {
		if (symlink(dev_links[i][0], dev_links[i][1]))
			return -errno;
	}
	rc = mount_on("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC,
		      "newinstance,ptmxmode=0666,mode=0620,gid=5");
	if (!rc)
		rc = mount_on("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV | MS_NOEXEC,
			      "mode=1777,size=65536k");
	if (!rc) {
		rc = mount_on("mqueue", "/dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
		if (rc == -ENODEV)
			rc = 0; /* a kernel without POSIX message queues */
	}
	return rc;
}

/* A file is hidden by the null device, a directory by an empty file system; what isn't there needs
 * nothing. */
static int mask(const char *path)
{
	if (!mount("/dev/null", path, NULL, MS_BIND, NULL) || errno == ENOENT)
		return 0;
	if (errno != ENOTDIR)
		return -errno;
	return mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)
		       ? -errno
		       : 0;
}

static int make_read_only(const char *path)
{
	if (mount(path, path, NULL, MS_BIND, NULL))
		return errno == ENOENT ? 0 : -errno;
	return mount(NULL, path, NULL,
		     MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)
		       ? -errno
		       : 0;
}

int rootfs_mount_system(struct child *c)
{
	int rc = mount_on("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);

	if (!rc)
		rc = mount_dev();
	if (!rc)
		rc = mount_on("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL);
	for (size_t i = 0; !rc && i < sizeof(masked) / sizeof(*masked); i++)
		rc = mask(masked[i]);
	for (size_t i = 0; !rc && i < sizeof(read_only) / sizeof(*read_only); i++)
		rc = make_read_only(read_only[i]);
	return rc;
}

/* In the writable layer; a link of the image's own at that place is replaced, not followed. */
static int write_file(const char *path, const char *text)
{
	cleanup_close int fd = -1;

	for (int attempt = 0; attempt < 2; attempt++) {
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
		if (fd >= 0 || errno != ELOOP)
			break;
		(void)unlink(path);
	}
	return fd < 0 ? -errno : io_write_full(fd, text, strlen(text));
}

/*
 * A file in memory, mounted over the image's or the base layer's: no inode of the disk is made for
 * it, which costs several times as much. Where that can't be done (a dangling link, no such
 * directory) it is written into the layer.
 */
static int put_etc(const char *path, const char *text)
{
	static const char source[] = "/dev/.etc";
	int rc = write_file(source, text);
	bool mounted = !rc && !mount(source, path, NULL, MS_BIND, NULL);

	(void)unlink(source);
	if (rc || mounted)
		return rc;
	rc = write_file(path, text);
	if (rc != -ENOENT)
		return rc;
	if (mkdir("/etc", 0755) && errno != EEXIST)
		return -errno;
	return write_file(path, text);
}

int rootfs_write_files(struct child *c)
{
	char hostname[65], text[256];
	int rc;

	snprintf(hostname, sizeof(hostname), "%.63s", c->request->meta->name);
	if (sethostname(hostname, strlen(hostname)))
		return -errno;
	snprintf(text, sizeof(text), "%s\n", hostname);
	rc = put_etc("/etc/hostname", text);
	snprintf(text, sizeof(text),
		 "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", hostname);
	if (!rc)
		rc = put_etc("/etc/hosts", text);
	if (!rc && *c->resolv_conf)
		rc = put_etc("/etc/resolv.conf", c->resolv_conf);
	return rc;
}

/* The layer below all images: the places that mounts go to, so that none is made in the writable
 * layer. */
int rootfs_make_base(const char *path)
{
	static const char *const dirs[] = {"dev", "etc", "proc", "sys"};
	static const char *const files[] = {"etc/hostname", "etc/hosts", "etc/resolv.conf"};
	cleanup_close int fd = -1;
	int rc = io_mkdirs(path, 0755);

	if (rc)
		return rc;
	fd = open(path, O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
		if (mkdirat(fd, dirs[i], 0755) && errno != EEXIST)
			return -errno;
	}
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		if (mknodat(fd, files[i], S_IFREG | 0644, 0) && errno != EEXIST)
			return -errno;
	}
	return 0;
}

int rootfs_mkdirs(const char *path, mode_t mode)
{
	char buf[4096];
	size_t len = strlen(path);

	if (len >= sizeof(buf))
		return -ENAMETOOLONG;
	memcpy(buf, path, len + 1);
	for (char *slash = strchr(buf + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(buf, mode) && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return mkdir(buf, mode) && errno != EEXIST ? -errno : 0;
}
