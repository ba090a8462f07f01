/* SPDX-License-Identifier: Apache-2.0 */
/* Validation of single fields (see check.h). Holds no state; what is right is said here and nowhere
 * else. */
#include "check.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"

typedef char quoted[FP_QUOTED_MAX + 8];

enum { ARGV_MAX = 4096, ENVS_MAX = 4096, LABELS_MAX = 256 };

int fp_check_name(const char *what, const char *name, struct fp_fail *fail)
{
	quoted q;

	if (str_is_dns1123_subdomain(name))
		return G_OK;
	if (!*name)
		return fp_fail(fail, G_INVALID_ARGUMENT, "%s is empty: give the sandbox's name",
			       what);
	return fp_fail(
		fail, G_INVALID_ARGUMENT,
		"invalid %s '%s' (%zu bytes): must be a DNS-1123 subdomain: lower-case letters, "
		"digits, '-' and '.', alphanumeric at both ends of each part of at most 63 bytes, "
		"at most %d bytes in all",
		what, fp_quote(name, q), strlen(name), REG_NAME_MAX);
}

int fp_check_namespace(const char *ns, struct fp_fail *fail)
{
	quoted q;

	if (str_is_dns1123_label(ns))
		return G_OK;
	return fp_fail(
		fail, G_INVALID_ARGUMENT,
		"invalid namespace '%s': must be a DNS-1123 label: at most %d lower-case letters, "
		"digits and '-', alphanumeric at both ends",
		fp_quote(ns, q), REG_NAMESPACE_MAX);
}

int fp_check_pool(const char *pool, struct fp_fail *fail)
{
	quoted q;

	if (str_is_dns1123_subdomain(pool))
		return G_OK;
	return fp_fail(fail, G_INVALID_ARGUMENT,
		       "invalid pool '%s': must be a DNS-1123 subdomain of at most %d bytes",
		       fp_quote(pool, q), REG_NAME_MAX);
}

int fp_check_image(const char *image, char *ret, struct fp_fail *fail)
{
	quoted q;

	if (!*image)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "image is empty: give a reference such as 'busybox' or "
			       "'registry.example.com/team/app:1.2'");
	switch (str_image_canonical(image, ret, REG_IMAGE_MAX + 1)) {
	case 0:
		return G_OK;
	case -ENAMETOOLONG:
		return fp_fail(
			fail, G_INVALID_ARGUMENT,
			"image '%s' is too long: its full reference must be at most %d bytes",
			fp_quote(image, q), REG_IMAGE_MAX);
	default:
		return fp_fail(
			fail, G_INVALID_ARGUMENT,
			"invalid image '%s': must be [host[:port]/]path[:tag][@digest] with a "
			"lower-case path",
			fp_quote(image, q));
	}
}

int fp_check_ports(const int32_t *ports, size_t n, uint16_t *ret, struct fp_fail *fail)
{
	if (n > REG_PORTS_MAX)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "%zu exposed ports: a sandbox can have at most %d", n,
			       REG_PORTS_MAX);
	for (size_t i = 0; i < n; i++) {
		if (ports[i] < 1 || ports[i] > 65535)
			return fp_fail(fail, G_INVALID_ARGUMENT,
				       "invalid port %" PRId32 ": must be between 1 and 65535",
				       ports[i]);
		for (size_t j = 0; j < i; j++) {
			if (ports[j] == ports[i])
				return fp_fail(
					fail, G_INVALID_ARGUMENT,
					"port %" PRId32
					" is given twice: each exposed port must be named once",
					ports[i]);
		}
		ret[i] = (uint16_t)ports[i];
	}
	return G_OK;
}

int fp_check_argv(const char *what, char *const *argv, size_t n, struct fp_fail *fail)
{
	if (n > ARGV_MAX)
		return fp_fail(fail, G_INVALID_ARGUMENT, "%s has %zu words: at most %d are taken",
			       what, n, ARGV_MAX);
	/* Arguments may be empty; what is to be executed may not. */
	if (n > 0 && !strcmp(what, "command") && !*argv[0])
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "command[0] is empty: it must name a program in the image");
	return G_OK;
}

int fp_check_envs(const struct fp_map *envs, struct fp_fail *fail)
{
	quoted q;

	if (envs->n > ENVS_MAX)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "%zu environment variables: at most %d are taken", envs->n,
			       ENVS_MAX);
	for (size_t i = 0; i < envs->n; i++) {
		const char *key = envs->entries[i]->key;

		if (!*key)
			return fp_fail(
				fail, G_INVALID_ARGUMENT,
				"an environment variable has an empty name (its value is '%s')",
				fp_quote(envs->entries[i]->value, q));
		if (strchr(key, '='))
			return fp_fail(
				fail, G_INVALID_ARGUMENT,
				"invalid environment variable name '%s': must not contain '='",
				fp_quote(key, q));
	}
	return G_OK;
}

static int check_quantity(const char *name, const char *text, struct fp_fail *fail)
{
	quoted q;
	int64_t milli;

	if (str_to_quantity_milli(text, &milli))
		return fp_fail(
			fail, G_INVALID_ARGUMENT,
			"invalid quantity '%s' of resource %s: must be a Kubernetes quantity such "
			"as '500m', '2', '256Mi'",
			fp_quote(text, q), name);
	if (milli <= 0)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "quantity '%s' of resource %s: must be greater than 0",
			       fp_quote(text, q), name);
	if (strcmp(name, "cpu") && milli % 1000)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "quantity '%s' of resource %s: must be a whole number",
			       fp_quote(text, q), name);
	return G_OK;
}

