/* SPDX-License-Identifier: Apache-2.0 */
/* fsb-registryd: command line. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/instance.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/opt.h"
#include "daemon.h"

struct args {
	const char *instance, *run_dir, *arena;
	struct opt_list agents;
	int64_t max_agents, max_sandboxes, agent_timeout_s, exited_ttl_s, agent_forget_s,
		kill_stopped_s, reap_interval_ms;
	bool no_store;
	char run_dir_buf[PATH_MAX], arena_buf[PATH_MAX];
};

static struct args args;

static const struct opt opts[] = {
	{.name = "instance",
	 .kind = OPT_STRING,
	 .arg = "NAME",
	 .def = "default",
	 .help = "instance; names the run directory and the arena",
	 .string = &args.instance},
	{.name = "run-dir",
	 .kind = OPT_STRING,
	 .arg = "DIR",
	 .help = "run directory (default /run/fsb/INSTANCE)",
	 .string = &args.run_dir},
	{.name = "arena",
	 .kind = OPT_STRING,
	 .arg = "PATH",
	 .help = "arena file (default /dev/shm/fsb-INSTANCE)",
	 .string = &args.arena},
	{.name = "agent",
	 .kind = OPT_LIST,
	 .arg = "ADDRESS",
	 .help = "an agent to dial (unix:PATH or HOST:PORT), beside RUN-DIR/agents/*.sock",
	 .list = &args.agents},
	{.name = "max-agents",
	 .kind = OPT_INT,
	 .arg = "N",
	 .def = "16384",
	 .min = 1,
	 .max = 131072,
	 .help = "agents in a new arena",
	 .number = &args.max_agents},
	{.name = "max-sandboxes",
	 .kind = OPT_INT,
	 .arg = "N",
	 .def = "1048576",
	 .min = 1,
	 .max = 4194304,
	 .help = "sandbox records in a new arena",
	 .number = &args.max_sandboxes},
	{.name = "agent-timeout",
	 .kind = OPT_INT,
	 .arg = "S",
	 .def = "10",
	 .min = 1,
	 .max = 86400,
	 .help = "seconds without a sign of life until an agent is lost",
	 .number = &args.agent_timeout_s},
	{.name = "agent-forget",
	 .kind = OPT_INT,
	 .arg = "S",
	 .def = "600",
	 .min = 1,
	 .max = 315360000,
	 .help = "seconds until a lost agent without sandboxes is forgotten",
	 .number = &args.agent_forget_s},
	{.name = "kill-stopped-after",
	 .kind = OPT_INT,
	 .arg = "S",
	 .def = "0",
	 .min = 0,
	 .max = 86400,
	 .help = "seconds until a process that stands still (SIGSTOP, a debugger) and so keeps "
		 "memory from being freed is killed; 0: never",
	 .number = &args.kill_stopped_s},
	{.name = "exited-ttl",
	 .kind = OPT_INT,
	 .arg = "S",
	 .def = "3600",
	 .min = 0,
	 .max = 315360000,
	 .help = "seconds that an exited sandbox is kept",
	 .number = &args.exited_ttl_s},
	{.name = "reap-interval-ms",
	 .kind = OPT_INT,
	 .arg = "MS",
	 .def = "200",
	 .min = 10,
	 .max = 60000,
	 .help = "how often dead processes are looked for",
	 .number = &args.reap_interval_ms},
	{.name = "no-store",
	 .kind = OPT_FLAG,
	 .help = "nobody will load a store: open for business at once",
	 .flag = &args.no_store},
	{0},
};

static int parse(int argc, char **argv, struct err *err)
{
	const struct opt_program prog = {
		.usage = "fsb-registryd [options]",
		.summary = "Owns the registry's arena: makes or re-attaches it, reaps dead "
			   "processes, watches agents, expires sandboxes.",
		.opts = opts,
		.epilog = "Exit codes: 0 ended by a signal, 2 bad usage, 3 another fsb-registryd "
			  "has the arena or it was\n"
			  "replaced, 1 anything else.\n",
	};
	int npos = 0;
	int r = opt_parse(&prog, argc, argv, &npos, err);

	if (r == OPT_OK && npos)
		return err_set(err, -EINVAL, "unexpected argument '%s'", argv[1]);
	return r;
}

static int fill_defaults(struct args *a, struct err *err)
{
	int rc = instance_run_dir(&a->run_dir, a->instance, a->run_dir_buf, sizeof(a->run_dir_buf),
				  err);

	if (!rc)
		rc = instance_arena(&a->arena, a->instance, a->arena_buf, sizeof(a->arena_buf),
				    err);
	return rc;
}

static int run(const struct args *a)
{
	const struct rd_options options = {
		.run_dir = a->run_dir,
		.arena = a->arena,
		.agents = a->agents,
		.max_agents = (uint32_t)a->max_agents,
		.max_sandboxes = (uint32_t)a->max_sandboxes,
		.agent_timeout_ns = (uint64_t)a->agent_timeout_s * NS_PER_S,
		.agent_forget_ns = (uint64_t)a->agent_forget_s * NS_PER_S,
		.kill_stopped_ns = (uint64_t)a->kill_stopped_s * NS_PER_S,
		.exited_ttl_ns = (uint64_t)a->exited_ttl_s * NS_PER_S,
		.reap_interval_ns = (uint64_t)a->reap_interval_ms * NS_PER_MS,
		.no_store = a->no_store,
	};
	int r = io_mkdirs(a->run_dir, 0750);

	if (r < 0) {
		log_error("run directory not made", "path=%s err=%s", a->run_dir, strerror(-r));
		return RD_EXIT_FAILED;
	}
	return rd_run(&options);
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	int r;

	log_init("registryd");
	r = parse(argc, argv, &err);
	if (r == OPT_EXIT)
		return 0;
	if (r == OPT_OK)
		r = fill_defaults(&args, &err);
	if (r < 0) {
		fprintf(stderr, "fsb-registryd: %s\n", err.msg);
		return RD_EXIT_USAGE;
	}
	return run(&args);
}
