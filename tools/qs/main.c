/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsb-quickstart: what tools/quickstart runs against the stack that it has started. "run" drives it
 * and prints the table; "leaks" counts what is left of an instance. Both keep the figures in the
 * --json file.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/opt.h"
#include "drive.h"
#include "leaks.h"

static struct {
	const char *endpoint, *instance, *run_dir, *image, *json;
	int64_t connections, agents, sandboxes;
	bool stopped;
} flags;

static const struct opt opts[] = {
	{.name = "endpoint",
	 .kind = OPT_STRING,
	 .arg = "ADDRESS",
	 .help = "of the fast path",
	 .string = &flags.endpoint},
	{.name = "instance",
	 .kind = OPT_STRING,
	 .arg = "NAME",
	 .help = "whose remains are counted",
	 .def = "default",
	 .string = &flags.instance},
	{.name = "run-dir",
	 .kind = OPT_STRING,
	 .arg = "DIR",
	 .help = "its run directory",
	 .string = &flags.run_dir},
	{.name = "image",
	 .kind = OPT_STRING,
	 .arg = "REF",
	 .help = "image of the sandboxes",
	 .def = "busybox",
	 .string = &flags.image},
	{.name = "json",
	 .kind = OPT_STRING,
	 .arg = "FILE",
	 .help = "run: write the figures; leaks: add to them",
	 .string = &flags.json},
	{.name = "connections",
	 .kind = OPT_INT,
	 .arg = "N",
	 .help = "one for each worker",
	 .def = "2",
	 .min = 1,
	 .max = MAX_CONNECTIONS,
	 .number = &flags.connections},
	{.name = "agents",
	 .kind = OPT_INT,
	 .arg = "N",
	 .help = "how many there are",
	 .def = "4",
	 .min = 1,
	 .max = 100000,
	 .number = &flags.agents},
	{.name = "sandboxes",
	 .kind = OPT_INT,
	 .arg = "N",
	 .help = "size of the batch",
	 .def = "100",
	 .min = 1,
	 .max = 100000,
	 .number = &flags.sandboxes},
	{.name = "stopped",
	 .kind = OPT_FLAG,
	 .help = "leaks: the whole stack is down",
	 .flag = &flags.stopped},
	{.name = NULL},
};

/* ---- the table ---- */

static double us(uint64_t ns)
{
	return (double)ns / 1e3;
}

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static void latency_row(const char *what, struct sample *s)
{
	printf("  %-34s %6zu %10.2f %10.2f %10.2f %10.2f\n", what, s->n,
	       ms(sample_percentile(s, 50)), ms(sample_percentile(s, 90)),
	       ms(sample_percentile(s, 99)), ms(sample_percentile(s, 100)));
}

static void tally_rows(const struct tally *tally)
{
	for (int i = 0; i < tally->n; i++)
		printf("  %-34s %6d\n", tally->names[i], tally->counts[i]);
}

static void print_table(struct drive *d)
{
	printf("\nlatency, ms                             count        p50        p90        p99   "
	       "     max\n");
	latency_row("create, one by one (request-reply)", &d->single_create);
	latency_row("  of it reserve", &d->single_reserve);
	latency_row("  of it start (command-exec)", &d->single_start);
	latency_row("create in the batch (request-reply)", &d->batch_reply);
	latency_row("  of it start (command-exec)", &d->batch_start);
	printf("  store lag: p50 %.2f, p99 %.2f, max %.2f\n", ms(d->lag_p50_ns), ms(d->lag_p99_ns),
	       ms(d->lag_max_ns));
	printf("\nallocations\n");
	tally_rows(&d->workers);
	tally_rows(&d->agents);
	printf("\n%d sandboxes: %d started, %d succeeded; all running after %.1f ms\n",
	       d->sandboxes, d->started, d->succeeded, ms(d->batch_wall_ns));
}

/* ---- JSON ---- */

static double rounded(double value)
{
	return (double)(int64_t)(value * 1000.0 + 0.5) / 1000.0;
}

static int write_json(const char *path, json_t *object, struct err *err)
{
	int rc = 0;

	if (json_dump_file(object, path, JSON_INDENT(2) | JSON_REAL_PRECISION(9)))
		rc = err_set(err, -EIO, "cannot write '%s'", path);
	json_decref(object);
	return rc;
}

static int write_figures(struct drive *d, int leaked, struct err *err)
{
	json_t *object =
		json_pack("{s:i,s:i,s:i,s:f,s:f,s:f,s:f,s:f,s:i,s:i,s:i}", "sandboxes",
			  d->sandboxes, "started", d->started, "succeeded", d->succeeded,
			  "create_p50_us", rounded(us(sample_percentile(&d->single_create, 50))),
			  "create_p99_us", rounded(us(sample_percentile(&d->single_create, 99))),
			  "batch_wall_ms", rounded(ms(d->batch_wall_ns)), "start_p50_us",
			  rounded(us(sample_percentile(&d->single_start, 50))), "store_lag_ms",
			  rounded(ms(d->lag_max_ns)), "workers_used", d->workers.n, "agents_used",
			  d->agents.n, "leaked", leaked);

	return flags.json ? write_json(flags.json, object, err) : (json_decref(object), 0);
}

