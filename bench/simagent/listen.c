/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One listening socket per agent, all in an epoll set that the loop watches. A connection accepted
 * here is handed to the one gRPC server, which names it "fd:N": that number says for which agent
 * its streams are. Numbers are taken in turn through the whole range, so that a stream which broke
 * a moment ago is not taken for one of a new connection.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "sim.h"

enum { BACKLOG = 64, EVENTS = 64, FDS_OF_OUR_OWN = 64, TCP_BIT = 1 };

struct sim_listen {
	int epoll_fd;
	struct gloop_fd *watch;
	int spare_fd;	    /* given up to refuse a connection when there are no more */
	uint32_t *agent_of; /* by fd: agent + 1, or 0 */
	int limit, lowest, next;
	bool complained;
	int64_t published; /* so many sockets have their final name */
};

static struct sim_listen *state(struct sim *sim)
{
	return sim->listen;
}

/* ---- connections ---- */

/* The next free number, in turn. Takes fd; -1 when there is none. */
static int renumber(struct sim_listen *l, int fd)
{
	int new = fcntl(fd, F_DUPFD_CLOEXEC, l->next);

	if (new < 0)
		new = fcntl(fd, F_DUPFD_CLOEXEC, l->lowest);
	(void)close(fd);
	if (new >= l->limit) {
		(void)close(new);
		return -1;
	}
	if (new >= 0)
		l->next = new + 1 < l->limit ? new + 1 : l->lowest;
	return new;
}

/* Refusing costs a number, too: the spare one. */
static void refuse(struct sim *sim, int listener)
{
	struct sim_listen *l = state(sim);
	int fd;

	sim->stats.unaccepted++;
	if (!l->complained)
		log_error("no more connections", "simulated=true err=%s limit=%d",
			  "the limit of open files is reached", l->limit);
	l->complained = true;
	cleanup_closep(&l->spare_fd);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	cleanup_closep(&fd);
	l->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static bool accept_one(struct sim *sim, uint64_t key)
{
	struct sim_listen *l = state(sim);
	struct sim_agent *agent = &sim->agents[key >> TCP_BIT];
	int listener = key & TCP_BIT ? agent->tcp_fd : agent->unix_fd, one = 1;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct err err = ERR_INIT;

	if (fd < 0 && (errno == EMFILE || errno == ENFILE))
		refuse(sim, listener);
	if (fd < 0)
		return false;
	if (key & TCP_BIT)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fd = renumber(l, fd);
	if (fd < 0) {
		sim->stats.unaccepted++;
		return false;
	}
	l->agent_of[fd] = agent->idx + 1;
	sim->stats.accepted++;
	if (gserver_add_fd(sim->server, fd, &err))
		log_error("connection not taken", "simulated=true agent=%s err=%s", agent->name,
			  err.msg);
	return true;
}

static void on_listeners(void *arg, int fd)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(fd, events, EVENTS, 0);

	for (int i = 0; i < n; i++) {
		while (accept_one(arg, events[i].data.u64))
			;
	}
}

struct sim_agent *sim_agent_of_peer(struct sim *sim, const char *peer)
{
	const struct sim_listen *l = state(sim);
	int64_t fd;

	if (strncmp(peer, "fd:", 3) || str_to_i64(peer + 3, 0, l->limit - 1, &fd) ||
	    !l->agent_of[fd])
		return NULL;
	return &sim->agents[l->agent_of[fd] - 1];
}

/* ---- listeners ---- */

static int watch(struct sim *sim, struct sim_agent *agent, int fd, bool tcp, struct err *err)
{
	struct epoll_event event = {.events = EPOLLIN,
				    .data.u64 = (uint64_t)agent->idx << TCP_BIT | tcp};

	if (listen(fd, BACKLOG))
		return err_errno(err, errno, "listen for agent '%s'", agent->name);
	if (epoll_ctl(state(sim)->epoll_fd, EPOLL_CTL_ADD, fd, &event))
		return err_errno(err, errno, "watch the socket of agent '%s'", agent->name);
	return 0;
}

/* Bound under a name that nobody looks for, since thousands take their time. */
#define NEW_SUFFIX "~"

