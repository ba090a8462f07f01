/* SPDX-License-Identifier: Apache-2.0 */
/* fsb-load: options, and the run from connecting to the report. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/instance.h"
#include "base/log.h"
#include "base/str.h"
#include "load.h"

/* As given on the command line. */
static struct raw {
	const char *instance, *run_dir, *rate, *hold;
	int64_t duration_ms, warmup_ms, timeout_ms;
} raw;
static struct load_options given;

enum { EXIT_BALANCED = 0, EXIT_WRONG = 1, EXIT_USAGE = 2 };

static int run(struct load *load, struct err *err)
{
	int rc;

	load->loop = gloop_new(err);
	if (!load->loop)
		return err->code;
	load->due = due_new(load->loop, err);
	if (!load->due)
		return err->code;
	rng_seed(&load->rng, (uint64_t)load->o.seed + 1);
	rc = books_open(load, err);
	if (rc)
		return rc;
	rc = books_populate(load, err);
	if (!rc)
		drive_run(load);
	(void)books_close(load);
	if (!rc) {
		if (!load->o.json_file || strcmp(load->o.json_file, "-"))
			report_print(load);
		rc = report_json(load, err);
	}
	return rc;
}

static void done(struct load *load)
{
	for (int64_t i = 0; load->channels && i < load->o.connections; i++)
		gchannel_free(load->channels[i]);
	free(load->channels);
	table_done(&load->ops);
	due_free(load->due);
	gloop_free(load->loop);
}

/* ---- options ---- */

static int read_mode(struct load_options *o, struct err *err)
{
	static const char *const names[] = {"create", "fastpath", "get", "list", "batch", "echo"};

	for (int i = MODE_CREATE; i <= MODE_ECHO; i++) {
		if (!strcmp(o->mode_text, names[i])) {
			o->mode = (enum load_mode)i;
			return 0;
		}
	}
	return err_set(err, -EINVAL,
		       "--mode '%.40s': want create, fastpath, get, list, batch or echo",
		       o->mode_text);
}

/* The label that marks the run is its prefix, and names begin with it. */
static int read_prefix(struct load_options *o, struct err *err)
{
	static char own[48];

	if (!o->prefix) {
		snprintf(own, sizeof(own), "load-%d-%llx", (int)getpid(),
			 (unsigned long long)(clock_unix_ns() / (int64_t)NS_PER_MS));
		o->prefix = own;
	}
	if (strlen(o->prefix) > 40 || !str_is_dns1123_label(o->prefix))
		return err_set(err, -EINVAL,
			       "--prefix '%.60s': want a DNS-1123 label of at most 40 bytes",
			       o->prefix);
	return 0;
}

static int check_mode(const struct load_options *o, struct err *err)
{
	if ((o->mode == MODE_GET) && !o->population)
		return err_set(err, -EINVAL, "--mode get needs a --population of at least 1");
	if (!o->closed && o->rate <= 0)
		return err_set(err, -EINVAL, "--rate '0': want a number of operations per second");
	return 0;
}

static int check(struct load_options *o, struct err *err)
{
	static char run_dir[PATH_MAX], target[PATH_MAX + 32];
	const char *dir = raw.run_dir;
	int rc = read_mode(o, err);

	if (!rc)
		rc = fraction_parse("--rate", raw.rate, 1e7, &o->rate, err);
	if (!rc)
		rc = dist_parse("--hold", raw.hold, &o->hold, err);
	if (!rc)
		rc = read_prefix(o, err);
	if (!rc)
		rc = check_mode(o, err);
	if (!rc && !o->target)
		rc = instance_run_dir(&dir, raw.instance, run_dir, sizeof(run_dir), err);
	if (rc)
		return rc;
	if (!o->target) {
		snprintf(target, sizeof(target), "unix:%s/fastpath.sock", dir);
		o->target = target;
	}
	o->duration_ns = (uint64_t)raw.duration_ms * NS_PER_MS;
	o->warmup_ns = (uint64_t)raw.warmup_ms * NS_PER_MS;
	o->timeout_ns = (uint64_t)raw.timeout_ms * NS_PER_MS;
	return 0;
}

