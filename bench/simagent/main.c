/* SPDX-License-Identifier: Apache-2.0 */
/* fsb-simagent: options, and the life of the process. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/instance.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "sim.h"

#define SHUTDOWN_GRACE_NS NS_PER_S

/* As given on the command line. */
static struct raw {
	const char *images, *ack_delay, *stop_delay, *exit_after, *fail_rate;
} raw;
static struct sim_options given;

/* ---- life ---- */

static void on_shut_down(void *arg)
{
	struct sim *sim = arg;

	gloop_stop(sim->loop);
}

static void on_end(void *arg, int signo)
{
	struct sim *sim = arg;

	if (sim->ending)
		return;
	log_info("ending", "simulated=true signal=%d", signo);
	sim_stats_report(sim);
	sim->ending = true;
	gloop_timer_cancel(sim->beat);
	sim_listen_close(sim);
	sim_peers_close(sim);
	gserver_shutdown(sim->server, SHUTDOWN_GRACE_NS, on_shut_down, sim);
}

static void on_report(void *arg, int signo)
{
	sim_stats_report(arg);
}

/* Each agent gets --images-each of the images, chosen anew. */
static int choose_images(struct sim *sim, struct sim_agent *agent)
{
	uint32_t each = (uint32_t)sim->o.images_each, count = (uint32_t)sim->o.image_count;
	uint32_t taken = 0;

	agent->image_count = count;
	if (!each || each >= count)
		return 0;
	agent->images = calloc(each, sizeof(*agent->images));
	if (!agent->images)
		return -ENOMEM;
	/* Selection sampling: each image is taken with the odds of what is still wanted. */
	for (uint32_t i = 0; taken < each; i++) {
		if (rng_below(&sim->rng, count - i) < each - taken)
			agent->images[taken++] = i;
	}
	agent->image_count = each;
	return 0;
}

static int make_agents(struct sim *sim, struct err *err)
{
	sim->agents = calloc((size_t)sim->o.agents, sizeof(*sim->agents));
	if (!sim->agents)
		return err_set(err, -ENOMEM, "out of memory for %lld agents",
			       (long long)sim->o.agents);
	for (int64_t i = 0; i < sim->o.agents; i++) {
		struct sim_agent *agent = &sim->agents[i];

		agent->sim = sim;
		agent->idx = (uint32_t)i;
		agent->unix_fd = agent->tcp_fd = -1;
		snprintf(agent->name, sizeof(agent->name), "%s%lld", sim->o.prefix,
			 (long long)(sim->o.first + i));
		if (choose_images(sim, agent))
			return err_set(err, -ENOMEM, "out of memory for images");
	}
	return 0;
}

static int make_server(struct sim *sim, struct err *err)
{
	const struct gserver_options opts = {
		.methods = sim_methods,
		.ctx = sim,
		.max_calls = (uint32_t)sim->o.agents * 16 + 1024,
		.pb = {.max_bytes = 64 << 20, .max_objects = 1000000},
	};

	sim->server = gserver_new(sim->loop, &opts, err);
	return sim->server ? gserver_start(sim->server, err) : err->code;
}

static int open_parts(struct sim *sim, struct err *err)
{
	int rc = gloop_on_signal(sim->loop, SIGTERM, on_end, sim, err);

	if (!rc)
		rc = gloop_on_signal(sim->loop, SIGINT, on_end, sim, err);
	if (!rc)
		rc = gloop_on_signal(sim->loop, SIGUSR1, on_report, sim, err);
	if (!rc)
		rc = make_agents(sim, err);
	if (!rc)
		rc = make_server(sim, err);
	if (rc)
		return rc;
	sim->due = due_new(sim->loop, err);
	if (!sim->due)
		return err->code;
	sim->beat = gloop_timer_new(sim->loop, sim_beat, sim);
	if (!sim->beat)
		return err_set(err, -ENOMEM, "out of memory");
	sim->beat_start_ns = sim->start_ns;
	gloop_timer_set(sim->beat, 0);
	return sim_listen_open(sim, err);
}

static void close_parts(struct sim *sim)
{
	sim_listen_close(sim);
	gserver_free(sim->server);
	if (sim->due)
		sim_sandboxes_free(sim);
	due_free(sim->due);
	gloop_timer_free(sim->beat);
	gloop_free(sim->loop);
	for (int64_t i = 0; sim->agents && i < sim->o.agents; i++)
		free(sim->agents[i].images);
	free(sim->agents);
}

