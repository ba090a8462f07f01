/* SPDX-License-Identifier: Apache-2.0 */
/* fsb-agent: takes commands of the control plane, has the launcher carry them out, tells what
 * happened. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "agent.h"
#include "base/instance.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/str.h"

#define SHUTDOWN_GRACE_NS (1 * NS_PER_S)
enum { CAPACITY_DEFAULT = 5, PIDS_DEFAULT = 512, PIDS_MAX = 4194304 };

static const struct gmethod methods[] = {
	{
		.path = "/fsb.agent.v1.AgentService/Link",
		.kind = GMETHOD_BIDI,
		.request = &fsb__agent__v1__link_request__descriptor,
		.handler = agt_link_open,
		.on_message = agt_link_message,
		.on_half_close = agt_link_half_close,
	},
	{
		.path = "/fsb.agent.v1.AgentService/Logs",
		.kind = GMETHOD_SERVER_STREAM,
		.request = &fsb__agent__v1__logs_request__descriptor,
		.handler = agt_logs_call,
	},
	{
		.path = "/fsb.agent.v1.AgentService/LoadImage",
		.kind = GMETHOD_UNARY,
		.request = &fsb__agent__v1__load_image_request__descriptor,
		.handler = agt_load_call,
	},
	{0},
};

struct options {
	const char *memory, *cpu, *network, *layer;
	int64_t pids;
	bool capacity_set;
};

/* ---- serving ---- */

static int serve(struct agent *a, struct err *err)
{
	struct gserver_options opts = {
		.methods = methods,
		.ctx = a,
		.pb = {.max_bytes = 64 << 20, .max_objects = 1000000},
	};
	int rc;

	a->server = gserver_new(a->loop, &opts, err);
	if (!a->server)
		return err->code;
	rc = gserver_listen(a->server, a->listen, 0660, NULL, err);
	return rc ? rc : gserver_start(a->server, err);
}

/* The launcher has told everything: only now may a peer ask. */
static void on_ready(struct agent *a)
{
	struct err err = ERR_INIT;

	if (serve(a, &err)) {
		log_error("can't serve", "err=%s", err.msg);
		_exit(1);
	}
	gloop_timer_set(a->heartbeat, NS_PER_S);
	log_info("ready", "name=%s listen=%s sandboxes_active=%u images=%zu", a->name, a->listen,
		 a->active, image_store_count(a->images));
}

static void on_images_changed(void *arg, int fd)
{
	struct agent *a = arg;

	if (image_store_reload(a->images))
		agt_event_images(a);
}

static void on_shut_down(void *arg)
{
	struct agent *a = arg;

	gloop_stop(a->loop);
}

static void on_signal(void *arg, int signo)
{
	struct agent *a = arg;

	if (a->ending)
		return;
	log_info("ending", "signal=%d sandboxes_active=%u", signo, a->active);
	a->ending = true;
	gloop_timer_cancel(a->heartbeat);
	agt_peers_close(a);
	agt_logs_end_streams(a);
	if (a->server)
		gserver_shutdown(a->server, SHUTDOWN_GRACE_NS, on_shut_down, a);
	else
		gloop_stop(a->loop);
}

static int open_parts(struct agent *a, struct err *err)
{
	int rc = agt_epoch_load(a, err);

	if (!rc)
		rc = agt_fences_open(a, err);
	if (!rc)
		rc = agt_logs_open(a, err);
	if (rc)
		return rc;
	a->images = image_store_open(a->run_dir, err);
	a->heartbeat = gloop_timer_new(a->loop, agt_heartbeat, a);
	if (!a->images || !a->heartbeat)
		return err->code ? err->code : -ENOMEM;
	a->images_watch =
		gloop_fd_add(a->loop, image_store_watch_fd(a->images), on_images_changed, a, err);
	if (!a->images_watch)
		return err->code;
	return agt_launch_open(a, on_ready, err);
}

