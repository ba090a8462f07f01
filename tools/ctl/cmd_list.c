/* SPDX-License-Identifier: Apache-2.0 */
/* list and get. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "msg.h"
#include "text.h"

/* ---- list ---- */

static struct {
	const char *pool, *phase, *labels, *output;
} list_flags;

static const struct opt list_opts[] = {
	{.name = "pool",
	 .kind = OPT_STRING,
	 .arg = "POOL",
	 .help = "only sandboxes of this pool",
	 .string = &list_flags.pool},
	{.name = "phase",
	 .kind = OPT_STRING,
	 .arg = "PHASE",
	 .help = "only sandboxes in this phase",
	 .string = &list_flags.phase},
	{.name = "labels",
	 .letter = 'l',
	 .kind = OPT_STRING,
	 .arg = "K=V,...",
	 .help = "only sandboxes that have all of these",
	 .string = &list_flags.labels},
	CTL_OUTPUT_OPT("text|json", "text", &list_flags.output),
	{.name = NULL},
};

/* What a line shows, from either service. */
struct line {
	const char *ns, *name, *id, *phase, *image, *agent;
	int64_t created_unix_s;
};

static void start_table(struct table *table, bool all)
{
	table->columns = all ? 7 : 6;
	if (all)
		table_row(table, "NAMESPACE", "NAME", "ID", "PHASE", "IMAGE", "AGENT", "AGE");
	else
		table_row(table, "NAME", "ID", "PHASE", "IMAGE", "AGENT", "AGE");
}

static void add_line(struct table *table, bool all, const struct line *line)
{
	char age[40];

	text_age(line->created_unix_s, age, sizeof(age));
	if (all)
		table_row(table, line->ns, line->name, line->id, line->phase, line->image,
			  line->agent, age);
	else
		table_row(table, line->name, line->id, line->phase, line->image, line->agent, age);
}

static void show_infos(struct ctl *ctl, const Fastpath__V1__ListResponse *reply)
{
	struct table table = {.mem = &ctl->mem};
	bool all = !ctl->ns[0];

	start_table(&table, all);
	for (size_t i = 0; i < reply->n_items; i++) {
		const Fastpath__V1__SandboxInfo *s = reply->items[i];

		add_line(&table, all,
			 &(struct line){.ns = s->namespace_,
					.name = s->sandbox_name,
					.id = s->sandbox_id,
					.phase = s->phase,
					.image = s->image,
					.agent = s->agent_pod,
					.created_unix_s = s->created_at});
	}
	table_print(&table);
}

static void show_sandboxes(struct ctl *ctl, const Fsb__V1__ListSandboxesResponse *reply)
{
	struct table table = {.mem = &ctl->mem};
	bool all = !ctl->ns[0];

	start_table(&table, all);
	for (size_t i = 0; i < reply->n_items; i++) {
		const Fsb__V1__Sandbox *s = reply->items[i];

		add_line(&table, all,
			 &(struct line){.ns = s->namespace_,
					.name = s->name,
					.id = s->id,
					.phase = s->phase,
					.image = s->image,
					.agent = s->agent,
					.created_unix_s = s->created_unix_ns / 1000000000});
	}
	table_print(&table);
}

/* Without a filter: the interface that every fast-sandbox server has. */
static int list_plain(struct ctl *ctl, bool json, struct err *err)
{
	cleanup_pb struct pb_arena *arena = NULL;
	Fastpath__V1__ListRequest request = FASTPATH__V1__LIST_REQUEST__INIT;
	const Fastpath__V1__ListResponse *reply;
	ProtobufCMessage *msg = NULL;
	int rc;

	request.namespace_ = ctl->ns;
	rc = ctl_call(ctl, FASTPATH_V1 "ListSandboxes", &request.base,
		      &fastpath__v1__list_response__descriptor, &arena, &msg, err);
	if (rc)
		return rc;
	reply = (const Fastpath__V1__ListResponse *)msg;
	if (json) {
		json_t *array = json_array();

		for (size_t i = 0; i < reply->n_items; i++)
			json_array_append_new(array, msg_json_info(reply->items[i]));
		msg_print_json(array);
	} else {
		show_infos(ctl, reply);
	}
	return 0;
}

