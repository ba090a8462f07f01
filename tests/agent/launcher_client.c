/* SPDX-License-Identifier: Apache-2.0 */
/* See launcher_client.h. */
#include "launcher_client.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"

static bool try_connect(struct lclient *c, const struct sockaddr_un *addr)
{
	c->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (!connect(c->fd, (const struct sockaddr *)addr, sizeof(*addr)))
		return true;
	close(c->fd);
	return false;
}

void lclient_connect(struct lclient *c, const struct testbed *bed, const char *agent)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int size = 1 << 20;

	*c = (struct lclient){.next_seq = 1};
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/agents/%s.launcher", bed->run_dir,
		 agent);
	if (!wait_until(try_connect(c, &addr)))
		base_bug(c->fd >= 0);
	setsockopt(c->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
}

void lclient_close(struct lclient *c)
{
	close(c->fd);
	c->arena = pb_free(c->arena);
}

uint64_t lclient_send(struct lclient *c, Fsb__Launcher__V1__Request *request)
{
	size_t len;
	cleanup_free void *data = NULL;

	request->seq = c->next_seq++;
	data = pb_pack(&request->base, &len);
	base_bug(send(c->fd, data, len, MSG_NOSIGNAL) != (ssize_t)len);
	return request->seq;
}

const Notice *lclient_next(struct lclient *c, int timeout_ms)
{
	static char buffer[1 << 20];
	struct pollfd poll_fd = {.fd = c->fd, .events = POLLIN};
	ProtobufCMessage *msg;
	ssize_t n;

	c->arena = pb_free(c->arena);
	if (poll(&poll_fd, 1, timeout_ms) != 1)
		return NULL;
	n = recv(c->fd, buffer, sizeof(buffer), 0);
	if (n <= 0)
		return NULL;
	base_bug(pb_unpack(&fsb__launcher__v1__notice__descriptor, buffer, (size_t)n, NULL,
			   &c->arena, &msg, NULL));
	return (const Notice *)msg;
}

const Notice *lclient_wait(struct lclient *c, Fsb__Launcher__V1__NoticeKind kind, uint64_t seq)
{
	const Notice *notice;

	while ((notice = lclient_next(c, 15000))) {
		if (notice->kind == kind && (!seq || notice->seq == seq))
			return notice;
	}
	return NULL;
}

Fsb__Launcher__V1__Start *lclient_sh(const char *id, const char *script)
{
	static Fsb__Launcher__V1__Start start;
	static Fsb__V1__SandboxMeta meta;
	static char id_buf[80], script_buf[4096], sh[] = "sh", minus_c[] = "-c", layer[] = "base",
						  path[] = "PATH=/bin:/usr/bin",
						  image[] = "test:latest", ns[] = "default";
	static char *argv[] = {sh, minus_c, script_buf}, *env[] = {path}, *layers[] = {layer};

	snprintf(id_buf, sizeof(id_buf), "%s", id);
	snprintf(script_buf, sizeof(script_buf), "%s", script);
	fsb__v1__sandbox_meta__init(&meta);
	meta.id = meta.name = id_buf;
	meta.namespace_ = ns;
	meta.generation = 1;
	fsb__launcher__v1__start__init(&start);
	start.meta = &meta;
	start.image = image;
	start.n_layers = 1;
	start.layers = layers;
	start.n_argv = 3;
	start.argv = argv;
	start.n_env = 1;
	start.env = env;
	start.memory_bytes = 64 << 20;
	start.cpu_milli = 1000;
	start.pids = 32;
	return &start;
}

uint64_t lclient_send_start(struct lclient *c, Fsb__Launcher__V1__Start *start)
{
	Fsb__Launcher__V1__Request request = FSB__LAUNCHER__V1__REQUEST__INIT;

	request.kind_case = FSB__LAUNCHER__V1__REQUEST__KIND_START;
	request.start = start;
	return lclient_send(c, &request);
}

uint64_t lclient_send_stop(struct lclient *c, const char *id, int grace_s, bool keep_files)
{
	Fsb__Launcher__V1__Request request = FSB__LAUNCHER__V1__REQUEST__INIT;
	Fsb__Agent__V1__Stop stop = FSB__AGENT__V1__STOP__INIT;
	char buf[80];

	snprintf(buf, sizeof(buf), "%s", id);
	stop.id = buf;
	stop.grace_s = grace_s;
	stop.keep_files = keep_files;
	request.kind_case = FSB__LAUNCHER__V1__REQUEST__KIND_STOP;
	request.stop = &stop;
	return lclient_send(c, &request);
}

uint64_t lclient_send_remove(struct lclient *c, const char *id)
{
	Fsb__Launcher__V1__Request request = FSB__LAUNCHER__V1__REQUEST__INIT;
	Fsb__Agent__V1__Remove remove_id = FSB__AGENT__V1__REMOVE__INIT;
	char buf[80];

	snprintf(buf, sizeof(buf), "%s", id);
	remove_id.id = buf;
	request.kind_case = FSB__LAUNCHER__V1__REQUEST__KIND_REMOVE;
	request.remove = &remove_id;
	return lclient_send(c, &request);
}