static int unix_path(const struct sim *sim, const struct sim_agent *agent, const char *suffix,
		     struct sockaddr_un *sun)
{
	int n = snprintf(sun->sun_path, sizeof(sun->sun_path), "%s/agents/%s.sock%s",
			 sim->o.run_dir, agent->name, suffix);

	sun->sun_family = AF_UNIX;
	return n < 0 || (size_t)n >= sizeof(sun->sun_path) ? -ENAMETOOLONG : 0;
}

/* Somebody answers there, or it is a left-over that goes. */
static int remove_stale(const struct sockaddr_un *sun, struct err *err)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (access(sun->sun_path, F_OK))
		return 0;
	if (fd < 0)
		return err_errno(err, errno, "make a socket");
	if (!connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) || errno == EAGAIN)
		return err_set(err, -EADDRINUSE,
			       "another agent listens on '%s': choose another --name-prefix",
			       sun->sun_path);
	if (unlink(sun->sun_path) && errno != ENOENT)
		return err_errno(err, errno, "remove the stale socket '%s'", sun->sun_path);
	return 0;
}

static int listen_unix(struct sim *sim, struct sim_agent *agent, struct err *err)
{
	struct sockaddr_un sun = {0}, bound = {0};
	int rc = unix_path(sim, agent, NEW_SUFFIX, &bound);

	if (rc || unix_path(sim, agent, "", &sun))
		return err_set(err, -ENAMETOOLONG,
			       "the socket path of agent '%s' in '%s' is too long", agent->name,
			       sim->o.run_dir);
	rc = remove_stale(&sun, err);
	if (!rc)
		rc = remove_stale(&bound, err);
	if (rc)
		return rc;
	agent->unix_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (agent->unix_fd < 0)
		return err_errno(err, errno, "make a socket for agent '%s'", agent->name);
	if (bind(agent->unix_fd, (const struct sockaddr *)&bound, sizeof(bound)) ||
	    chmod(bound.sun_path, 0660))
		return err_errno(err, errno, "bind '%s'", bound.sun_path);
	return watch(sim, agent, agent->unix_fd, false, err);
}

/* Everything is ready to be answered: the sockets get the names by which registryd finds them. */
static int publish(struct sim *sim, struct err *err)
{
	struct sockaddr_un sun = {0}, bound = {0};

	for (int64_t i = 0; i < sim->o.agents && !sim->o.no_unix; i++) {
		(void)unix_path(sim, &sim->agents[i], NEW_SUFFIX, &bound);
		(void)unix_path(sim, &sim->agents[i], "", &sun);
		if (rename(bound.sun_path, sun.sun_path))
			return err_errno(err, errno, "rename '%s' to '%s'", bound.sun_path,
					 sun.sun_path);
		state(sim)->published++;
	}
	return 0;
}

static bool is_loopback(const struct sockaddr_in *sin)
{
	return ntohl(sin->sin_addr.s_addr) >> 24 == 127;
}

/* --tcp HOST:PORT of the first agent; the others have the ports after it. */
static int tcp_address(const struct sim *sim, struct sockaddr_in *ret, struct err *err)
{
	const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
	const char *colon = strrchr(sim->o.tcp, ':');
	struct addrinfo *found;
	char host[128];
	int64_t port;
	int rc;

	if (!colon || colon - sim->o.tcp >= (ptrdiff_t)sizeof(host) ||
	    str_to_i64(colon + 1, 1, 65536 - sim->o.agents, &port))
		return err_set(err, -EINVAL,
			       "--tcp '%s': want HOST:PORT with room for %lld ports from PORT on",
			       sim->o.tcp, (long long)sim->o.agents);
	snprintf(host, sizeof(host), "%.*s", (int)(colon - sim->o.tcp), sim->o.tcp);
	rc = getaddrinfo(host, NULL, &hints, &found);
	if (rc)
		return err_set(err, -EINVAL, "--tcp '%s': host '%s': %s", sim->o.tcp, host,
			       gai_strerror(rc));
	memcpy(ret, found->ai_addr, sizeof(*ret));
	freeaddrinfo(found);
	ret->sin_port = htons((uint16_t)port);
	if (!is_loopback(ret) && !sim->o.insecure)
		return err_set(err, -EPERM,
			       "--tcp '%s' is not a loopback address: give --insecure when the "
			       "network is trusted",
			       sim->o.tcp);
	return 0;
}

