/* SPDX-License-Identifier: Apache-2.0 */
/* Flags of fsb-fastpath: the table that parsing and --help share, defaults that depend on others,
 * and checks. */
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/instance.h"
#include "base/str.h"

/* As given; the program has one command line. */
static struct raw {
	const char *instance, *run_dir, *arena, *unix_path, *mode;
	int64_t workers, drain_timeout;
	struct opt_list listen;
	bool insecure, unix_set;
} raw;

static const struct opt opts[] = {
	{.name = "instance",
	 .kind = OPT_STRING,
	 .arg = "NAME",
	 .def = "default",
	 .help = "name of this installation on the host",
	 .string = &raw.instance},
	{.name = "run-dir",
	 .kind = OPT_STRING,
	 .arg = "DIR",
	 .help = "run directory (default: /run/fsb/INSTANCE)",
	 .string = &raw.run_dir},
	{.name = "arena",
	 .kind = OPT_STRING,
	 .arg = "FILE",
	 .help = "shared-memory arena (default: /dev/shm/fsb-INSTANCE)",
	 .string = &raw.arena},
	{.name = "workers",
	 .kind = OPT_INT,
	 .arg = "N",
	 .def = "2",
	 .min = 1,
	 .max = FP_WORKERS_MAX,
	 .help = "worker processes",
	 .number = &raw.workers},
	{.name = "listen",
	 .kind = OPT_LIST,
	 .arg = "HOST:PORT",
	 .help = "TCP address, repeatable; port 0: any; \"\": none (default: "
		 "127.0.0.1:9090)",
	 .list = &raw.listen},
	{.name = "unix",
	 .kind = OPT_STRING,
	 .arg = "PATH",
	 .help = "unix socket; \"\": none (default: fastpath.sock in the run directory)",
	 .string = &raw.unix_path,
	 .ret_set = &raw.unix_set},
	{.name = "fastpath-consistency-mode",
	 .kind = OPT_STRING,
	 .arg = "fast|strong",
	 .def = "fast",
	 .help = "mode of creates that do not ask for one",
	 .string = &raw.mode},
	{.name = "drain-timeout",
	 .kind = OPT_INT,
	 .arg = "SECONDS",
	 .def = "30",
	 .min = 0,
	 .max = 3600,
	 .help = "how long calls in flight may take after SIGTERM",
	 .number = &raw.drain_timeout},
	{.name = "insecure",
	 .kind = OPT_FLAG,
	 .help = "allow --listen on other addresses than loopback, without TLS",
	 .flag = &raw.insecure},
	{0},
};

static const struct opt_program prog = {
	.usage = "fsb-fastpath [options]",
	.summary =
		"Serves fastpath.v1, fsb.v1 and grpc.health.v1 over the shared-memory registry: a\n"
		"master that accepts connections and worker processes that serve them.",
	.opts = opts,
	.epilog = "SIGTERM: calls in flight are finished, then it ends. The (first) TCP port is "
		  "written to\n"
		  "fastpath.port in the run directory.",
};

static int parse(int argc, char **argv, struct err *err)
{
	int npos = 0, rc = opt_parse(&prog, argc, argv, &npos, err);

	if (rc != OPT_OK || npos == 0)
		return rc;
	return err_set(err, -EINVAL, "unexpected argument '%s': fsb-fastpath takes options only",
		       argv[1]);
}

static int put_path(char *to, size_t size, const char *what, const char *given, const char *dir,
		    const char *name, struct err *err)
{
	int n = given ? snprintf(to, size, "%s", given) : snprintf(to, size, "%s%s", dir, name);

	if (n >= 0 && (size_t)n < size)
		return 0;
	return err_set(err, -EINVAL, "%s is too long: at most %zu bytes are taken", what, size - 1);
}

static int paths(struct fp_options *o, struct err *err)
{
	int rc = put_path(o->run_dir, sizeof(o->run_dir), "--run-dir", raw.run_dir,
			  INSTANCE_RUN_DIR, raw.instance, err);

	if (!rc)
		rc = put_path(o->arena, sizeof(o->arena), "--arena", raw.arena, INSTANCE_ARENA,
			      raw.instance, err);
	if (!rc)
		rc = put_path(o->unix_path, sizeof(o->unix_path), "--unix",
			      raw.unix_set ? raw.unix_path : NULL, o->run_dir, "/fastpath.sock",
			      err);
	if (!rc)
		rc = put_path(o->port_file, sizeof(o->port_file), "--run-dir", NULL, o->run_dir,
			      "/fastpath.port", err);
	return rc;
}

static int listeners(struct fp_options *o, struct err *err)
{
	if (raw.listen.count > FP_LISTEN_MAX)
		return err_set(err, -EINVAL, "--listen is given %d times: at most %d are taken",
			       raw.listen.count, FP_LISTEN_MAX);
	if (raw.listen.count == 0)
		o->listen[o->listen_count++] = "127.0.0.1:9090";
	for (int i = 0; i < raw.listen.count; i++) {
		if (*raw.listen.items[i])
			o->listen[o->listen_count++] = raw.listen.items[i];
	}
	if (o->listen_count == 0 && !*o->unix_path)
		return err_set(err, -EINVAL,
			       "--listen and --unix are both empty: nothing to serve on");
	return 0;
}

static int fill(struct fp_options *ret, struct err *err)
{
	int rc;

	*ret = (struct fp_options){
		.instance = raw.instance,
		.workers = (int)raw.workers,
		.drain_timeout_s = (int)raw.drain_timeout,
		.default_strong = !strcmp(raw.mode, "strong"),
		.insecure = raw.insecure,
	};
	if (!str_is_dns1123_label(raw.instance))
		return err_set(
			err, -EINVAL,
			"--instance '%s': must be lower-case letters, digits and '-', at most "
			"63",
			raw.instance);
	if (!ret->default_strong && strcmp(raw.mode, "fast"))
		return err_set(err, -EINVAL,
			       "--fastpath-consistency-mode '%s': must be fast or strong",
			       raw.mode);
	rc = paths(ret, err);
	return rc ? rc : listeners(ret, err);
}

int fp_options_parse(int argc, char **argv, struct fp_options *ret, struct err *err)
{
	int rc = parse(argc, argv, err);

	if (rc == OPT_OK)
		rc = fill(ret, err);
	free(raw.listen.items);
	return rc;
}