static const struct opt opts[] = {
	{"target", 0, OPT_STRING, "ADDRESS",
	 "unix:PATH or HOST:PORT (default: fastpath.sock of the run directory)", NULL,
	 .string = &given.target},
	{"instance", 0, OPT_STRING, "NAME", "instance; names the run directory", "default",
	 .string = &raw.instance},
	{"run-dir", 0, OPT_STRING, "DIR", "run directory (default: /run/fsb/INSTANCE)", NULL,
	 .string = &raw.run_dir},
	{"mode", 0, OPT_STRING, "MODE",
	 "create, fastpath (create over fastpath.v1), get, list, batch or echo", "create",
	 .string = &given.mode_text},
	{"rate", 0, OPT_STRING, "R", "operations per second, Poisson arrivals", "100",
	 .string = &raw.rate},
	{"closed", 0, OPT_INT, "K", "closed loop of K operations instead: for peak throughput only",
	 "0", .min = 0, .max = 100000, .number = &given.closed},
	{"duration-ms", 0, OPT_INT, "MS", "measured time", "10000", .min = 1, .max = 86400000,
	 .number = &raw.duration_ms},
	{"warmup-ms", 0, OPT_INT, "MS", "time before that, not measured", "2000", .min = 0,
	 .max = 3600000, .number = &raw.warmup_ms},
	{"connections", 0, OPT_INT, "N", "connections, used in turn", "8", .min = 1,
	 .max = CONNECTIONS_MAX, .number = &given.connections},
	{"in-flight-max", 0, OPT_INT, "N",
	 "unanswered at once; what is due beyond that is dropped, and counted", "4096", .min = 1,
	 .max = 1000000, .number = &given.in_flight_max},
	{"batch", 0, OPT_INT, "N", "members of a batch", "64", .min = 1, .max = 10000,
	 .number = &given.batch},
	{"population", 0, OPT_INT, "N", "sandboxes that are there throughout", "0", .min = 0,
	 .max = 1000000, .number = &given.population},
	{"hold", 0, OPT_STRING, "SPEC", "from a create's end to its delete: " DIST_SYNTAX, "0",
	 .string = &raw.hold},
	{"foreign-deletes", 0, OPT_FLAG, NULL,
	 "delete over the next connection, not over the one that created", NULL,
	 .flag = &given.foreign_deletes},
	{"strong", 0, OPT_FLAG, NULL, "create in STRONG mode", NULL, .flag = &given.strong},
	{"spec-bytes", 0, OPT_INT, "N", "pad the spec by so many bytes", "0", .min = 0,
	 .max = 60000, .number = &given.spec_bytes},
	{"image", 0, OPT_STRING, "IMAGE", "image of the sandboxes", "busybox:test",
	 .string = &given.image},
	{"pool", 0, OPT_STRING, "NAME", "pool", "default-pool", .string = &given.pool},
	{"namespace", 0, OPT_STRING, "NAME", "namespace", "default", .string = &given.namespace_},
	{"prefix", 0, OPT_STRING, "TEXT",
	 "of the sandboxes' names, and their label " LOAD_LABEL " (default: unique to the run)",
	 NULL, .string = &given.prefix},
	{"timeout-ms", 0, OPT_INT, "MS", "deadline of each request", "30000", .min = 1,
	 .max = 3600000, .number = &raw.timeout_ms},
	{"exclusive", 0, OPT_FLAG, NULL,
	 "nobody else uses the pool: its held slots must be as many afterwards", NULL,
	 .flag = &given.exclusive},
	{"seed", 0, OPT_INT, "N", "seed of all random choices", "1", .min = 0, .max = INT64_MAX,
	 .number = &given.seed},
	{"json", 0, OPT_STRING, "FILE", "write everything as JSON ('-': instead of the text)", NULL,
	 .string = &given.json_file},
	{0},
};

static const struct opt_program program = {
	.usage = "fsb-load [options] [-- COMMAND [ARG...]]",
	.summary = "Puts load on fsb-fastpath and measures it. Latency counts from the moment "
		   "that an operation\n"
		   "was scheduled for, however late it was sent or answered. At the end all "
		   "that was made is deleted.",
	.opts = opts,
	.epilog = "COMMAND is what the sandboxes run (default: sleep 3600); simulated agents "
		  "ignore it.\n"
		  "Exit status: 0 the books balance, 1 they do not (or the run failed), 2 "
		  "wrong usage.\n"
		  "  fsb-load --mode echo --rate 1000\n"
		  "  fsb-load --closed 64 --duration-ms 5000\n"
		  "  fsb-load --rate 500 --json result.json",
};

static int parse(struct load_options *ret, int argc, char **argv, struct err *err)
{
	static char sleep_cmd[] = "sleep", sleep_arg[] = "3600";
	static char *const sleeper[] = {sleep_cmd, sleep_arg};
	int npos = 0, rc = opt_parse(&program, argc, argv, &npos, err);

	given.command = npos ? argv + 1 : sleeper;
	given.command_count = npos ? npos : 2;
	if (!rc)
		rc = check(&given, err);
	*ret = given;
	return rc;
}

int main(int argc, char **argv)
{
	static struct load load;
	struct err err = ERR_INIT;
	int rc = parse(&load.o, argc, argv, &err);

	if (rc == OPT_EXIT)
		return 0;
	if (rc) {
		fprintf(stderr, "fsb-load: %s\n", err.msg);
		return EXIT_USAGE;
	}
	log_init("load");
	rc = run(&load, &err);
	if (rc)
		fprintf(stderr, "fsb-load: %s\n", err.msg);
	done(&load);
	return rc || !books_balanced(&load) ? EXIT_WRONG : EXIT_BALANCED;
}
