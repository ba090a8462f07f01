/* SPDX-License-Identifier: Apache-2.0 */
/* See merge.h. The rules for entrypoint, cmd, env, workdir and user are those of container
 * runtimes. */
#include "merge.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

enum { PORTS_MAX = 32, PIDS_MAX = 4194304, MEMORY_MIN_MIB = 1 };
#define PATH_DEFAULT "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

typedef Fsb__V1__SandboxSpec Spec;
typedef Fsb__Launcher__V1__Start Start;

/* The generated structs have no const; the launcher's request only reads. */
static char *unconst(const char *text)
{
	union {
		const char *in;
		char *out;
	} u = {.in = text};

	return u.out;
}

/* ---- checks ---- */

static int check_ports(const Spec *spec, struct err *err)
{
	if (spec->n_exposed_ports > PORTS_MAX)
		return err_set(err, -EINVAL, "%zu exposed ports; at most %d are possible",
			       spec->n_exposed_ports, PORTS_MAX);
	for (size_t i = 0; i < spec->n_exposed_ports; i++) {
		int32_t port = spec->exposed_ports[i];

		if (port < 1 || port > 65535)
			return err_set(err, -EINVAL, "exposed port %d is not within 1..65535",
				       port);
		for (size_t k = 0; k < i; k++) {
			if (spec->exposed_ports[k] == port)
				return err_set(err, -EINVAL, "exposed port %d is given twice",
					       port);
		}
	}
	return 0;
}

static int read_memory(const char *text, int64_t *ret, struct err *err)
{
	int64_t milli;

	if (str_to_quantity_milli(text, &milli) || milli / 1000 < (int64_t)MEMORY_MIN_MIB << 20)
		return err_set(
			err, -EINVAL,
			"resource memory '%.64s' is not a quantity of at least %dMi, e.g. 256Mi",
			text, MEMORY_MIN_MIB);
	*ret = milli / 1000;
	return 0;
}

static int read_cpu(const char *text, int64_t *ret, struct err *err)
{
	int64_t milli;

	if (str_to_quantity_milli(text, &milli) || milli < 10 || milli > 1024 * 1000)
		return err_set(err, -EINVAL,
			       "resource cpu '%.64s' is not a quantity within 10m..1024, e.g. 500m",
			       text);
	*ret = milli;
	return 0;
}

static int read_pids(const char *text, int64_t *ret, struct err *err)
{
	if (str_to_i64(text, 1, PIDS_MAX, ret))
		return err_set(err, -EINVAL, "resource pids '%.64s' is not a number within 1..%d",
			       text, PIDS_MAX);
	return 0;
}

static int read_resources(const Spec *spec, Start *start, struct err *err)
{
	for (size_t i = 0; i < spec->n_resources; i++) {
		const char *key = spec->resources[i]->key, *value = spec->resources[i]->value;
		int rc;

		if (!strcmp(key, "memory"))
			rc = read_memory(value, &start->memory_bytes, err);
		else if (!strcmp(key, "cpu"))
			rc = read_cpu(value, &start->cpu_milli, err);
		else if (!strcmp(key, "pids"))
			rc = read_pids(value, &start->pids, err);
		else
			rc = err_set(err, -EINVAL,
				     "resource '%.64s' is not known: cpu, memory and pids are",
				     key);
		if (rc)
			return rc;
	}
	return 0;
}

static int check_envs(const Spec *spec, struct err *err)
{
	for (size_t i = 0; i < spec->n_envs; i++) {
		const char *key = spec->envs[i]->key;

		if (!*key || strchr(key, '='))
			return err_set(err, -EINVAL,
				       "environment variable name '%.64s' is empty or holds '='",
				       key);
	}
	return 0;
}

int merge_check_spec(const Spec *spec, struct err *err)
{
	Start limits = FSB__LAUNCHER__V1__START__INIT;
	int rc = check_ports(spec, err);

	if (!rc)
		rc = check_envs(spec, err);
	if (!rc)
		rc = read_resources(spec, &limits, err);
	if (!rc && *spec->working_dir && *spec->working_dir != '/')
		rc = err_set(err, -EINVAL, "working directory '%.128s' is not absolute",
			     spec->working_dir);
	if (!rc && *spec->network && strcmp(spec->network, "none") &&
	    strcmp(spec->network, "shared"))
		rc = err_set(err, -EINVAL, "network '%.64s' is not known: none and shared are",
			     spec->network);
	if (!rc && spec->n_command && !*spec->command[0])
		rc = err_set(err, -EINVAL, "the command's first word is empty");
	return rc;
}

/* ---- merging ---- */

