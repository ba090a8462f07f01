/* SPDX-License-Identifier: Apache-2.0 */
/* Binding (see listen.h). */
#include "listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

enum { BACKLOG = 1024 };

/* host gets the part before the last colon without brackets. */
static int split(const char *address, char *host, size_t size, int64_t *ret_port, struct err *err)
{
	const char *colon = strrchr(address, ':');
	size_t len = colon ? (size_t)(colon - address) : 0;

	if (!colon || len == 0 || len >= size || str_to_i64(colon + 1, 0, 65535, ret_port))
		return err_set(err, -EINVAL,
			       "--listen '%s': must be HOST:PORT with a port of 0 to 65535",
			       address);
	if (address[0] == '[' && address[len - 1] == ']') {
		address++;
		len -= 2;
	}
	memcpy(host, address, len);
	host[len] = '\0';
	return 0;
}

static bool is_loopback(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof(in));
		return (ntohl(in.sin_addr.s_addr) >> 24) == 127;
	}
	if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof(in6));
		return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
	}
	return false;
}

static int bound_port(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	uint16_t port = 0;

	if (getsockname(fd, (struct sockaddr *)&ss, &len))
		return -errno;
	if (ss.ss_family == AF_INET)
		memcpy(&port, (char *)&ss + offsetof(struct sockaddr_in, sin_port), sizeof(port));
	else
		memcpy(&port, (char *)&ss + offsetof(struct sockaddr_in6, sin6_port), sizeof(port));
	return ntohs(port);
}

static int bind_tcp(const struct addrinfo *ai, const char *address, int *ret_fd, int *ret_port,
		    struct err *err)
{
	cleanup_close int fd =
		socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	int one = 1;

	if (fd < 0)
		return err_errno(err, errno, "--listen '%s': socket", address);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, BACKLOG))
		return err_errno(err, errno, "--listen '%s'", address);
	*ret_port = bound_port(fd);
	if (*ret_port < 0)
		return err_errno(err, -*ret_port, "--listen '%s': getsockname", address);
	*ret_fd = take_fd(&fd);
	return 0;
}

int fp_listen_tcp(const char *address, bool insecure, int *ret_fd, int *ret_port, struct err *err)
{
	const struct addrinfo hints = {
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *found;
	char host[256], service[8];
	int64_t port;
	int rc = split(address, host, sizeof(host), &port, err);

	if (rc)
		return rc;
	snprintf(service, sizeof(service), "%d", (int)port);
	rc = getaddrinfo(host, service, &hints, &found);
	if (rc)
		return err_set(err, -EINVAL, "--listen '%s': host '%s': %s", address, host,
			       gai_strerror(rc));
	if (!insecure && !is_loopback(found->ai_addr))
		rc = err_set(
			err, -EPERM,
			"--listen '%s' is not a loopback address, and this release has no TLS: "
			"give --insecure when the network is trusted",
			address);
	else
		rc = bind_tcp(found, address, ret_fd, ret_port, err);
	freeaddrinfo(found);
	return rc;
}

/* 0: the path is free now. */
static int remove_stale(const char *path, const struct sockaddr_un *sun, struct err *err)
{
	cleanup_close int fd = -1;
	struct stat st;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : err_errno(err, errno, "--unix '%s'", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST, "--unix '%s' exists and is not a socket", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, "--unix '%s': socket", path);
	if (!connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) || errno == EAGAIN)
		return err_set(err, -EADDRINUSE, "--unix '%s': another process listens there",
			       path);
	if (errno != ECONNREFUSED)
		return err_errno(err, errno, "--unix '%s'", path);
	if (unlink(path) && errno != ENOENT)
		return err_errno(err, errno, "--unix '%s': remove the stale socket", path);
	return 0;
}

int fp_listen_unix(const char *path, int *ret_fd, struct err *err)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	cleanup_close int fd = -1;
	int rc;

	if (strlen(path) >= sizeof(sun.sun_path))
		return err_set(err, -ENAMETOOLONG,
			       "--unix '%s' has %zu bytes: at most %zu are possible", path,
			       strlen(path), sizeof(sun.sun_path) - 1);
	memcpy(sun.sun_path, path, strlen(path) + 1);
	rc = remove_stale(path, &sun, err);
	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, "--unix '%s': socket", path);
	/* Before anyone can connect: chmod(2) sets the file's mode between bind and listen. */
	if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)) || chmod(path, 0660) ||
	    listen(fd, BACKLOG))
		return err_errno(err, errno, "--unix '%s'", path);
	*ret_fd = take_fd(&fd);
	return 0;
}