static void close_parts(struct agent *a)
{
	/* A load may still be unpacking in its thread, with all of this in use: then the process
	 * just ends. */
	if (a->loads)
		_exit(0);
	agt_launch_close(a);
	gserver_free(a->server);
	agt_logs_close(a);
	agt_sandboxes_free(a);
	agt_fences_close(a);
	gloop_fd_del(a->images_watch);
	image_store_close(a->images);
	gloop_timer_free(a->heartbeat);
	gloop_free(a->loop);
}

static int run(struct agent *a, struct err *err)
{
	int rc;

	a->loop = gloop_new(err);
	if (!a->loop)
		return err->code;
	rc = gloop_on_signal(a->loop, SIGTERM, on_signal, a, err);
	if (!rc)
		rc = gloop_on_signal(a->loop, SIGINT, on_signal, a, err);
	if (!rc)
		rc = open_parts(a, err);
	if (rc)
		return rc;
	gloop_run(a->loop);
	close_parts(a);
	return 0;
}

/* ---- options ---- */

/* Two agents of one name would take each other's sandboxes for their own. Held for life. */
static int take_lock(const struct agent *a, struct err *err)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/agents/%s.lock", a->run_dir, a->name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, errno, "open '%s'", path);
	if (flock(fd, LOCK_EX | LOCK_NB))
		return err_set(err, -EBUSY, "another agent named '%s' runs in '%s'", a->name,
			       a->run_dir);
	return 0;
}

static int make_dirs(struct agent *a, struct err *err)
{
	char path[300];
	int rc = io_mkdirs(a->run_dir, 0750);

	snprintf(path, sizeof(path), "%s/agents", a->run_dir);
	if (!rc)
		rc = io_mkdirs(path, 0750);
	if ((size_t)snprintf(a->state_dir, sizeof(a->state_dir), "%s/state/%s", a->run_dir,
			     a->name) >= sizeof(a->state_dir))
		rc = -ENAMETOOLONG;
	snprintf(a->own_dir, sizeof(a->own_dir), "%s/agents/%s.d", a->run_dir, a->name);
	if (!rc)
		rc = io_mkdirs(a->state_dir, 0700);
	if (!rc)
		rc = io_mkdirs(a->own_dir, 0700);
	return rc ? err_errno(err, -rc, "make directories in '%s'", a->run_dir) : 0;
}

static int read_defaults(struct agent *a, const struct options *o, struct err *err)
{
	int64_t milli;

	if (str_to_quantity_milli(o->memory, &milli) || milli / 1000 < 1 << 20)
		return err_set(err, -EINVAL, "--memory: '%s' is not a quantity of at least 1Mi",
			       o->memory);
	a->defaults.memory_bytes = milli / 1000;
	if (str_to_quantity_milli(o->cpu, &milli) || milli < 10)
		return err_set(err, -EINVAL, "--cpu: '%s' is not a quantity of at least 10m",
			       o->cpu);
	a->defaults.cpu_milli = milli;
	a->defaults.pids = o->pids;
	if (strcmp(o->network, "none") && strcmp(o->network, "shared"))
		return err_set(err, -EINVAL, "--network: '%s' is neither none nor shared",
			       o->network);
	a->defaults.shared_network = !strcmp(o->network, "shared");
	if (strcmp(o->layer, "memory") && strcmp(o->layer, "disk"))
		return err_set(err, -EINVAL, "--layer: '%s' is neither memory nor disk", o->layer);
	a->defaults.disk_layer = !strcmp(o->layer, "disk");
	return 0;
}

static int read_capacity(struct agent *a, const struct options *o, struct err *err)
{
	const char *text = getenv("AGENT_CAPACITY");

	if (o->capacity_set || !text || !*text)
		return 0;
	if (str_to_i64(text, INT32_MIN, INT32_MAX, &a->capacity))
		return err_set(err, -EINVAL, "$AGENT_CAPACITY: '%s' is not a number", text);
	return 0;
}