static void append(char **to, size_t *n, const struct strv *from)
{
	for (size_t i = 0; i < from->count; i++)
		to[(*n)++] = unconst(from->items[i]);
}

static int merge_argv(const Spec *spec, const struct image *image, Start *start, struct err *err)
{
	size_t n = 0;

	start->argv = calloc(spec->n_command + spec->n_args + image->entrypoint.count +
				     image->cmd.count + 1,
			     sizeof(*start->argv));
	if (!start->argv)
		return err_set(err, -ENOMEM, "out of memory");
	if (!spec->n_command)
		append(start->argv, &n, &image->entrypoint);
	for (size_t i = 0; i < spec->n_command; i++)
		start->argv[n++] = spec->command[i];
	for (size_t i = 0; i < spec->n_args; i++)
		start->argv[n++] = spec->args[i];
	if (!spec->n_command && !spec->n_args)
		append(start->argv, &n, &image->cmd);
	start->n_argv = n;
	if (!n || !*start->argv[0])
		return err_set(err, -EINVAL,
			       "no command: the request has none, and image '%.200s' has neither "
			       "entrypoint nor cmd",
			       image->ref);
	return 0;
}

static size_t name_len(const char *entry)
{
	return strcspn(entry, "=");
}

/* Adds NAME=value (takes it), or replaces the one of that name. */
static void env_put(Start *start, char *entry)
{
	size_t len = name_len(entry);

	for (size_t i = 0; i < start->n_env; i++) {
		if (name_len(start->env[i]) != len || strncmp(start->env[i], entry, len))
			continue;
		free(start->env[i]);
		start->env[i] = entry;
		return;
	}
	start->env[start->n_env++] = entry;
}

static int env_put_text(Start *start, const char *name, const char *value)
{
	char *entry;

	if (asprintf(&entry, "%s=%s", name, value) < 0)
		return -ENOMEM;
	env_put(start, entry);
	return 0;
}

static int env_put_copy(Start *start, const char *text)
{
	char *entry = strdup(text);

	if (!entry)
		return -ENOMEM;
	env_put(start, entry);
	return 0;
}

static int merge_env(const Spec *spec, const char *hostname, const struct image *image,
		     Start *start, struct err *err)
{
	int rc;

	start->env = calloc(image->env.count + spec->n_envs + 3, sizeof(*start->env));
	rc = start->env ? env_put_copy(start, PATH_DEFAULT) : -ENOMEM;
	if (!rc)
		rc = env_put_text(start, "HOSTNAME", hostname);
	for (size_t i = 0; !rc && i < image->env.count; i++)
		rc = env_put_copy(start, image->env.items[i]);
	for (size_t i = 0; !rc && i < spec->n_envs; i++)
		rc = env_put_text(start, spec->envs[i]->key, spec->envs[i]->value);
	return rc ? err_set(err, rc, "out of memory") : 0;
}

static int merge_layers(const struct image *image, Start *start, struct err *err)
{
	size_t n = 0;

	start->layers = calloc(image->layers.count + 1, sizeof(*start->layers));
	if (!start->layers)
		return err_set(err, -ENOMEM, "out of memory");
	append(start->layers, &n, &image->layers);
	start->n_layers = n;
	return 0;
}

int merge_start(const Spec *spec, const char *hostname, const struct image *image,
		const struct merge_defaults *defaults, Start *start, struct err *err)
{
	const char *cwd = *spec->working_dir ? spec->working_dir : image->workdir;
	int rc = merge_check_spec(spec, err);

	if (rc)
		return rc;
	start->image = unconst(image->ref);
	start->cwd = unconst(*cwd == '/' ? cwd : "/");
	start->user = unconst(image->user);
	start->shared_network =
		*spec->network ? !strcmp(spec->network, "shared") : defaults->shared_network;
	start->disk_layer = defaults->disk_layer;
	start->memory_bytes = defaults->memory_bytes;
	start->cpu_milli = defaults->cpu_milli;
	start->pids = defaults->pids;
	rc = read_resources(spec, start, err);
	if (!rc)
		rc = merge_argv(spec, image, start, err);
	if (!rc)
		rc = merge_env(spec, hostname, image, start, err);
	if (!rc)
		rc = merge_layers(image, start, err);
	if (rc)
		merge_done(start);
	return rc;
}

void merge_done(Start *start)
{
	for (size_t i = 0; i < start->n_env; i++)
		free(start->env[i]);
	free(start->env);
	free(start->argv);
	free(start->layers);
	start->env = start->argv = start->layers = NULL;
	start->n_env = start->n_argv = start->n_layers = 0;
}
