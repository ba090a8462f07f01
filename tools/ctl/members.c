/* SPDX-License-Identifier: Apache-2.0 */
/* Per-member overrides of a batch, read strictly. */
#include "members.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "msg.h"

enum { MAX_FILE_BYTES = 64 << 20, MAX_MEMBERS = 10000 };

static int bad(struct err *err, const char *what)
{
	return err_set(err, -EINVAL, "%s", what);
}

static int read_list(struct mem *mem, const char *key, const json_t *value, size_t *ret_n,
		     char ***ret, struct err *err)
{
	struct strv list = {.n = 0};

	if (!json_is_array(value))
		return bad(err, mem_printf(mem, "%s must be a list of strings", key));
	for (size_t i = 0; i < json_array_size(value); i++) {
		const json_t *item = json_array_get(value, i);

		if (!json_is_string(item))
			return bad(err, mem_printf(mem, "%s must be a list of strings", key));
		strv_add(mem, &list, mem_strdup(mem, json_string_value(item)));
	}
	*ret_n = list.n;
	*ret = list.items;
	return 0;
}

static int read_envs(struct mem *mem, json_t *value, Fsb__V1__MemberOverride *member,
		     struct err *err)
{
	struct kv envs = {.keys.n = 0};
	const char *key;
	json_t *item;

	if (!json_is_object(value))
		return bad(err, "envs must be an object of strings");
	json_object_foreach(value, key, item)
	{
		if (!json_is_string(item))
			return bad(err, mem_printf(mem, "envs.%s must be a string", key));
		kv_set(mem, &envs, mem_strdup(mem, key), mem_strdup(mem, json_string_value(item)));
	}
	member->n_envs = envs.keys.n;
	member->envs = msg_override_envs(mem, &envs);
	return 0;
}

static int read_index(const json_t *value, Fsb__V1__MemberOverride *member, struct err *err)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
	    json_integer_value(value) >= MAX_MEMBERS)
		return bad(err, "index must be a number from 0 to 9999");
	member->index = (int32_t)json_integer_value(value);
	return 0;
}

static int read_member(struct mem *mem, json_t *line, Fsb__V1__MemberOverride *member,
		       struct err *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(line))
		return bad(err, "must be a JSON object");
	json_object_foreach(line, key, value)
	{
		int rc;

		if (!strcmp(key, "command"))
			rc = read_list(mem, key, value, &member->n_command, &member->command, err);
		else if (!strcmp(key, "args"))
			rc = read_list(mem, key, value, &member->n_args, &member->args, err);
		else if (!strcmp(key, "envs"))
			rc = read_envs(mem, value, member, err);
		else if (!strcmp(key, "index"))
			rc = read_index(value, member, err);
		else
			rc = bad(err,
				 mem_printf(mem,
					    "unknown key '%.40s'; known: command args envs index",
					    key));
		if (rc)
			return rc;
	}
	return 0;
}

static int add_line(struct mem *mem, const char *text, size_t len, struct members *members,
		    struct err *err)
{
	Fsb__V1__MemberOverride *member = mem_alloc(mem, sizeof(*member));
	json_error_t where;
	json_t *line = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	int rc;

	if (!line)
		return err_set(err, -EINVAL, "not JSON: %s", where.text);
	fsb__v1__member_override__init(member);
	member->index = (int32_t)members->n;
	rc = read_member(mem, line, member, err);
	json_decref(line);
	if (rc)
		return rc;
	for (size_t i = 0; i < members->n; i++) {
		if (members->items[i]->index == member->index)
			return err_set(err, -EINVAL, "index %d is given twice", member->index);
	}
	if (members->n >= MAX_MEMBERS)
		return err_set(err, -EINVAL, "more than %d members", MAX_MEMBERS);
	members->items[members->n++] = member;
	if (member->index > members->highest_index)
		members->highest_index = member->index;
	return 0;
}

static size_t count_lines(const char *text)
{
	size_t n = 1;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

int members_parse(const char *name, const char *text, struct mem *mem, struct members *ret,
		  struct err *err)
{
	struct members members = {.highest_index = -1};
	int number = 0;

	members.items = mem_alloc(mem, count_lines(text) * sizeof(struct members *));
	while (*text) {
		size_t len = strcspn(text, "\n");
		int rc = 0;

		number++;
		if (strspn(text, " \t\r") < len)
			rc = add_line(mem, text, len, &members, err);
		if (rc)
			return err_wrap(err, "%s:%d", name, number);
		text += len + (text[len] == '\n');
	}
	*ret = members;
	return 0;
}

int members_load(const char *path, struct mem *mem, struct members *ret, struct err *err)
{
	cleanup_free char *text = NULL;
	size_t len = 0;
	int rc = io_read_file(AT_FDCWD, path, MAX_FILE_BYTES, &text, &len);

	if (rc)
		return err_set(err, -EINVAL, "cannot read '%s': %s", path, strerror(-rc));
	if (strlen(text) != len)
		return err_set(err, -EINVAL, "'%s' holds a NUL", path);
	return members_parse(path, text, mem, ret, err);
}
