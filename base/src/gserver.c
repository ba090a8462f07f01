/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's life: methods, listening, admission and shutdown. While fewer than max_calls are in
 * flight each method has at least one call armed, and as many more as keep the sum below max_calls;
 * what finds none armed waits inside gRPC.
 */
#include <errno.h>
#include <fcntl.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "gserver_int.h"

#define DEFAULT_MAX_CALLS	  4096
#define DEFAULT_MAX_MESSAGE_BYTES (4 << 20)
#define ARMED_PER_METHOD	  16

enum gserver_state { SERVER_NEW, SERVER_STARTED, SERVER_STOPPING, SERVER_STOPPED };

struct gserver {
	struct gloop *loop;
	grpc_server *core;
	struct gserver_options opts;
	struct gmethod_slot *slots; /* one per method, then the catch-all */
	size_t slot_count;
	struct gcall *pool;
	uint32_t armed;	    /* over all slots */
	uint32_t in_flight; /* taken by a request and not ended */
	size_t next_slot;   /* where to look first for a slot with too few armed */
	bool starved;	    /* some slot has fewer armed than it should */

	enum gserver_state state;
	struct gtag on_shutdown;
	bool core_stopped;
	struct gloop_timer *grace;
	void (*done)(void *arg);
	void *done_arg;
};

/* ---- admission ---- */

static struct gcall *server_take_call(struct gserver *server)
{
	struct gcall *call = server->pool;

	if (!call)
		return gcall__new(server);
	server->pool = call->next;
	return call;
}

/* True when one more call of slot was armed. */
static bool server_arm_one(struct gserver *server, struct gmethod_slot *slot)
{
	struct gcall *call;

	if (server->state != SERVER_STARTED || slot->armed >= ARMED_PER_METHOD)
		return false;
	if (server->in_flight + (slot->armed ? server->armed : 0) >= server->opts.max_calls)
		return false;
	call = server_take_call(server);
	if (!call)
		return false;
	slot->armed++;
	server->armed++;
	gcall__arm(call, slot);
	return true;
}

/* One call for each slot that has too few, beginning where the last round ended. */
static void server_arm_starved(struct gserver *server)
{
	bool full = true;

	for (size_t i = 0; i < server->slot_count; i++) {
		size_t idx = (server->next_slot + i) % server->slot_count;
		struct gmethod_slot *slot = &server->slots[idx];

		if (slot->armed < ARMED_PER_METHOD)
			(void)server_arm_one(server, slot);
		if (slot->armed < ARMED_PER_METHOD)
			full = false;
	}
	server->next_slot = (server->next_slot + 1) % server->slot_count;
	server->starved = !full;
}

static void server_arm_all(struct gserver *server)
{
	for (int round = 0; round < ARMED_PER_METHOD; round++)
		server_arm_starved(server);
}

void gserver__call_left(struct gmethod_slot *slot, bool taken)
{
	struct gserver *server = slot->server;

	slot->armed--;
	server->armed--;
	if (!taken)
		return;
	server->in_flight++;
	if (!server_arm_one(server, slot))
		server->starved = true;
}

static void server_check_done(struct gserver *server)
{
	if (server->state == SERVER_STOPPING && server->core_stopped && !server->armed &&
	    !server->in_flight)
		gloop_timer_set(server->grace, 0); /* done runs from the loop, not under a call */
}

void gserver__call_ended(struct gcall *call, bool was_taken)
{
	struct gserver *server = call->server;

	call->next = server->pool;
	server->pool = call;
	if (was_taken)
		server->in_flight--;
	if (server->starved)
		server_arm_starved(server);
	server_check_done(server);
}

/* ---- making ---- */

