/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: listening, reconnecting, accepted fds, shutdown. */
#include "grpc_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void test_dead_target_fails_at_once(void **state)
{
	struct gchannel *channel = gchannel_new(t.loop, "unix:/nonexistent/fsb.sock", NULL);
	struct err err = ERR_INIT;
	uint64_t begin_ns = clock_mono_ns();

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(unary(channel, UNARY, "hello", 10 * NS_PER_S, &err),
				 G_UNAVAILABLE);
	assert_true(clock_mono_ns() - begin_ns < 2 * NS_PER_S);
	(void)gchannel_free(channel);
}

static void test_reconnects_after_a_restart(void **state)
{
	uint64_t begin_ns;

	(void)state;
	assert_int_equal(unary(t.channel, UNARY, "one", 0, NULL), G_OK);
	server_stop(NS_PER_S);
	assert_int_equal(unary(t.channel, UNARY, "two", 0, NULL), G_UNAVAILABLE);
	server_start(0);
	begin_ns = clock_mono_ns();
	while (unary(t.channel, UNARY, "three", 0, NULL) != G_OK) {
		assert_true(clock_mono_ns() - begin_ns < 5 * NS_PER_S);
		(void)gloop_poll(t.loop, 10);
	}
	print_message("reconnected after %u ms\n",
		      (unsigned int)((clock_mono_ns() - begin_ns) / NS_PER_MS));
}

static void test_shutdown_waits_then_cancels(void **state)
{
	uint64_t begin_ns;
	struct seen seen;

	(void)state;
	assert_non_null(start_unary(&seen, "park"));
	wait_parked();
	begin_ns = clock_mono_ns();
	server_stop(200 * NS_PER_MS);
	assert_in_range(clock_mono_ns() - begin_ns, 195 * NS_PER_MS, 5 * NS_PER_S);
	assert_int_equal(t.cancelled, 1);
	wait_for(&seen.ended, 1);
	assert_int_not_equal(seen.status, G_OK);
}

static void test_shutdown_of_an_idle_server_is_quick(void **state)
{
	uint64_t begin_ns = clock_mono_ns();

	(void)state;
	assert_int_equal(unary(t.channel, UNARY, "one", 0, NULL), G_OK);
	server_stop(10 * NS_PER_S);
	assert_true(clock_mono_ns() - begin_ns < 2 * NS_PER_S);
}

