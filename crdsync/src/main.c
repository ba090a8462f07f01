/* SPDX-License-Identifier: Apache-2.0 */
/* fsb-crdsync: command line and signals. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/instance.h"
#include "base/log.h"
#include "base/opt.h"
#include "crdsync.h"

struct args {
	const char *instance, *run_dir, *arena, *store;
	char run_dir_buf[PATH_MAX], arena_buf[PATH_MAX], store_buf[PATH_MAX + 16];
};

static int parse(struct args *a, int argc, char **argv, struct err *err)
{
	const struct opt opts[] = {
		{.name = "instance",
		 .kind = OPT_STRING,
		 .arg = "NAME",
		 .def = "default",
		 .help = "instance; names the run directory and the arena",
		 .string = &a->instance},
		{.name = "run-dir",
		 .kind = OPT_STRING,
		 .arg = "DIR",
		 .help = "run directory (default /run/fsb/INSTANCE)",
		 .string = &a->run_dir},
		{.name = "arena",
		 .kind = OPT_STRING,
		 .arg = "PATH",
		 .help = "arena file (default /dev/shm/fsb-INSTANCE)",
		 .string = &a->arena},
		{.name = "store",
		 .kind = OPT_STRING,
		 .arg = "URL",
		 .help = "where objects are kept (default sqlite:RUN-DIR/store.db)",
		 .string = &a->store},
		{0},
	};
	const struct opt_program prog = {
		.usage = "fsb-crdsync [options]",
		.summary = "Writes the registry's sandbox records to the store, and rebuilds the "
			   "registry from it.",
		.opts = opts,
		.epilog =
			"Exit codes: 0 ended by a signal, 2 bad usage or a store that can't be "
			"used as it is,\n"
			"3 no arena or the arena was replaced (start it again), 1 anything else.\n",
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
	if (!rc && !a->store) {
		snprintf(a->store_buf, sizeof(a->store_buf), "sqlite:%s/store.db", a->run_dir);
		a->store = a->store_buf;
	}
	return rc;
}

static void on_signal(int signo)
{
	crdsync_stop = 1;
}

static void set_signals(void)
{
	const struct sigaction end = {.sa_handler = on_signal}; /* no SA_RESTART: waits end */

	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGINT, &end, NULL);
}

int main(int argc, char **argv)
{
	static struct args args;
	struct err err = ERR_INIT;
	int r;

	log_init("crdsync");
	r = parse(&args, argc, argv, &err);
	if (r == OPT_EXIT)
		return 0;
	if (r == OPT_OK)
		r = fill_defaults(&args, &err);
	if (r < 0) {
		fprintf(stderr, "fsb-crdsync: %s\n", err.msg);
		return CRDSYNC_EXIT_USAGE;
	}
	umask(0077); /* specs hold what users put into environments */
	set_signals();
	return crdsync_run(&(struct crdsync_options){.arena = args.arena, .store = args.store});
}