static int make_run_dir(const struct sim *sim, struct err *err)
{
	char path[PATH_MAX];
	int rc;

	snprintf(path, sizeof(path), "%s/agents", sim->o.run_dir);
	rc = io_mkdirs(sim->o.run_dir, 0750);
	if (!rc)
		rc = io_mkdirs(path, 0750);
	return rc ? err_errno(err, -rc, "make directory '%s'", path) : 0;
}

static int run(struct sim *sim, struct err *err)
{
	int rc = sim->o.no_unix ? 0 : make_run_dir(sim, err);

	if (rc)
		return rc;
	sim->start_ns = clock_mono_ns();
	rng_seed(&sim->rng, (uint64_t)sim->o.seed);
	sim->loop = gloop_new(err);
	if (!sim->loop)
		return err->code;
	rc = open_parts(sim, err);
	if (!rc) {
		log_info("ready", "simulated=true agents=%lld first=%s pool=%s run_dir=%s",
			 (long long)sim->o.agents, sim->agents[0].name, sim->o.pool,
			 sim->o.run_dir);
		gloop_run(sim->loop);
	}
	close_parts(sim);
	return rc;
}

/* ---- options ---- */

static int add_image(struct sim_options *o, const char *name, struct err *err)
{
	char ref[512];

	if (o->image_count == SIM_IMAGES_MAX)
		return err_set(err, -EINVAL, "--images: at most %d are taken", SIM_IMAGES_MAX);
	if (str_image_canonical(name, ref, sizeof(ref)))
		return err_set(err, -EINVAL, "--images: '%.100s' is not an image reference", name);
	o->images[o->image_count] = strdup(ref);
	if (!o->images[o->image_count])
		return err_set(err, -ENOMEM, "out of memory for images");
	o->image_count++;
	return 0;
}

static int read_images(struct sim_options *o, const char *list, struct err *err)
{
	cleanup_free char *copy = strdup(list);
	char *save = NULL;
	int rc = copy ? 0 : err_set(err, -ENOMEM, "out of memory for images");

	for (char *at = copy ? strtok_r(copy, ",", &save) : NULL; at && !rc;
	     at = strtok_r(NULL, ",", &save))
		rc = add_image(o, at, err);
	return rc;
}

static int read_specs(struct sim_options *o, struct err *err)
{
	int rc = dist_parse("--ack-delay", raw.ack_delay, &o->ack_delay, err);

	if (!rc)
		rc = dist_parse("--stop-delay", raw.stop_delay, &o->stop_delay, err);
	o->exits = *raw.exit_after;
	if (!rc && o->exits)
		rc = dist_parse("--exit-after", raw.exit_after, &o->exit_after, err);
	if (!rc)
		rc = fraction_parse("--fail-rate", raw.fail_rate, 1, &o->fail_rate, err);
	return rc ? rc : read_images(o, raw.images, err);
}

static int check(struct sim_options *o, int npos, struct err *err)
{
	static char run_dir[PATH_MAX];
	char last[128];
	int rc;

	if (npos)
		return err_set(err, -EINVAL, "no arguments beside options are taken");
	snprintf(last, sizeof(last), "%.100s%lld", o->prefix, (long long)(o->first + o->agents));
	if (!str_is_dns1123_subdomain(last) || strlen(last) >= 64)
		return err_set(err, -EINVAL,
			       "--name-prefix '%.80s': with a number after it, it must be a "
			       "DNS-1123 name of less than 64 bytes",
			       o->prefix);
	if (!str_is_dns1123_subdomain(o->pool))
		return err_set(err, -EINVAL, "--pool '%.80s' is not a DNS-1123 name", o->pool);
	if (!str_is_dns1123_label(o->namespace_))
		return err_set(err, -EINVAL, "--namespace '%.80s' is not a DNS-1123 label",
			       o->namespace_);
	if (o->no_unix && !o->tcp)
		return err_set(err, -EINVAL, "--no-unix leaves no address: give --tcp");
	rc = read_specs(o, err);
	return rc ? rc : instance_run_dir(&o->run_dir, o->instance, run_dir, sizeof(run_dir), err);
}