static int list_filtered(struct ctl *ctl, bool json, const struct kv *labels, struct err *err)
{
	cleanup_pb struct pb_arena *arena = NULL;
	Fsb__V1__ListSandboxesRequest request = FSB__V1__LIST_SANDBOXES_REQUEST__INIT;
	const Fsb__V1__ListSandboxesResponse *reply;
	ProtobufCMessage *msg = NULL;
	int rc;

	request.namespace_ = ctl->ns;
	request.pool = mem_strdup(&ctl->mem, list_flags.pool ? list_flags.pool : "");
	request.phase = mem_strdup(&ctl->mem, list_flags.phase ? list_flags.phase : "");
	request.n_labels = labels->keys.n;
	request.labels = msg_list_labels(&ctl->mem, labels);
	rc = ctl_call(ctl, FSB_V1 "List", &request.base,
		      &fsb__v1__list_sandboxes_response__descriptor, &arena, &msg, err);
	if (rc)
		return rc;
	reply = (const Fsb__V1__ListSandboxesResponse *)msg;
	if (json) {
		json_t *array = json_array();

		for (size_t i = 0; i < reply->n_items; i++)
			json_array_append_new(array, msg_json_sandbox(reply->items[i]));
		msg_print_json(array);
	} else {
		show_sandboxes(ctl, reply);
	}
	return 0;
}

static int list(struct ctl *ctl, int npos, char **pos, struct err *err)
{
	struct kv labels = {.keys.n = 0};
	bool json;
	int rc = ctl_check_output(list_flags.output, "text json", err);

	if (!rc && list_flags.labels)
		rc = text_parse_map(&ctl->mem, "--labels", list_flags.labels, &labels, err);
	if (rc)
		return rc;
	json = !strcmp(list_flags.output, "json");
	if (list_flags.pool || list_flags.phase || labels.keys.n)
		return list_filtered(ctl, json, &labels, err);
	return list_plain(ctl, json, err);
}

const struct ctl_command ctl_cmd_list = {
	.name = "list",
	.alias = "ls",
	.args = "",
	.summary = "list sandboxes",
	.opts = list_opts,
	.epilog = "-n \"\" lists all namespaces.",
	.max_pos = 0,
	.verbatim_from = -1,
	.run = list,
};

/* ---- get ---- */

static struct {
	const char *output;
} get_flags;

static const struct opt get_opts[] = {
	CTL_OUTPUT_OPT("yaml|json", "yaml", &get_flags.output),
	{.name = NULL},
};

static void yaml_text(const char *key, const char *value)
{
	printf("%s: ", key);
	text_yaml_scalar(value);
	putchar('\n');
}

static void yaml_int(const char *key, int64_t value)
{
	printf("%s: %lld\n", key, (long long)value);
}

static void print_yaml(const Fastpath__V1__SandboxInfo *info)
{
	char age[40];

	yaml_text("sandboxid", info->sandbox_id);
	yaml_text("phase", info->phase);
	yaml_text("agentpod", info->agent_pod);
	printf("endpoints:%s\n", info->n_endpoints ? "" : " []");
	for (size_t i = 0; i < info->n_endpoints; i++) {
		printf("- ");
		text_yaml_scalar(info->endpoints[i]);
		putchar('\n');
	}
	yaml_int("createdat", info->created_at);
	yaml_text("image", info->image);
	yaml_text("poolref", info->pool_ref);
	yaml_text("sandboxname", info->sandbox_name);
	yaml_text("namespace", info->namespace_);
	yaml_int("expiretimeseconds", info->expire_time_seconds);
	yaml_int("exitcode", info->exit_code);
	yaml_text("message", info->message);
	yaml_int("generation", info->generation);
	printf("Age: %s\n", text_age(info->created_at, age, sizeof(age)));
}

static int get(struct ctl *ctl, int npos, char **pos, struct err *err)
{
	cleanup_pb struct pb_arena *arena = NULL;
	Fastpath__V1__GetRequest request = FASTPATH__V1__GET_REQUEST__INIT;
	ProtobufCMessage *msg = NULL;
	int rc = ctl_check_output(get_flags.output, "yaml json", err);

	if (!rc)
		rc = ctl_one_namespace(ctl, err);
	if (rc)
		return rc;
	request.sandbox_name = pos[0];
	request.namespace_ = ctl->ns;
	rc = ctl_call(ctl, FASTPATH_V1 "GetSandbox", &request.base,
		      &fastpath__v1__sandbox_info__descriptor, &arena, &msg, err);
	if (rc)
		return rc;
	if (!strcmp(get_flags.output, "json"))
		msg_print_json(msg_json_info((const Fastpath__V1__SandboxInfo *)msg));
	else
		print_yaml((const Fastpath__V1__SandboxInfo *)msg);
	return 0;
}

const struct ctl_command ctl_cmd_get = {
	.name = "get",
	.args = "NAME",
	.summary = "show one sandbox",
	.opts = get_opts,
	.min_pos = 1,
	.max_pos = 1,
	.verbatim_from = -1,
	.run = get,
};