static int server_register(struct gserver *server, struct err *err)
{
	size_t count = 0;

	while (server->opts.methods[count].path)
		count++;
	server->slots = calloc(count + 1, sizeof(*server->slots));
	if (!server->slots)
		return err_set(err, -ENOMEM, "out of memory for %zu methods", count);
	server->slot_count = count + 1;
	for (size_t i = 0; i <= count; i++)
		server->slots[i].server = server;
	for (size_t i = 0; i < count; i++) {
		const struct gmethod *def = &server->opts.methods[i];

		server->slots[i].def = def;
		server->slots[i].handle = grpc_server_register_method(
			server->core, def->path, NULL,
			def->kind == GMETHOD_BIDI ? GRPC_SRM_PAYLOAD_NONE
						  : GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER,
			0);
		if (!server->slots[i].handle)
			return err_set(err, -EEXIST, "method '%s' is in the table twice",
				       def->path);
	}
	return 0;
}

static grpc_server *server_create_core(const struct gserver_options *opts)
{
	grpc_arg args[] = {
		gint__arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)opts->max_message_bytes),
		gint__arg(GRPC_ARG_MAX_CONCURRENT_STREAMS, (int)opts->max_calls),
		gint__arg(GRPC_ARG_ALLOW_REUSEPORT, 0), /* a port in use is an error */
		gint__arg(GRPC_ARG_ENABLE_CHANNELZ, 0),
	};
	grpc_channel_args list = {.num_args = sizeof(args) / sizeof(args[0]), .args = args};

	return grpc_server_create(&list, NULL);
}

static void server_grace_fn(void *arg);
static void server_shutdown_fn(struct gtag *tag, bool ok);

struct gserver *gserver_new(struct gloop *loop, const struct gserver_options *opts, struct err *err)
{
	struct gserver *server = calloc(1, sizeof(*server));

	if (!server) {
		(void)err_set(err, -ENOMEM, "out of memory for a server");
		return NULL;
	}
	server->loop = loop;
	server->opts = *opts;
	if (!server->opts.max_calls)
		server->opts.max_calls = DEFAULT_MAX_CALLS;
	if (!server->opts.max_message_bytes)
		server->opts.max_message_bytes = DEFAULT_MAX_MESSAGE_BYTES;
	server->on_shutdown.fn = server_shutdown_fn;
	server->core = server_create_core(&server->opts);
	grpc_server_register_completion_queue(server->core, gloop__cq(loop), NULL);
	server->grace = gloop_timer_new(loop, server_grace_fn, server);
	if (!server->grace) {
		(void)err_set(err, -ENOMEM, "out of memory for a timer");
		return gserver_free(server);
	}
	if (server_register(server, err) < 0)
		return gserver_free(server);
	return server;
}

/* ---- listening ---- */

static int unix_address(const char *path, struct sockaddr_un *ret, struct err *err)
{
	if (!path[0] || strlen(path) >= sizeof(ret->sun_path))
		return err_set(err, -ENAMETOOLONG,
			       "socket path '%s' has %zu bytes; 1 to %zu are possible", path,
			       strlen(path), sizeof(ret->sun_path) - 1);
	memset(ret, 0, sizeof(*ret));
	ret->sun_family = AF_UNIX;
	memcpy(ret->sun_path, path, strlen(path));
	return 0;
}

/* Removes a socket file that nobody listens on any more. gRPC itself would also remove one that is
 * in use. */
static int unix_remove_stale(const char *path, struct err *err)
{
	cleanup_close int fd = -1;
	struct sockaddr_un addr;
	struct stat st;
	int r = unix_address(path, &addr, err);

	if (r < 0)
		return r;
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(err, errno, "look at '%s'", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST, "'%s' exists and is not a socket", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, "make a socket");
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 || errno == EAGAIN)
		return err_set(err, -EADDRINUSE, "another process listens on '%s'", path);
	if (errno != ECONNREFUSED)
		return err_errno(err, errno, "see whether somebody listens on '%s'", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return err_errno(err, errno, "remove the stale socket '%s'", path);
	return 0;
}

static int server_bind(struct gserver *server, const char *address, struct err *err)
{
	grpc_server_credentials *creds = grpc_insecure_server_credentials_create();
	int port;

	gloop__clear_error();
	port = grpc_server_add_http2_port(server->core, address, creds);
	grpc_server_credentials_release(creds);
	if (port > 0)
		return port;
	return err_set(err, -EADDRNOTAVAIL, "listen on '%s': %s", address,
		       gloop__last_error()[0] ? gloop__last_error()
					      : "not an address that can be listened on");
}