static int add_leaks(int leaked, struct err *err)
{
	json_error_t where;
	json_t *object;

	if (!flags.json)
		return 0;
	object = json_load_file(flags.json, 0, &where);
	if (!object)
		return err_set(err, -EIO, "cannot read '%s': %s", flags.json, where.text);
	leaked += (int)json_integer_value(json_object_get(object, "leaked"));
	json_object_set_new(object, "leaked", json_integer(leaked));
	return write_json(flags.json, object, err);
}

/* ---- the two commands ---- */

static int leaks(struct err *err)
{
	struct leaks found;
	int total;
	int rc;

	leaks_count(flags.instance, flags.run_dir, flags.stopped, &found);
	total = leaks_total(&found);
	printf("left %s: %d processes, %d mounts, %d cgroups, %d files\n",
	       flags.stopped ? "after the stop" : "after the deletes", found.processes,
	       found.mounts, found.cgroups, found.files);
	rc = flags.stopped ? add_leaks(total, err) : 0;
	if (rc)
		return rc;
	return total ? 1 : 0;
}

static int drive_steps(struct drive *d, struct err *err)
{
	int rc = drive_connect(d, err);

	if (!rc)
		rc = drive_batch(d, err);
	if (!rc)
		rc = drive_wait(d, 0, d->sandboxes, err);
	if (!rc)
		rc = drive_logs(d, err);
	if (!rc)
		rc = drive_singles(d, err);
	if (!rc)
		rc = drive_store(d, err);
	return rc;
}

static void check_spread(struct drive *d)
{
	/* One connection per worker, and more sandboxes than one agent takes: both must be shared.
	 */
	if (d->connections > 1 && d->workers.n < 2) {
		(void)fprintf(stderr, "FAIL: only %d worker was used\n", d->workers.n);
		d->failures++;
	}
	if (flags.agents > 1 && d->agents.n < 2) {
		(void)fprintf(stderr, "FAIL: only %d agent was used\n", d->agents.n);
		d->failures++;
	}
}

static int run(struct err *err)
{
	struct drive d = {.endpoint = flags.endpoint,
			  .image = flags.image,
			  .connections = (int)flags.connections,
			  .sandboxes = (int)flags.sandboxes};
	struct leaks found = {0};
	int rc = drive_open(&d, err);
	int rc_delete = 0;

	if (!rc) {
		rc = drive_steps(&d, err);
		/* Whatever happened: nothing may stay. */
		rc_delete = drive_delete(&d, rc ? NULL : err);
	}
	if (!rc && !rc_delete) {
		check_spread(&d);
		print_table(&d);
		leaks_count(flags.instance, flags.run_dir, false, &found);
		printf("left after the deletes: %d processes, %d mounts, %d cgroups, %d files\n",
		       found.processes, found.mounts, found.cgroups, found.files);
		rc = write_figures(&d, leaks_total(&found), err);
	}
	if (!rc)
		rc = rc_delete;
	if (!rc && d.failures)
		rc = err_set(err, -EIO, "%d checks failed", d.failures);
	if (!rc && leaks_total(&found))
		rc = err_set(err, -EIO, "%d things are left behind", leaks_total(&found));
	drive_close(&d);
	return rc;
}

static const struct opt_program program = {
	.usage = "fsb-quickstart [options] run | leaks",
	.summary = "Drives a stack with a batch of sandboxes and checks everything about them.",
	.opts = opts,
};

static int dispatch(int npos, char **pos, struct err *err)
{
	bool is_run = npos == 1 && !strcmp(pos[0], "run");

	if (!is_run && (npos != 1 || strcmp(pos[0], "leaks")))
		return err_set(err, -EINVAL, "say run or leaks; see fsb-quickstart --help");
	if (!flags.run_dir || (is_run && !flags.endpoint))
		return err_set(err, -EINVAL, "--run-dir%s must be given",
			       is_run ? " and --endpoint" : "");
	return is_run ? run(err) : leaks(err);
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	int npos = 0;
	int rc;

	log_init("quickstart");
	rc = opt_parse(&program, argc, argv, &npos, &err);
	if (rc == OPT_OK)
		rc = dispatch(npos, argv + 1, &err);
	else if (rc == OPT_EXIT)
		return 0;
	if (rc < 0)
		(void)fprintf(stderr, "fsb-quickstart: %s\n", err.msg);
	if (rc == -EINVAL)
		return 2;
	return rc ? 1 : 0;
}