static const struct opt opts[] = {
	{"instance", 0, OPT_STRING, "NAME", "instance; names the run directory", "default",
	 .string = &given.instance},
	{"run-dir", 0, OPT_STRING, "DIR", "run directory (default: /run/fsb/INSTANCE)", NULL,
	 .string = &given.run_dir},
	{"agents", 0, OPT_INT, "N", "how many agents to simulate", "100", .min = 1,
	 .max = SIM_AGENTS_MAX, .number = &given.agents},
	{"name-prefix", 0, OPT_STRING, "TEXT", "agents are named TEXT0, TEXT1, ...", "sim-",
	 .string = &given.prefix},
	{"first", 0, OPT_INT, "N", "number of the first agent", "0", .min = 0, .max = INT32_MAX,
	 .number = &given.first},
	{"pool", 0, OPT_STRING, "NAME", "the pool they belong to", "default-pool",
	 .string = &given.pool},
	{"namespace", 0, OPT_STRING, "NAME", "namespace of the pool", "default",
	 .string = &given.namespace_},
	{"capacity", 0, OPT_INT, "N", "sandboxes at once per agent, <= 0: unlimited", "64",
	 .min = INT32_MIN, .max = INT32_MAX, .number = &given.capacity},
	{"images", 0, OPT_STRING, "LIST", "images that they have, with commas", "busybox:test",
	 .string = &raw.images},
	{"images-each", 0, OPT_INT, "N", "each has N of them, chosen at random; 0: all", "0",
	 .min = 0, .max = SIM_IMAGES_MAX, .number = &given.images_each},
	{"ack-delay", 0, OPT_STRING, "SPEC", "from a start to its acknowledgement: " DIST_SYNTAX,
	 "0", .string = &raw.ack_delay},
	{"stop-delay", 0, OPT_STRING, "SPEC", "from a stop to its acknowledgement", "0",
	 .string = &raw.stop_delay},
	{"exit-after", 0, OPT_STRING, "SPEC",
	 "sandboxes exit by themselves, with code 0, after SPEC; \"\": never", "",
	 .string = &raw.exit_after},
	{"fail-rate", 0, OPT_STRING, "P", "share of starts that are refused, 0 to 1", "0",
	 .string = &raw.fail_rate},
	{"heartbeat-s", 0, OPT_INT, "S", "seconds between an agent's heartbeats", "1", .min = 1,
	 .max = 3600, .number = &given.heartbeat_s},
	{"tcp", 0, OPT_STRING, "HOST:PORT",
	 "listen on TCP, too: agent 0 on PORT, agent 1 on PORT+1, ...", NULL, .string = &given.tcp},
	{"no-unix", 0, OPT_FLAG, NULL, "no sockets in DIR/agents", NULL, .flag = &given.no_unix},
	{"insecure", 0, OPT_FLAG, NULL, "allow --tcp on other addresses than loopback", NULL,
	 .flag = &given.insecure},
	{"host-ip", 0, OPT_STRING, "IP", "address of endpoints", "127.0.0.1",
	 .string = &given.host_ip},
	{"seed", 0, OPT_INT, "N", "seed of all random choices", "1", .min = 0, .max = INT64_MAX,
	 .number = &given.seed},
	{"stats", 0, OPT_STRING, "FILE", "write totals as JSON at the end and at SIGUSR1", NULL,
	 .string = &given.stats_file},
	{0},
};

static const struct opt_program program = {
	.usage = "fsb-simagent [options]",
	.summary = "SIMULATED agents for load tests: speaks fsb.agent.v1 as many agents from "
		   "one process\n"
		   "and starts nothing. Their node is called \"" SIM_NODE "\", which fsb-ctl "
		   "agents shows.",
	.opts = opts,
	.epilog = "Sockets appear in DIR/agents, where fsb-registryd finds them; agents on "
		  "TCP are given to it by --agent.\n"
		  "An agent needs one file to listen and one for registryd and each worker "
		  "that is connected.\n"
		  "SIGUSR1 reports totals, SIGTERM ends all agents at once.",
};

static int parse(struct sim_options *ret, int argc, char **argv, struct err *err)
{
	int npos, rc = opt_parse(&program, argc, argv, &npos, err);

	if (!rc)
		rc = check(&given, npos, err);
	*ret = given;
	return rc;
}

int main(int argc, char **argv)
{
	static struct sim sim;
	struct err err = ERR_INIT;
	int rc = parse(&sim.o, argc, argv, &err);

	if (rc == OPT_EXIT)
		return 0;
	if (rc) {
		fprintf(stderr, "fsb-simagent: %s\n", err.msg);
		return 2;
	}
	log_init("simagent");
	rc = run(&sim, &err);
	if (rc)
		log_error("can't run", "simulated=true err=%s", err.msg);
	while (sim.o.image_count)
		free(sim.o.images[--sim.o.image_count]);
	return rc ? 1 : 0;
}
