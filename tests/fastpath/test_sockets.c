/* SPDX-License-Identifier: Apache-2.0 */
/* Listening and passing connections: addresses refused and taken, stale sockets, one fd per packet
 * in order. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fdpass.h"
#include "listen.h"

static struct err err;

static void test_tcp(void **state)
{
	int fd = -1, port = 0;

	assert_int_equal(fp_listen_tcp("127.0.0.1:0", false, &fd, &port, &err), 0);
	assert_true(port > 0);
	close(fd);
	assert_int_equal(fp_listen_tcp("localhost:0", false, &fd, &port, &err), 0);
	close(fd);
	assert_int_equal(fp_listen_tcp("0.0.0.0:0", false, &fd, &port, &err), -EPERM);
	assert_non_null(strstr(err.msg, "--insecure"));
	assert_int_equal(fp_listen_tcp("0.0.0.0:0", true, &fd, &port, &err), 0);
	close(fd);
}

static void test_bad_addresses(void **state)
{
	static const char *const bad[] = {"9090",  "127.0.0.1",	  "127.0.0.1:65536",
					  ":9090", "127.0.0.1:x", "127.0.0.1:-1"};
	int fd = -1, port;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(fp_listen_tcp(bad[i], false, &fd, &port, &err), -EINVAL);
		assert_non_null(strstr(err.msg, bad[i]));
	}
	assert_int_equal(fd, -1);
}

static void test_unix(void **state)
{
	char dir[] = "/tmp/fsb-test-XXXXXX", path[64], file[64];
	int fd = -1, again = -1;
	struct stat st;
	FILE *f;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	snprintf(file, sizeof(file), "%s/f", dir);
	assert_int_equal(fp_listen_unix(path, &fd, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(fp_listen_unix(path, &again, &err), -EADDRINUSE);
	close(fd);
	assert_int_equal(fp_listen_unix(path, &fd, &err), 0); /* stale now */
	close(fd);
	f = fopen(file, "w");
	assert_non_null(f);
	fclose(f);
	assert_int_equal(fp_listen_unix(file, &fd, &err), -EEXIST);
	unlink(path);
	unlink(file);
	rmdir(dir);
}

static void test_fds_arrive_in_order(void **state)
{
	int pair[2], pipes[3][2], got;
	char c;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(fp_fd_recv(pair[1], &got), -EAGAIN);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pipe(pipes[i]), 0);
		assert_int_equal(fp_fd_send(pair[0], pipes[i][0]), 0);
		close(pipes[i][0]);
		assert_int_equal(write(pipes[i][1], &"abc"[i], 1), 1);
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(fp_fd_recv(pair[1], &got), 0);
		assert_int_equal(read(got, &c, 1), 1);
		assert_int_equal(c, "abc"[i]);
		close(got);
		close(pipes[i][1]);
	}
	assert_int_equal(send(pair[0], "r", 1, 0), 1);
	assert_int_equal(fp_fd_recv(pair[1], &got), -EBADMSG);
	close(pair[0]);
	assert_int_equal(fp_fd_recv(pair[1], &got), -EPIPE);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_bad_addresses),
		cmocka_unit_test(test_unix),
		cmocka_unit_test(test_fds_arrive_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
