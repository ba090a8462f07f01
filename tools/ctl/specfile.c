/* SPDX-License-Identifier: Apache-2.0 */
/* The YAML sandbox file, read strictly: unknown or repeated keys and wrong types are errors that
 * name their line. */
#include "specfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "text.h"

enum { MAX_FILE_BYTES = 1 << 20 };

struct reader {
	const char *name;
	yaml_document_t *doc;
	struct mem *mem;
	struct err *err;
};

static int fail(const struct reader *r, const yaml_node_t *node, const char *what)
{
	return err_set(r->err, -EINVAL, "%s:%zu: %s", r->name, node->start_mark.line + 1, what);
}

static const char *text_of(const yaml_node_t *node)
{
	return (const char *)node->data.scalar.value;
}

/* An empty value is a null, as in "args:". */
static bool is_null(const yaml_node_t *node)
{
	if (node->type != YAML_SCALAR_NODE || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return false;
	return !*text_of(node) || !strcmp(text_of(node), "~") || !strcmp(text_of(node), "null");
}

static int read_string(const struct reader *r, const char *key, const yaml_node_t *node,
		       const char **ret)
{
	if (node->type != YAML_SCALAR_NODE)
		return fail(r, node, mem_printf(r->mem, "%s must be a string", key));
	if (strlen(text_of(node)) != node->data.scalar.length)
		return fail(r, node, mem_printf(r->mem, "%s holds a NUL", key));
	*ret = mem_strdup(r->mem, text_of(node));
	return 0;
}

static int read_list(const struct reader *r, const char *key, const yaml_node_t *node,
		     struct strv *ret)
{
	const yaml_node_item_t *item;

	if (node->type != YAML_SEQUENCE_NODE)
		return fail(r, node, mem_printf(r->mem, "%s must be a list", key));
	for (item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++) {
		const char *text = NULL;
		int rc = read_string(r, mem_printf(r->mem, "an item of %s", key),
				     yaml_document_get_node(r->doc, *item), &text);

		if (rc)
			return rc;
		strv_add(r->mem, ret, mem_strdup(r->mem, text));
	}
	return 0;
}

static int read_map(const struct reader *r, const char *key, const yaml_node_t *node,
		    struct kv *ret)
{
	const yaml_node_pair_t *pair;

	if (node->type != YAML_MAPPING_NODE)
		return fail(r, node, mem_printf(r->mem, "%s must be a map", key));
	for (pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
		const yaml_node_t *name_node = yaml_document_get_node(r->doc, pair->key);
		const char *name = NULL;
		const char *value = NULL;
		int rc = read_string(r, mem_printf(r->mem, "a key of %s", key), name_node, &name);

		if (!rc)
			rc = read_string(r, mem_printf(r->mem, "%s.%s", key, name),
					 yaml_document_get_node(r->doc, pair->value), &value);
		if (rc)
			return rc;
		if (kv_get(ret, name))
			return fail(r, name_node,
				    mem_printf(r->mem, "%s.%s is given twice", key, name));
		kv_set(r->mem, ret, mem_strdup(r->mem, name), mem_strdup(r->mem, value));
	}
	return 0;
}

/* ---- one function for each kind of key ---- */

struct key {
	const char *name;
	int (*read)(const struct reader *r, const struct key *key, const yaml_node_t *node,
		    struct run_spec *spec);
	size_t offset; /* of the member in struct run_spec */
};

static void *member(const struct key *key, struct run_spec *spec)
{
	return (char *)spec + key->offset;
}

static int key_string(const struct reader *r, const struct key *key, const yaml_node_t *node,
		      struct run_spec *spec)
{
	return read_string(r, key->name, node, member(key, spec));
}

static int key_list(const struct reader *r, const struct key *key, const yaml_node_t *node,
		    struct run_spec *spec)
{
	return read_list(r, key->name, node, member(key, spec));
}

static int key_map(const struct reader *r, const struct key *key, const yaml_node_t *node,
		   struct run_spec *spec)
{
	return read_map(r, key->name, node, member(key, spec));
}

static int key_ports(const struct reader *r, const struct key *key, const yaml_node_t *node,
		     struct run_spec *spec)
{
	struct strv words = {.n = 0};
	int rc = read_list(r, key->name, node, &words);

	for (size_t i = 0; !rc && i < words.n; i++) {
		int64_t port;

		if (str_to_i64(words.items[i], 1, 65535, &port))
			return fail(r, node,
				    mem_printf(r->mem,
					       "invalid port %s: must be between 1 and 65535",
					       words.items[i]));
		i32v_add(r->mem, member(key, spec), (int)port);
	}
	return rc;
}

/* Runs one of the text parsers and puts the line in front of what it says. */
static int at_line(const struct reader *r, const yaml_node_t *node, int rc)
{
	return rc ? err_wrap(r->err, "%s:%zu", r->name, node->start_mark.line + 1) : 0;
}

static int key_mode(const struct reader *r, const struct key *key, const yaml_node_t *node,
		    struct run_spec *spec)
{
	const char *text = NULL;
	int rc = read_string(r, key->name, node, &text);

	if (rc)
		return rc;
	spec->mode_set = true;
	return at_line(r, node, spec_parse_mode(key->name, text, &spec->strong, r->err));
}

static int key_policy(const struct reader *r, const struct key *key, const yaml_node_t *node,
		      struct run_spec *spec)
{
	const char *text = NULL;
	int rc = read_string(r, key->name, node, &text);

	if (rc)
		return rc;
	return at_line(r, node, spec_parse_policy(key->name, text, &spec->auto_recreate, r->err));
}

static int key_expire(const struct reader *r, const struct key *key, const yaml_node_t *node,
		      struct run_spec *spec)
{
	const char *text = NULL;
	int rc = read_string(r, key->name, node, &text);

	if (rc)
		return rc;
	return at_line(r, node, text_parse_time(key->name, text, &spec->expire_unix_s, r->err));
}

static int key_recovery(const struct reader *r, const struct key *key, const yaml_node_t *node,
			struct run_spec *spec)
{
	const char *text = NULL;
	int64_t seconds;
	int rc = read_string(r, key->name, node, &text);

	if (rc)
		return rc;
	if (str_to_i64(text, 0, INT32_MAX, &seconds))
		return fail(
			r, node,
			mem_printf(r->mem, "%s '%s' must be seconds, 0 or more", key->name, text));
	spec->recovery_timeout_s = (int32_t)seconds;
	return 0;
}

static const struct key keys[] = {
	{"image", key_string, offsetof(struct run_spec, image)},
	{"pool_ref", key_string, offsetof(struct run_spec, pool)},
	{"consistency_mode", key_mode, 0},
	{"command", key_list, offsetof(struct run_spec, command)},
	{"args", key_list, offsetof(struct run_spec, args)},
	{"exposed_ports", key_ports, offsetof(struct run_spec, ports)},
	{"envs", key_map, offsetof(struct run_spec, envs)},
	{"working_dir", key_string, offsetof(struct run_spec, working_dir)},
	{"resources", key_map, offsetof(struct run_spec, resources)},
	{"labels", key_map, offsetof(struct run_spec, labels)},
	{"expire", key_expire, 0},
	{"failure_policy", key_policy, 0},
	{"recovery_timeout_seconds", key_recovery, 0},
	{"request_id", key_string, offsetof(struct run_spec, request_id)},
	{"network", key_string, offsetof(struct run_spec, network)},
};

enum { N_KEYS = sizeof(keys) / sizeof(keys[0]) };

static int unknown_key(const struct reader *r, const yaml_node_t *node)
{
	char *known = mem_strdup(r->mem, keys[0].name);

	for (size_t i = 1; i < N_KEYS; i++)
		known = mem_printf(r->mem, "%s %s", known, keys[i].name);
	return fail(r, node,
		    mem_printf(r->mem, "unknown key '%.40s'; known: %s", text_of(node), known));
}

static int read_pair(const struct reader *r, const yaml_node_pair_t *pair, unsigned int *seen,
		     struct run_spec *spec)
{
	const yaml_node_t *key = yaml_document_get_node(r->doc, pair->key);
	const yaml_node_t *value = yaml_document_get_node(r->doc, pair->value);

	if (key->type != YAML_SCALAR_NODE)
		return fail(r, key, "keys must be words");
	for (size_t i = 0; i < N_KEYS; i++) {
		if (strcmp(keys[i].name, text_of(key)))
			continue;
		if (*seen & (1u << i))
			return fail(r, key, mem_printf(r->mem, "%s is given twice", keys[i].name));
		*seen |= 1u << i;
		return is_null(value) ? 0 : keys[i].read(r, &keys[i], value, spec);
	}
	return unknown_key(r, key);
}

static int read_document(const struct reader *r, struct run_spec *spec)
{
	const yaml_node_t *root = yaml_document_get_root_node(r->doc);
	const yaml_node_pair_t *pair;
	unsigned int seen = 0;

	if (!root)
		return err_set(r->err, -EINVAL, "%s: is empty; give at least image", r->name);
	if (root->type != YAML_MAPPING_NODE)
		return fail(r, root, "must be a map of keys");
	for (pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top; pair++) {
		int rc = read_pair(r, pair, &seen, spec);

		if (rc)
			return rc;
	}
	return 0;
}

int specfile_parse(const char *name, const char *text, size_t len, struct mem *mem,
		   struct run_spec *spec, struct err *err)
{
	yaml_parser_t parser;
	yaml_document_t doc;
	struct reader r = {.name = name, .doc = &doc, .mem = mem, .err = err};
	int rc;

	if (!yaml_parser_initialize(&parser))
		return err_set(err, -ENOMEM, "out of memory");
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	if (!yaml_parser_load(&parser, &doc)) {
		rc = err_set(err, -EINVAL, "%s:%zu: %s", name, parser.problem_mark.line + 1,
			     parser.problem ? parser.problem : "not YAML");
	} else {
		rc = read_document(&r, spec);
		yaml_document_delete(&doc);
	}
	yaml_parser_delete(&parser);
	return rc;
}

int specfile_load(const char *path, struct mem *mem, struct run_spec *spec, struct err *err)
{
	cleanup_free char *text = NULL;
	size_t len = 0;
	int rc = io_read_file(AT_FDCWD, path, MAX_FILE_BYTES, &text, &len);

	if (rc)
		return err_set(err, -EINVAL, "cannot read '%s': %s", path, strerror(-rc));
	return specfile_parse(path, text, len, mem, spec, err);
}

void spec_init(struct run_spec *spec)
{
	*spec = (struct run_spec){.image = "",
				  .pool = "default-pool",
				  .working_dir = "",
				  .network = "",
				  .request_id = ""};
}

int spec_parse_mode(const char *what, const char *text, bool *ret_strong, struct err *err)
{
	if (strcasecmp(text, "fast") && strcasecmp(text, "strong"))
		return err_set(err, -EINVAL, "%s '%s' must be fast or strong", what, text);
	*ret_strong = !strcasecmp(text, "strong");
	return 0;
}

int spec_parse_policy(const char *what, const char *text, bool *ret_auto, struct err *err)
{
	static const char *const automatic[] = {"autorecreate", "auto-recreate", "auto",
						"auto_recreate"};

	for (size_t i = 0; i < sizeof(automatic) / sizeof(automatic[0]); i++) {
		if (!strcasecmp(text, automatic[i])) {
			*ret_auto = true;
			return 0;
		}
	}
	if (strcasecmp(text, "manual"))
		return err_set(err, -EINVAL, "%s '%s' must be manual or autorecreate", what, text);
	*ret_auto = false;
	return 0;
}