int fp_check_resources(const struct fp_map *resources, struct fp_fail *fail)
{
	quoted q;

	for (size_t i = 0; i < resources->n; i++) {
		const char *name = resources->entries[i]->key;
		int status;

		if (strcmp(name, "cpu") && strcmp(name, "memory") && strcmp(name, "pids"))
			return fp_fail(fail, G_INVALID_ARGUMENT,
				       "unknown resource '%s': known are cpu, memory and pids",
				       fp_quote(name, q));
		status = check_quantity(name, resources->entries[i]->value, fail);
		if (status)
			return status;
	}
	return G_OK;
}

int fp_check_labels(const struct fp_map *labels, struct fp_fail *fail)
{
	quoted k, v;

	if (labels->n > LABELS_MAX)
		return fp_fail(fail, G_INVALID_ARGUMENT, "%zu labels: at most %d are taken",
			       labels->n, LABELS_MAX);
	for (size_t i = 0; i < labels->n; i++) {
		const struct fp_entry *e = labels->entries[i];

		if (!str_is_label_key(e->key))
			return fp_fail(
				fail, G_INVALID_ARGUMENT,
				"invalid label key '%s': must be [prefix/]name, the name of 1 to "
				"63 of [A-Za-z0-9._-], alphanumeric at both ends",
				fp_quote(e->key, k));
		if (!str_is_label_value(e->value))
			return fp_fail(
				fail, G_INVALID_ARGUMENT,
				"invalid value '%s' of label '%s': must be empty or at most 63 of "
				"[A-Za-z0-9._-], alphanumeric at both ends",
				fp_quote(e->value, v), fp_quote(e->key, k));
	}
	return G_OK;
}

int fp_check_working_dir(const char *dir, struct fp_fail *fail)
{
	quoted q;

	if (!*dir || (*dir == '/' && strlen(dir) < 4096))
		return G_OK;
	if (*dir == '/')
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "working_dir '%s' has %zu bytes: at most 4095 are taken",
			       fp_quote(dir, q), strlen(dir));
	return fp_fail(
		fail, G_INVALID_ARGUMENT,
		"invalid working_dir '%s': must be an absolute path in the sandbox, or empty for "
		"the image's",
		fp_quote(dir, q));
}

int fp_check_network(const char *network, struct fp_fail *fail)
{
	quoted q;

	if (!*network || !strcmp(network, "none") || !strcmp(network, "shared"))
		return G_OK;
	return fp_fail(
		fail, G_INVALID_ARGUMENT,
		"unknown network '%s': must be 'none', 'shared', or empty for the agent's default",
		fp_quote(network, q));
}

int fp_check_expire(int64_t expire_unix_s, int64_t now_unix_ns, struct fp_fail *fail)
{
	/* Beyond the year 2262 seconds no longer fit into 64 bits as ns, which stores and readers
	 * use. */
	const int64_t latest = INT64_MAX / (int64_t)NS_PER_S;

	if (expire_unix_s < 0 || expire_unix_s > latest)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "expire_time_seconds %" PRId64
			       ": must be Unix seconds up to %" PRId64 ", or 0 for never",
			       expire_unix_s, latest);
	if (expire_unix_s > 0 && expire_unix_s <= now_unix_ns / (int64_t)NS_PER_S)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "expire_time_seconds %" PRId64 " is in the past: it is now %" PRId64,
			       expire_unix_s, now_unix_ns / (int64_t)NS_PER_S);
	return G_OK;
}

int fp_check_policy(int policy, struct fp_fail *fail)
{
	switch (policy) {
	case REG_MANUAL:
		return G_OK;
	case REG_AUTO_RECREATE:
		return fp_fail(fail, G_UNIMPLEMENTED,
			       "failure_policy AUTO_RECREATE is not available: " FP_NO_LIFECYCLE
			       "; use MANUAL");
	default:
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "unknown failure_policy %d: must be MANUAL (0) or AUTO_RECREATE (1)",
			       policy);
	}
}

int fp_check_recovery(int32_t seconds, struct fp_fail *fail)
{
	if (seconds >= 0)
		return G_OK;
	return fp_fail(fail, G_INVALID_ARGUMENT,
		       "recovery_timeout_seconds %" PRId32 ": must not be negative", seconds);
}

int fp_check_request_id(const char *request_id, size_t suffix_len, struct fp_fail *fail)
{
	size_t len = strlen(request_id);
	quoted q;

	if (len == 0 || len + suffix_len <= REG_REQUEST_ID_MAX)
		return G_OK;
	return fp_fail(fail, G_INVALID_ARGUMENT,
		       "request_id '%s' has %zu bytes: at most %zu are taken",
		       fp_quote(request_id, q), len, REG_REQUEST_ID_MAX - suffix_len);
}

int fp_check_spec(const Fsb__V1__SandboxSpec *spec, uint16_t *ret_ports, struct fp_fail *fail)
{
	struct fp_map envs = FP_MAP(spec, envs), resources = FP_MAP(spec, resources);
	int status;

	status = fp_check_ports(spec->exposed_ports, spec->n_exposed_ports, ret_ports, fail);
	if (!status)
		status = fp_check_argv("command", spec->command, spec->n_command, fail);
	if (!status)
		status = fp_check_argv("args", spec->args, spec->n_args, fail);
	if (!status)
		status = fp_check_envs(&envs, fail);
	if (!status)
		status = fp_check_resources(&resources, fail);
	if (!status)
		status = fp_check_working_dir(spec->working_dir, fail);
	if (!status)
		status = fp_check_network(spec->network, fail);
	return status;
}
