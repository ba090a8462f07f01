/* SPDX-License-Identifier: Apache-2.0 */
/* io.c in a directory of its own under $TMPDIR, which teardown removes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"

static char dir[256];
static int dirfd_now = -1;

static int setup(void **state)
{
	const char *base = getenv("TMPDIR");

	(void)snprintf(dir, sizeof(dir), "%s/fsb-test-io-XXXXXX", base ? base : "/tmp");
	if (!mkdtemp(dir))
		return -1;
	dirfd_now = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dirfd_now < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	(void)close(dirfd_now);
	return io_remove_tree(AT_FDCWD, dir);
}

static void put(const char *path, const char *text)
{
	cleanup_close int fd =
		openat(dirfd_now, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
}

static bool exists(const char *path)
{
	return faccessat(dirfd_now, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static const char *in_dir(const char *name)
{
	static char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void test_read(void **state)
{
	char big[10001], *text = NULL;
	size_t len = 0;

	put("a", "hello");
	assert_int_equal(io_read_file(dirfd_now, "a", 5, &text, &len), 0);
	assert_int_equal(len, 5);
	assert_string_equal(text, "hello");
	free(take_ptr(text));
	assert_int_equal(io_read_file(dirfd_now, "a", 4, &text, &len), -EFBIG);
	assert_int_equal(io_read_file(dirfd_now, "a", 0, &text, &len), -EFBIG);
	assert_int_equal(io_read_file(dirfd_now, "none", 5, &text, &len), -ENOENT);
	assert_int_equal(io_read_file(dirfd_now, ".", 5, &text, &len), -EISDIR);
	assert_null(text);
	put("empty", "");
	assert_int_equal(io_read_file(AT_FDCWD, in_dir("empty"), 0, &text, NULL), 0);
	assert_string_equal(text, "");
	free(take_ptr(text));
	memset(big, 'x', 10000);
	big[10000] = '\0';
	put("big", big);
	assert_int_equal(io_read_file(dirfd_now, "big", 10000, &text, &len), 0);
	assert_int_equal(len, 10000);
	assert_string_equal(text, big);
	free(take_ptr(text));
	assert_int_equal(io_read_file(dirfd_now, "big", 9999, &text, &len), -EFBIG);
}

/* Files whose size is said to be 0. */
static void test_read_proc(void **state)
{
	char *text = NULL;
	size_t len = 0;

	assert_int_equal(io_read_file(AT_FDCWD, "/proc/self/smaps", 16 << 20, &text, &len), 0);
	assert_true(len > 4096);
	assert_int_equal(strlen(text), len);
	free(text);
}