static int raw_connect(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", t.path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* One peer never says anything, one stops after the HTTP/2 preface and an empty SETTINGS frame. */
static void test_shutdown_with_silent_peers(void **state)
{
	static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	uint64_t begin_ns = clock_mono_ns();
	int mute = raw_connect(), stuck = raw_connect();

	(void)state;
	assert_int_equal(write(stuck, hello, sizeof(hello) - 1), (ssize_t)sizeof(hello) - 1);
	assert_int_equal(unary(t.channel, UNARY, "one", 0, NULL), G_OK);
	server_stop(200 * NS_PER_MS);
	assert_true(clock_mono_ns() - begin_ns < 5 * NS_PER_S);
	(void)close(mute);
	(void)close(stuck);
}

static void test_garbage_on_a_connection(void **state)
{
	int fd = raw_connect();

	(void)state;
	assert_int_equal(write(fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
	assert_int_equal(unary(t.channel, UNARY, "one", 0, NULL), G_OK);
	(void)close(fd);
	assert_int_equal(unary(t.channel, UNARY, "two", 0, NULL), G_OK);
}

static void test_added_fd_whose_peer_is_gone(void **state)
{
	struct err err = ERR_INIT;
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	(void)close(fds[1]);
	assert_int_equal(gserver_add_fd(t.server, fds[0], NULL), 0);
	assert_int_equal(gserver_add_fd(t.server, -1, &err), -EBADF);
	assert_int_equal(unary(t.channel, UNARY, "one", 0, NULL), G_OK);
}

static void test_accepted_fd_is_served(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct gchannel *channel;
	char target[128];
	struct seen seen = {.status = -1};
	Gtest__Ping ping = GTEST__PING__INIT;
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/a.sock", t.dir);
	(void)snprintf(target, sizeof(target), "unix:%s", addr.sun_path);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(listener, 8), 0);
	channel = gchannel_new(t.loop, target, NULL);
	assert_non_null(gclient_unary(channel, UNARY, &ping.base, &gtest__ping__descriptor, 0,
				      seen_done_fn, &seen));
	(void)gloop_poll(t.loop, 10); /* the client connects */
	assert_int_equal(gserver_add_fd(t.server, accept(listener, NULL, NULL), NULL), 0);
	wait_for(&seen.ended, 1);
	assert_int_equal(seen.status, G_OK);
	(void)gchannel_free(channel);
	(void)close(listener);
	(void)unlink(addr.sun_path);
}

static void test_listening_on_unix_sockets(void **state)
{
	struct gserver *other = server_new(0);
	struct err err = ERR_INIT;
	char plain[80], target[96];
	struct stat st;
	FILE *file;

	(void)state;
	assert_int_equal(stat(t.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(gserver_listen(other, t.target, 0660, NULL, &err), -EADDRINUSE);
	assert_non_null(strstr(err.msg, t.path));
	(void)snprintf(plain, sizeof(plain), "%s/plain", t.dir);
	(void)snprintf(target, sizeof(target), "unix:%s", plain);
	file = fopen(plain, "w");
	(void)fclose(file);
	assert_int_equal(gserver_listen(other, target, 0660, NULL, &err), -EEXIST);
	(void)unlink(plain);
	assert_true(gserver_listen(other, "unix:/nonexistent/x", 0660, NULL, &err) < 0);
	assert_non_null(strstr(err.msg, "No such file or directory"));
	assert_int_equal(gserver_listen(other, target, 0600, NULL, &err), 0);
	assert_int_equal(stat(plain, &st), 0);
	(void)gserver_free(other); /* never started */
	assert_int_equal(stat(plain, &st), -1);
	assert_int_equal(unary(t.channel, UNARY, "still there", 0, NULL), G_OK);
}

static void test_stale_socket_is_replaced(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	server_stop(0);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", t.path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	(void)close(fd); /* the file stays */
	server_start(0);
}

static void test_tcp_port(void **state)
{
	struct gserver *server = server_new(0), *other = server_new(0);
	struct gchannel *channel;
	struct err err = ERR_INIT;
	char target[32];
	int port = 0;

	(void)state;
	assert_int_equal(gserver_listen(server, "127.0.0.1:0", 0, &port, NULL), 0);
	assert_true(port > 0);
	assert_int_equal(gserver_start(server, NULL), 0);
	(void)snprintf(target, sizeof(target), "127.0.0.1:%d", port);
	channel = gchannel_new(t.loop, target, NULL);
	assert_string_equal(gchannel_target(channel), target);
	assert_int_equal(unary(channel, UNARY, "tcp", 0, NULL), G_OK);
	assert_true(gserver_listen(other, target, 0, NULL, &err) < 0);
	assert_non_null(strstr(err.msg, "Address already in use"));
	(void)gchannel_free(channel);
	(void)gserver_free(server);
	(void)gserver_free(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		grpc_test(test_dead_target_fails_at_once),
		grpc_test(test_reconnects_after_a_restart),
		grpc_test(test_shutdown_waits_then_cancels),
		grpc_test(test_shutdown_of_an_idle_server_is_quick),
		grpc_test(test_shutdown_with_silent_peers),
		grpc_test(test_garbage_on_a_connection),
		grpc_test(test_added_fd_whose_peer_is_gone),
		grpc_test(test_accepted_fd_is_served),
		grpc_test(test_listening_on_unix_sockets),
		grpc_test(test_stale_socket_is_replaced),
		grpc_test(test_tcp_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