static int listen_tcp(struct sim *sim, struct sim_agent *agent, struct sockaddr_in sin,
		      struct err *err)
{
	int one = 1;

	sin.sin_port = htons((uint16_t)(ntohs(sin.sin_port) + agent->idx));
	agent->tcp_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (agent->tcp_fd < 0)
		return err_errno(err, errno, "make a socket for agent '%s'", agent->name);
	(void)setsockopt(agent->tcp_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(agent->tcp_fd, (const struct sockaddr *)&sin, sizeof(sin)))
		return err_errno(err, errno, "bind port %u for agent '%s'", ntohs(sin.sin_port),
				 agent->name);
	return watch(sim, agent, agent->tcp_fd, true, err);
}

static int listen_all(struct sim *sim, struct err *err)
{
	struct sockaddr_in sin = {0};
	int rc = sim->o.tcp ? tcp_address(sim, &sin, err) : 0;

	for (int64_t i = 0; !rc && i < sim->o.agents; i++) {
		if (!sim->o.no_unix)
			rc = listen_unix(sim, &sim->agents[i], err);
		if (!rc && sim->o.tcp)
			rc = listen_tcp(sim, &sim->agents[i], sin, err);
	}
	return rc;
}

/* ---- the limit of open files ---- */

static int raise_limit(struct sim *sim, struct sim_listen *l, struct err *err)
{
	int64_t listeners = sim->o.agents * (!sim->o.no_unix + !!sim->o.tcp);
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return err_errno(err, errno, "getrlimit");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		return err_errno(err, errno, "setrlimit");
	l->limit = limit.rlim_cur < 1 << 20 ? (int)limit.rlim_cur : 1 << 20;
	if (listeners + sim->o.agents + FDS_OF_OUR_OWN > l->limit)
		return err_set(err, -EMFILE,
			       "%lld agents need %lld open files to listen and one more each for "
			       "registryd; the limit is %d (ulimit -Hn)",
			       (long long)sim->o.agents, (long long)listeners, l->limit);
	if (listeners + 3 * sim->o.agents + FDS_OF_OUR_OWN > l->limit)
		log_warn("few files for connections",
			 "simulated=true agents=%lld limit=%d connections=%lld",
			 (long long)sim->o.agents, l->limit,
			 (long long)(l->limit - listeners - FDS_OF_OUR_OWN));
	return 0;
}

int sim_listen_open(struct sim *sim, struct err *err)
{
	struct sim_listen *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	sim->listen = l;
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	l->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (l->epoll_fd < 0 || l->spare_fd < 0)
		return err_errno(err, errno, "epoll_create1");
	rc = raise_limit(sim, l, err);
	if (!rc)
		rc = listen_all(sim, err);
	if (rc)
		return rc;
	l->lowest = l->next = fcntl(l->epoll_fd, F_DUPFD_CLOEXEC, FDS_OF_OUR_OWN);
	cleanup_closep(&l->lowest);
	l->agent_of = calloc((size_t)l->limit, sizeof(*l->agent_of));
	if (!l->agent_of)
		return err_set(err, -ENOMEM, "out of memory");
	l->watch = gloop_fd_add(sim->loop, l->epoll_fd, on_listeners, sim, err);
	return l->watch ? publish(sim, err) : err->code;
}

void sim_listen_close(struct sim *sim)
{
	struct sim_listen *l = state(sim);
	struct sockaddr_un sun = {0};

	if (!l)
		return;
	for (int64_t i = 0; i < sim->o.agents; i++) {
		struct sim_agent *agent = &sim->agents[i];

		if (agent->unix_fd >= 0) {
			(void)unix_path(sim, agent, i < l->published ? "" : NEW_SUFFIX, &sun);
			(void)unlink(sun.sun_path);
		}
		cleanup_closep(&agent->unix_fd);
		cleanup_closep(&agent->tcp_fd);
	}
	if (l->watch)
		gloop_fd_del(l->watch);
	cleanup_closep(&l->epoll_fd);
	cleanup_closep(&l->spare_fd);
	free(l->agent_of);
	free(l);
	sim->listen = NULL;
}