static void test_write_atomic(void **state)
{
	struct stat st;
	char *text = NULL;
	mode_t old = umask(077);

	put("f", "old content");
	for (int sync = 0; sync <= 1; sync++) {
		assert_int_equal(io_write_file_atomic(dirfd_now, "f", "new", 3, 0644, sync), 0);
		assert_int_equal(io_read_file(dirfd_now, "f", 100, &text, NULL), 0);
		assert_string_equal(text, "new");
		free(take_ptr(text));
	}
	(void)umask(old);
	assert_int_equal(fstatat(dirfd_now, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_false(exists("f.tmp"));
	assert_int_equal(io_write_file_atomic(AT_FDCWD, in_dir("g"), "", 0, 0600, 1), 0);
	assert_true(exists("g"));
	assert_int_equal(io_write_file_atomic(dirfd_now, "none/f", "x", 1, 0600, 0), -ENOENT);
	assert_int_equal(mkdirat(dirfd_now, "d", 0700), 0);
	assert_int_equal(io_write_file_atomic(dirfd_now, "d", "x", 1, 0600, 0), -EISDIR);
	assert_false(exists("d.tmp"));
	/* a symlink planted at the temporary name is not written through */
	assert_int_equal(symlinkat("victim", dirfd_now, "h.tmp"), 0);
	assert_int_equal(io_write_file_atomic(dirfd_now, "h", "x", 1, 0600, 0), -ELOOP);
	assert_false(exists("victim"));
}

static void test_write_file(void **state)
{
	char *text = NULL;

	assert_int_equal(io_write_file(dirfd_now, "none", "x", 1), -ENOENT);
	assert_false(exists("none"));
	put("f", "12345");
	assert_int_equal(io_write_file(dirfd_now, "f", "ab", 2), 0);
	assert_int_equal(io_read_file(dirfd_now, "f", 100, &text, NULL), 0);
	assert_string_equal(text, "ab345");
	free(text);
	assert_int_equal(io_write_full(-1, "x", 1), -EBADF);
	assert_int_equal(io_write_full(-1, "x", 0), 0);
}

static void test_mkdirs(void **state)
{
	struct stat st;

	assert_int_equal(io_mkdirs(in_dir("a/b/c"), 0700), 0);
	assert_int_equal(io_mkdirs(in_dir("a/b/c"), 0700), 0);
	assert_int_equal(io_mkdirs(in_dir("a//b/d/"), 0700), 0);
	assert_int_equal(fstatat(dirfd_now, "a/b/d", &st, 0), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0700);
	put("f", "");
	assert_int_equal(io_mkdirs(in_dir("f"), 0700), -ENOTDIR);
	assert_int_equal(io_mkdirs(in_dir("f/x"), 0700), -ENOTDIR);
	assert_int_equal(io_mkdirs("", 0700), -ENOENT);
	assert_int_equal(io_mkdirs("/", 0700), 0);
}

static void test_remove(void **state)
{
	assert_int_equal(io_remove_tree(dirfd_now, "none"), 0);
	put("f", "x");
	assert_int_equal(io_remove_tree(dirfd_now, "f"), 0);
	assert_false(exists("f"));
	assert_int_equal(io_mkdirs(in_dir("t/a/b"), 0700), 0);
	put("t/f", "x");
	put("t/a/b/f", "x");
	assert_int_equal(mkfifoat(dirfd_now, "t/fifo", 0600), 0);
	for (int i = 0; i < 2000; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "t/a/%d", i);
		put(name, "");
	}
	assert_int_equal(io_remove_tree(dirfd_now, "t"), 0);
	assert_false(exists("t"));
	assert_int_equal(io_mkdirs(in_dir("u/a"), 0700), 0);
	assert_int_equal(io_remove_tree(AT_FDCWD, in_dir("u")), 0);
	assert_false(exists("u"));
}

static void test_remove_symlinks(void **state)
{
	assert_int_equal(io_mkdirs(in_dir("outside/deep"), 0700), 0);
	put("outside/deep/keep", "x");
	assert_int_equal(io_mkdirs(in_dir("t"), 0700), 0);
	assert_int_equal(symlinkat("../outside", dirfd_now, "t/relative"), 0);
	assert_int_equal(symlinkat(in_dir("outside"), dirfd_now, "t/absolute"), 0);
	assert_int_equal(symlinkat("nowhere", dirfd_now, "t/dangling"), 0);
	assert_int_equal(io_remove_tree(dirfd_now, "t"), 0);
	assert_false(exists("t"));
	assert_true(exists("outside/deep/keep"));
	/* the path itself is one */
	assert_int_equal(symlinkat("outside", dirfd_now, "link"), 0);
	assert_int_equal(io_remove_tree(dirfd_now, "link"), 0);
	assert_false(exists("link"));
	assert_true(exists("outside/deep/keep"));
}

/* Deeper than fds, stack and PATH_MAX would allow. */
static void test_remove_deep(void **state)
{
	int fd = dup(dirfd_now);

	for (int i = 0; i < 3000; i++) {
		int next;

		assert_int_equal(mkdirat(fd, "d", 0700), 0);
		next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		(void)close(fd);
		fd = next;
		if (i % 100 == 50) /* a name that the removal would like to use */
			assert_int_equal(mkdirat(fd, ".fsb-rm-0", 0700), 0);
	}
	(void)close(fd);
	assert_int_equal(mkdirat(dirfd_now, "d/.fsb-rm-1", 0700), 0);
	assert_int_equal(io_remove_tree(dirfd_now, "d"), 0);
	assert_false(exists("d"));
}

/* In a mount namespace of its own. Exit codes: 0 fine, 77 not allowed here, else the line that
 * failed. */
static int mounts_child(void)
{
#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			return (__LINE__ % 70) + 1;                                                \
	} while (0)
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return 77;
	CHECK(io_mkdirs(in_dir("t/mnt"), 0700) == 0);
	CHECK(io_mkdirs(in_dir("t/other"), 0700) == 0);
	CHECK(io_mkdirs(in_dir("source"), 0700) == 0);
	put("source/keep", "x");
	{
		char source[512], target[512];

		(void)snprintf(source, sizeof(source), "%s/source", dir);
		(void)snprintf(target, sizeof(target), "%s/t/mnt", dir);
		/* a bind mount: the same st_dev on both sides */
		if (mount(source, target, NULL, MS_BIND, NULL) != 0)
			return 77;
		CHECK(io_remove_tree(dirfd_now, "t") == -EBUSY);
		CHECK(exists("source/keep"));
		CHECK(!exists("t/other"));
		CHECK(io_remove_tree(dirfd_now, "t/mnt") == -EBUSY);
		CHECK(exists("source/keep"));
		CHECK(umount(target) == 0);
		CHECK(io_remove_tree(dirfd_now, "t") == 0);
	}
	return 0;
#undef CHECK
}

static void test_remove_mounts(void **state)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(mounts_child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		print_message("skipped: no mount namespace allowed here\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_proc, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_atomic, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mkdirs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove_symlinks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove_deep, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove_mounts, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
