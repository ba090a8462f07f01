/* SPDX-License-Identifier: Apache-2.0 */
/* Layouts, good and hostile, into the store; and the merging of image configuration with a request.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "image.h"
#include "merge.h"
#include "testing.h"

static char work[96];

static int setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	testing_need_root();
	snprintf(work, sizeof(work), "%s/fsb-image-test-%d", tmp ? tmp : "/tmp", getpid());
	return io_mkdirs(work, 0700);
}

static int teardown(void **state)
{
	return io_remove_tree(AT_FDCWD, work);
}

/* Shell commands in a fresh directory "work/case"; makes tars that mklayout takes. */
#define sh(...) assert_int_equal(testing_sh(__VA_ARGS__), 0)

static void fresh(void)
{
	sh("rm -rf %s/case && mkdir -p %s/case/run", work, work);
}

static int load(const char *ref, const char *name, struct image_load_result *ret, struct err *err)
{
	static char run_dir[128], layout[128];
	struct image_load_request request = {
		.run_dir = run_dir, .layout_path = layout, .layout_ref = ref, .name = name};

	snprintf(run_dir, sizeof(run_dir), "%s/case/run", work);
	snprintf(layout, sizeof(layout), "%s/case/layout", work);
	*err = (struct err)ERR_INIT;
	return image_load(&request, ret, err);
}

static void assert_refused(int code, const char *part)
{
	struct image_load_result result;
	struct err err;
	int rc = load("t", "", &result, &err);

	if (rc != code || !strstr(err.msg, part))
		print_error("%d: %s\n", rc, err.msg);
	assert_int_equal(rc, code);
	assert_non_null(strstr(err.msg, part));
	/* Nothing half-made is left. */
	sh("[ -z \"$(ls %s/case/run/images/tmp 2>/dev/null)\" ]", work);
	sh("[ -z \"$(ls %s/case/run/images/refs 2>/dev/null)\" ]", work);
}

/* The layer'th directory from below. */
static void layer_path(size_t layer, const char *below, char *buf, size_t size)
{
	struct err err = ERR_INIT;
	char run_dir[128];
	struct image_store *store;
	const struct image *image;

	snprintf(run_dir, sizeof(run_dir), "%s/case/run", work);
	store = image_store_open(run_dir, &err);
	assert_non_null(store);
	image = image_store_find(store, "docker.io/library/t:latest");
	assert_non_null(image);
	snprintf(buf, size, "%s/images/layers/%s/%s", run_dir,
		 image->layers.items[image->layers.count - 1 - layer], below);
	image_store_close(store);
}

static struct stat stat_in(size_t layer, const char *below)
{
	struct stat st = {0};
	char path[300];

	layer_path(layer, below, path, sizeof(path));
	if (lstat(path, &st))
		print_error("%s: %s\n", path, strerror(errno));
	return st;
}

static void load_ok(void)
{
	struct image_load_result result;
	struct err err;

	if (load("t", "", &result, &err))
		print_error("%s\n", err.msg);
	assert_int_equal(err.code, 0);
	assert_string_equal(result.ref, "docker.io/library/t:latest");
}

static void test_files_of_all_kinds(void **state)
{
	struct stat st, st2;
	char path[300], target[64] = "";

	fresh();
	sh("cd %s/case && mkdir -p r/etc r/bin && echo data > r/etc/file && chmod 4711 r/etc/file "
	   "&& "
	   "chown 12:34 r/etc/file && ln r/etc/file r/bin/hard && ln -s /etc/passwd r/bin/abs && "
	   "mkfifo r/fifo && mkdir -m 1777 r/tmp && truncate -s 1M r/sparse && "
	   "setcap cap_net_raw+ep r/etc/file 2>/dev/null; touch -d @1000000000 r/sparse; "
	   "tar --xattrs --xattrs-include='*' -C r -cf l.tar . && %s layout t l.tar",
	   work, FSB_MKLAYOUT);
	load_ok();
	st = stat_in(0, "etc/file");
	assert_int_equal(st.st_uid, 12);
	assert_int_equal(st.st_gid, 34);
	assert_int_equal(st.st_nlink, 2);
	st2 = stat_in(0, "bin/hard");
	assert_int_equal(st.st_ino, st2.st_ino);
	layer_path(0, "bin/abs", path, sizeof(path));
	assert_true(readlink(path, target, sizeof(target) - 1) > 0);
	assert_string_equal(target, "/etc/passwd");
	assert_true(S_ISFIFO(stat_in(0, "fifo").st_mode));
	assert_int_equal(stat_in(0, "tmp").st_mode & 07777, 01777);
	st = stat_in(0, "sparse");
	assert_int_equal(st.st_size, 1 << 20);
	assert_int_equal(st.st_mtime, 1000000000);
	layer_path(0, "etc/file", path, sizeof(path));
	assert_true(getxattr(path, "security.capability", target, sizeof(target)) > 0);
}