static int server_listen_unix(struct gserver *server, const char *address, unsigned int mode,
			      struct err *err)
{
	const char *path = address + strlen("unix:");
	mode_t old;
	int r = unix_remove_stale(path, err);

	if (r < 0)
		return r;
	old = umask(0777 & ~mode);
	r = server_bind(server, address, err);
	(void)umask(old);
	if (r < 0)
		return r;
	if (chmod(path, mode) < 0)
		return err_errno(err, errno, "set the mode of '%s' to %04o", path, mode);
	return 0;
}

int gserver_listen(struct gserver *server, const char *address, unsigned int mode, int *ret_port,
		   struct err *err)
{
	int port;

	base_bug(server->state != SERVER_NEW);
	if (strncmp(address, "unix:", 5) == 0)
		return server_listen_unix(server, address, mode, err);
	port = server_bind(server, address, err);
	if (port < 0)
		return port;
	if (ret_port)
		*ret_port = port;
	return 0;
}

int gserver_start(struct gserver *server, struct err *err)
{
	base_bug(server->state != SERVER_NEW);
	grpc_server_start(server->core);
	server->state = SERVER_STARTED;
	server_arm_all(server);
	for (size_t i = 0; i < server->slot_count; i++)
		if (!server->slots[i].armed)
			return err_set(err, -ENOMEM, "out of memory for the server's calls");
	return 0;
}

int gserver_add_fd(struct gserver *server, int fd, struct err *err)
{
	cleanup_close int owned = fd;
	grpc_server_credentials *creds;
	int flags;

	if (server->state != SERVER_STARTED)
		return err_set(err, -ESHUTDOWN, "the server takes no new connections");
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_errno(err, errno, "make connection fd %d non-blocking", fd);
	creds = grpc_insecure_server_credentials_create();
	grpc_server_add_channel_from_fd(server->core, take_fd(&owned), creds);
	grpc_server_credentials_release(creds);
	return 0;
}

/* ---- shutdown ---- */

static void server_shutdown_fn(struct gtag *tag, bool ok)
{
	struct gserver *server = gcontainer_of(tag, struct gserver, on_shutdown);

	(void)ok;
	server->core_stopped = true;
	server_check_done(server);
}

/* The grace has passed, or server_check_done found nothing left. */
static void server_grace_fn(void *arg)
{
	struct gserver *server = arg;

	if (!server->core_stopped || server->armed || server->in_flight) {
		grpc_server_cancel_all_calls(server->core);
		return;
	}
	server->state = SERVER_STOPPED;
	if (server->done)
		server->done(server->done_arg);
}

void gserver_shutdown(struct gserver *server, uint64_t grace_ns, void (*done)(void *arg), void *arg)
{
	base_bug(server->state == SERVER_STOPPING || server->state == SERVER_STOPPED);
	server->done = done;
	server->done_arg = arg;
	server->state = SERVER_STOPPING;
	gloop_timer_set(server->grace, grace_ns);
	grpc_server_shutdown_and_notify(server->core, gloop__cq(server->loop),
					&server->on_shutdown);
}

struct gserver *gserver_free(struct gserver *server)
{
	if (!server)
		return NULL;
	if (server->grace) {
		if (server->state < SERVER_STOPPING)
			gserver_shutdown(server, 0, NULL, NULL);
		while (server->state != SERVER_STOPPED)
			(void)gloop_poll(server->loop, -1);
	}
	while (server->pool) {
		struct gcall *call = server->pool;

		server->pool = call->next;
		gcall__free(call);
	}
	(void)gloop_timer_free(server->grace);
	grpc_server_destroy(server->core);
	free(server->slots);
	free(server);
	return NULL;
}

void *gserver_ctx(const struct gserver *server)
{
	return server->opts.ctx;
}

grpc_server *gserver__core(struct gserver *server)
{
	return server->core;
}

struct gloop *gserver__loop(struct gserver *server)
{
	return server->loop;
}

const struct gserver_options *gserver__options(const struct gserver *server)
{
	return &server->opts;
}