static int check_options(struct agent *a, const struct options *o, int npos, struct err *err)
{
	static char run_dir[128], address[200], host[256];
	int rc;

	if (npos)
		return err_set(err, -EINVAL, "no arguments beside options are taken");
	if (!a->name || !str_is_dns1123_subdomain(a->name))
		return err_set(err, -EINVAL, "--name: '%s' is not a DNS-1123 name",
			       a->name ? a->name : "");
	rc = read_defaults(a, o, err);
	if (!rc)
		rc = read_capacity(a, o, err);
	if (!rc)
		rc = instance_run_dir(&a->run_dir, a->instance, run_dir, sizeof(run_dir), err);
	if (rc)
		return rc;
	if (!a->listen) {
		snprintf(address, sizeof(address), "unix:%s/agents/%s.sock", a->run_dir, a->name);
		a->listen = address;
	}
	gethostname(host, sizeof(host) - 1);
	a->node = host;
	return 0;
}

static int parse(struct agent *a, struct options *o, int argc, char **argv, struct err *err)
{
	const struct opt opts[] = {
		{"instance", 0, OPT_STRING, "NAME", "instance name, for the cgroup paths",
		 "default", .string = &a->instance},
		{"run-dir", 0, OPT_STRING, "DIR", "run directory (default: /run/fsb/INSTANCE)",
		 NULL, .string = &a->run_dir},
		{"name", 0, OPT_STRING, "NAME", "this agent's name, unique in the run directory",
		 NULL, .string = &a->name},
		{"namespace", 0, OPT_STRING, "NAME", "namespace of its pool", "default",
		 .string = &a->namespace_},
		{"pool", 0, OPT_STRING, "NAME", "the pool it belongs to", "default-pool",
		 .string = &a->pool},
		{"capacity", 0, OPT_INT, "N",
		 "sandboxes at once, <= 0: unlimited (default: $AGENT_CAPACITY, else 5)", NULL,
		 .min = INT32_MIN, .max = INT32_MAX, .number = &a->capacity,
		 .ret_set = &o->capacity_set},
		{"listen", 0, OPT_STRING, "ADDRESS", "default: unix:DIR/agents/NAME.sock", NULL,
		 .string = &a->listen},
		{"host-ip", 0, OPT_STRING, "IP", "address of endpoints in the shared network",
		 "127.0.0.1", .string = &a->host_ip},
		{"network", 0, OPT_STRING, "KIND",
		 "a sandbox's network unless it says: none or shared", "none",
		 .string = &o->network},
		{"memory", 0, OPT_STRING, "QUANTITY", "a sandbox's memory limit unless it says",
		 "512Mi", .string = &o->memory},
		{"cpu", 0, OPT_STRING, "QUANTITY", "a sandbox's cpu limit unless it says", "1",
		 .string = &o->cpu},
		{"pids", 0, OPT_INT, "N", "a sandbox's limit of processes unless it says", "512",
		 .min = 1, .max = PIDS_MAX, .number = &o->pids},
		{"layer", 0, OPT_STRING, "WHERE",
		 "a sandbox's writable files: in memory (up to half of its limit) or on disk (in "
		 "the "
		 "run directory)",
		 "memory", .string = &o->layer},
		{0},
	};
	const struct opt_program program = {
		.usage = "fsb-agent --name NAME [options]",
		.summary =
			"Starts and stops sandboxes on this host for the control plane. SIGTERM "
			"ends "
			"the agent alone: its sandboxes and its launcher go on, the next agent of "
			"that name takes them over.",
		.opts = opts,
	};
	int npos, rc = opt_parse(&program, argc, argv, &npos, err);

	return rc ? rc : check_options(a, o, npos, err);
}

int main(int argc, char **argv)
{
	static struct agent a = {.capacity = CAPACITY_DEFAULT};
	struct options o = {.pids = PIDS_DEFAULT};
	struct err err = ERR_INIT;
	int rc = parse(&a, &o, argc, argv, &err);

	if (rc == OPT_EXIT)
		return 0;
	if (rc) {
		fprintf(stderr, "fsb-agent: %s\n", err.msg);
		return 2;
	}
	log_init("agent");
	failpoint_role("agent");
	rc = make_dirs(&a, &err);
	if (!rc)
		rc = take_lock(&a, &err);
	if (!rc)
		rc = run(&a, &err);
	if (rc)
		log_error("can't run", "name=%s err=%s", a.name, err.msg);
	return rc ? 1 : 0;
}