static void test_whiteouts(void **state)
{
	char path[300], lower[300], value[4] = "";
	struct stat st;

	fresh();
	sh("cd %s/case && mkdir -p a/d a/o && touch a/gone a/d/x a/o/hidden && tar -C a -cf a.tar "
	   ". && "
	   "mkdir -p b/d b/o && touch b/.wh.gone b/d/.wh.x b/o/.wh..wh..opq b/o/new && "
	   "tar -C b -cf b.tar . && %s layout t a.tar b.tar",
	   work, FSB_MKLAYOUT);
	load_ok();
	st = stat_in(1, "gone");
	assert_true(S_ISCHR(st.st_mode));
	assert_int_equal(st.st_rdev, 0);
	assert_true(S_ISCHR(stat_in(1, "d/x").st_mode));
	layer_path(1, "o", path, sizeof(path));
	assert_int_equal(getxattr(path, "trusted.overlay.opaque", value, sizeof(value)), 1);
	assert_int_equal(value[0], 'y');
	/* And as the kernel sees it. */
	layer_path(1, "", path, sizeof(path));
	layer_path(0, "", lower, sizeof(lower));
	sh("cd %s/case && mkdir -p m && unshare -m sh -c 'mount -t overlay overlay -o "
	   "lowerdir=%s:%s m && [ $(cd m && find . -type f) = ./o/new ]'",
	   work, path, lower);
}

static void test_links_stay_inside(void **state)
{
	fresh();
	/* By name "out" leads to a directory of the host; what is put below it must land in the
	 * layer's own. */
	sh("cd %s/case && mkdir -p host one%s/case/host two/out && ln -s %s/case/host one/out && "
	   "echo evil > two/out/evil && tar -C one -cf l.tar . && tar -C two -rf l.tar out/evil && "
	   "%s layout t l.tar",
	   work, work, work, FSB_MKLAYOUT);
	load_ok();
	sh("[ ! -e %s/case/host/evil ]", work);
	assert_true(S_ISLNK(stat_in(0, "out").st_mode));
	sh("[ -f %s/case/run/images/layers/*%s/case/host/evil ]", work, work);
	fresh();
	sh("cd %s/case && mkdir -p one two/out && ln -s /fsb-is-not-here one/out && "
	   "echo evil > two/out/evil && tar -C one -cf l.tar out && tar -C two -rf l.tar out/evil "
	   "&& "
	   "%s layout t l.tar",
	   work, FSB_MKLAYOUT);
	assert_refused(-ENOENT, "'out/evil'");
	sh("[ ! -e /fsb-is-not-here ]");
}

static void test_traversal_is_refused(void **state)
{
	fresh();
	sh("cd %s/case && echo evil > evil && tar -P --transform 's,evil,../../evil,' -cf l.tar "
	   "evil && "
	   "%s layout t l.tar",
	   work, FSB_MKLAYOUT);
	assert_refused(-EBADMSG, "leads out of the image: '../../evil'");
	fresh();
	sh("cd %s/case && mkdir r && touch r/a && ln r/a r/b && "
	   "tar -P --transform 'flags=h;s,a,../../../../etc/passwd,' -C r -cf l.tar a b && "
	   "%s layout t l.tar",
	   work, FSB_MKLAYOUT);
	assert_refused(-EBADMSG, "leads out of the image");
}

static void test_absolute_names_stay_inside(void **state)
{
	fresh();
	sh("cd %s/case && echo x > x && tar -P --transform 's,^x,/etc/fsb-x,' -cf l.tar x && "
	   "%s layout t l.tar",
	   work, FSB_MKLAYOUT);
	load_ok();
	assert_true(S_ISREG(stat_in(0, "etc/fsb-x").st_mode));
	sh("[ ! -e /etc/fsb-x ]");
}

static void test_overlay_xattrs_are_dropped(void **state)
{
	char path[300], value[64];

	fresh();
	sh("cd %s/case && mkdir -p r/d && setfattr -n trusted.overlay.redirect -v /etc r/d "
	   "2>/dev/null; "
	   "tar --xattrs --xattrs-include='*' -C r -cf l.tar . && %s layout t l.tar",
	   work, FSB_MKLAYOUT);
	load_ok();
	layer_path(0, "d", path, sizeof(path));
	assert_int_equal(getxattr(path, "trusted.overlay.redirect", value, sizeof(value)), -1);
}

static void one_file_layout(void)
{
	fresh();
	sh("cd %s/case && mkdir r && echo hello > r/hello && tar -C r -cf l.tar . && %s layout t "
	   "l.tar",
	   work, FSB_MKLAYOUT);
}

