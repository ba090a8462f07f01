/* SPDX-License-Identifier: Apache-2.0 */
/* The config search and its precedence. Writes nothing: with -v the caller says on stderr which
 * file was used. */
#include "config.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int set_text(char *buf, size_t size, const char *what, const char *value, struct err *err)
{
	if (strlen(value) >= size)
		return err_set(err, -EBADMSG, "%s is longer than %zu bytes", what, size - 1);
	(void)snprintf(buf, size, "%s", value);
	return 0;
}

static int set_from_json(const json_t *root, const char *key, char *buf, size_t size, bool *ret_set,
			 struct err *err)
{
	const json_t *value = json_object_get(root, key);

	if (!value)
		return 0;
	if (!json_is_string(value))
		return err_set(err, -EBADMSG, "\"%s\" must be a string", key);
	if (ret_set)
		*ret_set = true;
	return set_text(buf, size, key, json_string_value(value), err);
}

static int read_file(const char *path, struct config *config, struct err *err)
{
	json_error_t where;
	json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
	int rc;

	if (!root)
		return err_set(err, -EBADMSG, "config file '%s': line %d: %s", path, where.line,
			       where.text);
	if (!json_is_object(root)) {
		json_decref(root);
		return err_set(err, -EBADMSG, "config file '%s': must be a JSON object", path);
	}
	rc = set_from_json(root, "endpoint", config->endpoint, sizeof(config->endpoint), NULL, err);
	if (!rc)
		rc = set_from_json(root, "namespace", config->ns, sizeof(config->ns),
				   &config->ns_set, err);
	json_decref(root);
	if (rc)
		return err_wrap(err, "config file '%s'", path);
	(void)snprintf(config->source, sizeof(config->source), "%s", path);
	return 0;
}

/* -ENOENT without a message when there is none. */
static int find_file(char *buf, size_t size)
{
	const char *home = getenv("HOME");

	(void)snprintf(buf, size, "./.fsb/config.json");
	if (!access(buf, F_OK))
		return 0;
	if (!home || !*home)
		return -ENOENT;
	if (snprintf(buf, size, "%s/.fsb/config.json", home) >= (int)size)
		return -ENOENT;
	return access(buf, F_OK) ? -ENOENT : 0;
}

static const char *environment(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

static const char *default_endpoint(void)
{
	struct stat st;

	if (!stat(CONFIG_DEFAULT_SOCKET, &st) && S_ISSOCK(st.st_mode))
		return "unix:" CONFIG_DEFAULT_SOCKET;
	return CONFIG_DEFAULT_TCP;
}

static int apply(const char *flag, const char *env, const char *what, char *buf, size_t size,
		 bool *ret_set, struct err *err)
{
	const char *value = flag ? flag : environment(env);

	if (!value)
		return 0;
	if (ret_set)
		*ret_set = true;
	return set_text(buf, size, what, value, err);
}

int config_load(const struct config_flags *flags, struct config *ret, struct err *err)
{
	struct config config = {.ns = "default"};
	char path[sizeof(config.source)];
	int rc = 0;

	if (flags->config) {
		if (access(flags->config, R_OK))
			return err_set(err, -ENOENT, "--config: cannot read '%s': %s",
				       flags->config, strerror(errno));
		rc = read_file(flags->config, &config, err);
	} else if (!find_file(path, sizeof(path))) {
		rc = read_file(path, &config, err);
	}
	if (!rc)
		rc = apply(flags->endpoint, "ENDPOINT", "--endpoint", config.endpoint,
			   sizeof(config.endpoint), NULL, err);
	if (!rc)
		rc = apply(flags->ns, "NAMESPACE", "--namespace", config.ns, sizeof(config.ns),
			   &config.ns_set, err);
	if (rc)
		return rc;
	if (!config.endpoint[0])
		(void)snprintf(config.endpoint, sizeof(config.endpoint), "%s", default_endpoint());
	*ret = config;
	return 0;
}
