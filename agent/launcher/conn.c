/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's connection: packets in, packets out. One agent at a time, the newest. Writing never
 * blocks: a stopped agent gets a queue, and when that is full it is cut off (the next connection is
 * told everything anyway).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "sandbox.h"

enum { QUEUE_BYTES_MAX = 64 << 20, SOCKET_BUFFER = 4 << 20 };

struct packet {
	struct packet *next;
	size_t len;
	void *data;
};

struct conn {
	struct watch watch;
	uint64_t serial;
	struct packet *head, **tail;
	size_t queued_bytes;
};

static uint64_t last_serial;

uint64_t conn_serial(const struct launcher *l)
{
	return l->conn ? l->conn->serial : 0;
}

static void packet_free(struct packet *p)
{
	free(p->data);
	free(p);
}

void conn_close(struct launcher *l)
{
	struct conn *conn = l->conn;

	if (!conn)
		return;
	l->conn = NULL;
	watch_close(l, &conn->watch);
	while (conn->head) {
		struct packet *p = conn->head;

		conn->head = p->next;
		packet_free(p);
	}
	free(conn);
}

/* 0: gone into the socket; -EAGAIN: later; others: the connection is of no more use. */
static int send_packet(int fd, const void *data, size_t len)
{
	ssize_t n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

	return n < 0 ? -errno : 0;
}

static int queue_packet(struct launcher *l, void *data, size_t len)
{
	struct conn *conn = l->conn;
	struct packet *p;

	if (conn->queued_bytes + len > QUEUE_BYTES_MAX)
		return -ENOBUFS;
	p = malloc(sizeof(*p));
	if (!p)
		return -ENOMEM;
	*p = (struct packet){.data = data, .len = len};
	if (!conn->head)
		watch_modify(l, &conn->watch, EPOLLIN | EPOLLOUT);
	*conn->tail = p;
	conn->tail = &p->next;
	conn->queued_bytes += len;
	return 0;
}

void conn_send(struct launcher *l, const Notice *notice)
{
	int rc = -EAGAIN;
	size_t len;
	void *data;

	if (!l->conn)
		return;
	data = pb_pack(&notice->base, &len);
	if (!data) {
		conn_close(l);
		return;
	}
	if (!l->conn->head)
		rc = send_packet(l->conn->watch.fd, data, len);
	if (rc == -EAGAIN)
		rc = queue_packet(l, data, len);
	else
		free(data);
	if (rc) {
		log_warn("agent cut off", "err=%s", strerror(-rc));
		conn_close(l);
	}
}

void conn_reply(struct launcher *l, uint64_t serial, uint64_t seq, AckCode code,
		const char *message)
{
	Notice notice = FSB__LAUNCHER__V1__NOTICE__INIT;
	union {
		const char *in;
		char *out; /* the generated struct has no const */
	} borrowed = {.in = message};

	if (!serial || serial != conn_serial(l))
		return;
	notice.seq = seq;
	notice.code = code;
	notice.message = borrowed.out;
	conn_send(l, &notice);
}

static void flush_queue(struct launcher *l)
{
	struct conn *conn = l->conn;

	while (conn->head) {
		struct packet *p = conn->head;
		int rc = send_packet(conn->watch.fd, p->data, p->len);

		if (rc == -EAGAIN)
			return;
		if (rc) {
			conn_close(l);
			return;
		}
		conn->head = p->next;
		conn->queued_bytes -= p->len;
		packet_free(p);
	}
	conn->tail = &conn->head;
	watch_modify(l, &conn->watch, EPOLLIN);
}

static void handle_packet(struct launcher *l, const void *data, size_t len)
{
	struct err err = ERR_INIT;
	struct pb_arena *arena;
	ProtobufCMessage *msg;

	if (pb_unpack(&fsb__launcher__v1__request__descriptor, data, len, NULL, &arena, &msg,
		      &err)) {
		log_error("request not understood", "err=%s", err.msg);
		conn_close(l);
		return;
	}
	if (!request_handle(l, (const Request *)msg, arena))
		pb_free(arena);
}

static void on_conn(struct launcher *l, struct watch *w, uint32_t events)
{
	static char buffer[PACKET_MAX];
	ssize_t n;

	if (events & EPOLLOUT) {
		flush_queue(l);
		return; /* level-triggered: what can be read is told again */
	}
	n = recv(w->fd, buffer, sizeof(buffer), MSG_DONTWAIT | MSG_TRUNC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || (size_t)n > sizeof(buffer)) {
		conn_close(l);
		return;
	}
	handle_packet(l, buffer, (size_t)n);
}

static void on_accept(struct launcher *l, struct watch *w, uint32_t events)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), size = SOCKET_BUFFER;
	struct ucred peer;
	socklen_t len = sizeof(peer);
	struct conn *conn;

	if (fd < 0)
		return;
	conn = calloc(1, sizeof(*conn));
	if (!conn || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) ||
	    (peer.uid != 0 && peer.uid != geteuid())) {
		free(conn);
		close(fd);
		return;
	}
	conn_close(l);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	conn->tail = &conn->head;
	conn->serial = ++last_serial;
	conn->watch.fn = on_conn;
	if (watch_add(l, &conn->watch, fd, EPOLLIN)) {
		free(conn);
		return;
	}
	l->conn = conn;
	request_list(l);
}

int conn_listen(struct launcher *l, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd, rc;

	if ((size_t)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/agents/%s.launcher",
			     l->run_dir, l->name) >= sizeof(addr.sun_path))
		return err_set(
			err, -ENAMETOOLONG,
			"the path '%s/agents/%s.launcher' is too long for a unix socket (%zu "
			"bytes at most): choose a shorter run directory or agent name",
			l->run_dir, l->name, sizeof(addr.sun_path) - 1);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, "make a socket");
	(void)unlink(addr.sun_path); /* a dead launcher's: we hold the lock */
	umask(0177);
	rc = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 16) ? errno : 0;
	umask(022);
	if (rc) {
		close(fd);
		return err_errno(err, rc, "listen on '%s'", addr.sun_path);
	}
	l->listener.fn = on_accept;
	return watch_add(l, &l->listener, fd, EPOLLIN);
}