static void test_corrupt_blobs_are_refused(void **state)
{
	one_file_layout();
	sh("cd %s/case/layout/blobs/sha256 && f=$(sha256sum ../../../l.tar | cut -c1-64) && "
	   "printf X | dd of=$f bs=1 seek=700 conv=notrunc 2>/dev/null",
	   work);
	assert_refused(-EBADMSG, "is corrupt");
	one_file_layout();
	sh("cd %s/case/layout/blobs/sha256 && f=$(sha256sum ../../../l.tar | cut -c1-64) && "
	   "truncate -s 100 $f",
	   work);
	assert_refused(-EBADMSG, "has 100 bytes, its descriptor says");
	one_file_layout();
	sh("cd %s/case/layout/blobs/sha256 && rm $(sha256sum ../../../l.tar | cut -c1-64)", work);
	assert_refused(-ENOENT, "open blob");
	one_file_layout();
	sh("cd %s/case && head -c 1000 /dev/urandom > junk && %s layout t junk", work,
	   FSB_MKLAYOUT);
	assert_refused(-EBADMSG, "can't be read");
	one_file_layout();
	sh("cd %s/case && head -c 200000 /dev/zero | tr '\\0' a > r/big && tar -C r -cf l.tar . && "
	   "truncate -s 100000 l.tar && %s layout t l.tar",
	   work, FSB_MKLAYOUT);
	assert_refused(-EBADMSG, "big");
}

static void test_bad_layouts_are_refused(void **state)
{
	struct image_load_result result;
	struct err err;

	fresh();
	sh("mkdir %s/case/layout", work);
	assert_refused(-ENOENT, "oci-layout");
	one_file_layout();
	assert_int_equal(load("nope", "", &result, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "'nope'"));
	assert_int_equal(load("t", "UPPER CASE", &result, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "UPPER CASE"));
	sh("echo '{' > %s/case/layout/index.json", work);
	assert_refused(-EBADMSG, "index.json");
	sh("rm -rf %s/case/layout", work);
	assert_refused(-ENOENT, "open the directory");
	one_file_layout();
	sh("cd %s/case/layout && sed -i 's/sha256:[0-9a-f]*/sha256:..\\/..\\/etc\\/passwd/' "
	   "index.json",
	   work);
	assert_refused(-EBADMSG, "not a digest");
}

static void test_index_by_platform(void **state)
{
	fresh();
	sh("cd %s/case && mkdir r && echo hello > r/hello && tar -C r -cf l.tar . && gzip -k l.tar "
	   "&& "
	   "NESTED=1 %s layout t l.tar.gz",
	   work, FSB_MKLAYOUT);
	load_ok();
	assert_true(S_ISREG(stat_in(0, "hello").st_mode));
}

static void test_loading_again_and_other_names(void **state)
{
	struct image_load_result result;
	struct err err;
	struct image_store *store;
	char run_dir[128];

	one_file_layout();
	assert_int_equal(load("", "", &result, &err), 0);
	assert_string_equal(result.ref, "docker.io/library/t:latest");
	assert_false(result.already_present);
	assert_int_equal(load("t", "", &result, &err), 0);
	assert_true(result.already_present);
	snprintf(run_dir, sizeof(run_dir), "%s/case/run", work);
	store = image_store_open(run_dir, &err);
	assert_int_equal(image_store_count(store), 1);
	assert_int_equal(load("t", "quay.io/x/y:1", &result, &err), 0);
	assert_false(result.already_present);
	assert_string_equal(result.ref, "quay.io/x/y:1");
	assert_true(image_store_reload(store));
	assert_int_equal(image_store_count(store), 2);
	assert_false(image_store_reload(store));
	assert_non_null(image_store_find(store, "quay.io/x/y:1"));
	assert_null(image_store_find(store, "quay.io/x/y:2"));
	sh("[ $(ls %s/images/layers | wc -l) = 1 ]", run_dir);
	image_store_close(store);
}

/* Several processes load the same image into one store. */
static void test_concurrent_loads(void **state)
{
	pid_t pids[4];
	int status;

	one_file_layout();
	for (int i = 0; i < 4; i++) {
		struct image_load_result result;
		struct err err;

		pids[i] = fork();
		if (!pids[i])
			_exit(load("t", "", &result, &err) ? 1 : 0);
	}
	for (int i = 0; i < 4; i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	sh("[ $(ls %s/case/run/images/layers | wc -l) = 1 ]", work);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files_of_all_kinds),
		cmocka_unit_test(test_whiteouts),
		cmocka_unit_test(test_links_stay_inside),
		cmocka_unit_test(test_traversal_is_refused),
		cmocka_unit_test(test_absolute_names_stay_inside),
		cmocka_unit_test(test_overlay_xattrs_are_dropped),
		cmocka_unit_test(test_corrupt_blobs_are_refused),
		cmocka_unit_test(test_bad_layouts_are_refused),
		cmocka_unit_test(test_index_by_platform),
		cmocka_unit_test(test_loading_again_and_other_names),
		cmocka_unit_test(test_concurrent_loads),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
