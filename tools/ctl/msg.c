/* SPDX-License-Identifier: Apache-2.0 */
/* Building and showing messages. */
#include "msg.h"

#include <string.h>

#include "base/clock.h"

/* protobuf-c makes an own entry type for every map field; they all hold key and value. */
#define FILL_MAP(mem, map, type, init_fn)                                                          \
	({                                                                                         \
		type **list = mem_alloc((mem), sizeof(*list) * ((map)->keys.n + 1));               \
		for (size_t i = 0; i < (map)->keys.n; i++) {                                       \
			list[i] = mem_alloc((mem), sizeof(*list[i]));                              \
			init_fn(list[i]);                                                          \
			list[i]->key = (map)->keys.items[i];                                       \
			list[i]->value = (map)->values.items[i];                                   \
		}                                                                                  \
		list;                                                                              \
	})

static char *text(struct mem *mem, const char *value)
{
	return mem_strdup(mem, value ? value : "");
}

Fsb__V1__SandboxSpec *msg_spec(struct mem *mem, const struct run_spec *spec)
{
	Fsb__V1__SandboxSpec *msg = mem_alloc(mem, sizeof(*msg));

	fsb__v1__sandbox_spec__init(msg);
	msg->image = text(mem, spec->image);
	msg->n_command = spec->command.n;
	msg->command = spec->command.items;
	msg->n_args = spec->args.n;
	msg->args = spec->args.items;
	msg->n_envs = spec->envs.keys.n;
	msg->envs = FILL_MAP(mem, &spec->envs, Fsb__V1__SandboxSpec__EnvsEntry,
			     fsb__v1__sandbox_spec__envs_entry__init);
	msg->working_dir = text(mem, spec->working_dir);
	msg->n_exposed_ports = spec->ports.n;
	msg->exposed_ports = spec->ports.items;
	msg->n_resources = spec->resources.keys.n;
	msg->resources = FILL_MAP(mem, &spec->resources, Fsb__V1__SandboxSpec__ResourcesEntry,
				  fsb__v1__sandbox_spec__resources_entry__init);
	msg->network = text(mem, spec->network);
	return msg;
}

Fsb__V1__SandboxOptions *msg_options(struct mem *mem, const char *ns, const struct run_spec *spec)
{
	Fsb__V1__SandboxOptions *msg = mem_alloc(mem, sizeof(*msg));

	fsb__v1__sandbox_options__init(msg);
	msg->namespace_ = text(mem, ns);
	msg->pool = text(mem, spec->pool);
	if (spec->mode_set)
		msg->consistency = spec->strong ? FSB__V1__CONSISTENCY__CONSISTENCY_STRONG
						: FSB__V1__CONSISTENCY__CONSISTENCY_FAST;
	msg->expire_time_seconds = spec->expire_unix_s;
	msg->failure_policy = spec->auto_recreate ? 1 : 0;
	msg->recovery_timeout_seconds = spec->recovery_timeout_s;
	msg->n_labels = spec->labels.keys.n;
	msg->labels = FILL_MAP(mem, &spec->labels, Fsb__V1__SandboxOptions__LabelsEntry,
			       fsb__v1__sandbox_options__labels_entry__init);
	msg->request_id = text(mem, spec->request_id);
	return msg;
}

Fastpath__V1__CreateRequest *msg_create(struct mem *mem, const char *ns, const char *name,
					const struct run_spec *spec)
{
	Fastpath__V1__CreateRequest *msg = mem_alloc(mem, sizeof(*msg));

	fastpath__v1__create_request__init(msg);
	msg->image = text(mem, spec->image);
	msg->pool_ref = text(mem, spec->pool);
	msg->n_exposed_ports = spec->ports.n;
	msg->exposed_ports = spec->ports.items;
	msg->n_command = spec->command.n;
	msg->command = spec->command.items;
	msg->n_args = spec->args.n;
	msg->args = spec->args.items;
	msg->namespace_ = text(mem, ns);
	msg->consistency_mode = spec->strong ? FASTPATH__V1__CONSISTENCY_MODE__STRONG
					     : FASTPATH__V1__CONSISTENCY_MODE__FAST;
	msg->name = text(mem, name);
	msg->n_envs = spec->envs.keys.n;
	msg->envs = FILL_MAP(mem, &spec->envs, Fastpath__V1__CreateRequest__EnvsEntry,
			     fastpath__v1__create_request__envs_entry__init);
	msg->working_dir = text(mem, spec->working_dir);
	msg->expire_time_seconds = spec->expire_unix_s;
	msg->failure_policy = spec->auto_recreate ? FASTPATH__V1__FAILURE_POLICY__AUTO_RECREATE
						  : FASTPATH__V1__FAILURE_POLICY__MANUAL;
	msg->recovery_timeout_seconds = spec->recovery_timeout_s;
	msg->n_labels = spec->labels.keys.n;
	msg->labels = FILL_MAP(mem, &spec->labels, Fastpath__V1__CreateRequest__LabelsEntry,
			       fastpath__v1__create_request__labels_entry__init);
	msg->n_resources = spec->resources.keys.n;
	msg->resources =
		FILL_MAP(mem, &spec->resources, Fastpath__V1__CreateRequest__ResourcesEntry,
			 fastpath__v1__create_request__resources_entry__init);
	msg->request_id = text(mem, spec->request_id);
	return msg;
}

Fastpath__V1__UpdateRequest__LabelsEntry **msg_update_labels(struct mem *mem,
							     const struct kv *labels)
{
	return FILL_MAP(mem, labels, Fastpath__V1__UpdateRequest__LabelsEntry,
			fastpath__v1__update_request__labels_entry__init);
}

Fsb__V1__ListSandboxesRequest__LabelsEntry **msg_list_labels(struct mem *mem,
							     const struct kv *labels)
{
	return FILL_MAP(mem, labels, Fsb__V1__ListSandboxesRequest__LabelsEntry,
			fsb__v1__list_sandboxes_request__labels_entry__init);
}

Fsb__V1__MemberOverride__EnvsEntry **msg_override_envs(struct mem *mem, const struct kv *envs)
{
	return FILL_MAP(mem, envs, Fsb__V1__MemberOverride__EnvsEntry,
			fsb__v1__member_override__envs_entry__init);
}

/* ---- JSON ---- */

static void put_text(json_t *object, const char *key, const char *value)
{
	if (value && *value)
		json_object_set_new(object, key, json_string(value));
}

static void put_int(json_t *object, const char *key, int64_t value)
{
	if (value)
		json_object_set_new(object, key, json_integer(value));
}

static void put_time(json_t *object, const char *key, int64_t unix_ns)
{
	char buf[40];

	if (unix_ns)
		put_text(object, key, clock_rfc3339(unix_ns, buf, sizeof(buf)));
}

json_t *msg_json_strings(size_t n, char **items)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(array, json_string(items[i]));
	return array;
}

static bool has_exit_code(const char *phase)
{
	return !strcmp(phase, "Succeeded") || !strcmp(phase, "Failed");
}

json_t *msg_json_info(const Fastpath__V1__SandboxInfo *info)
{
	json_t *object = json_object();

	put_text(object, "sandbox_id", info->sandbox_id);
	put_text(object, "phase", info->phase);
	put_text(object, "agent_pod", info->agent_pod);
	if (info->n_endpoints)
		json_object_set_new(object, "endpoints",
				    msg_json_strings(info->n_endpoints, info->endpoints));
	put_int(object, "created_at", info->created_at);
	put_text(object, "image", info->image);
	put_text(object, "pool_ref", info->pool_ref);
	put_text(object, "sandbox_name", info->sandbox_name);
	put_text(object, "namespace", info->namespace_);
	put_int(object, "expire_time_seconds", info->expire_time_seconds);
	if (has_exit_code(info->phase))
		json_object_set_new(object, "exit_code", json_integer(info->exit_code));
	put_text(object, "message", info->message);
	put_int(object, "generation", info->generation);
	return object;
}

static json_t *json_timings(const Fsb__V1__Timings *t)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:i}", "reserve_ns", (json_int_t)t->reserve_ns,
			 "agent_ns", (json_int_t)t->agent_ns, "start_ns", (json_int_t)t->start_ns,
			 "total_ns", (json_int_t)t->total_ns, "worker", t->worker);
}

static json_t *json_labels(const Fsb__V1__Sandbox *s)
{
	json_t *object = json_object();

	for (size_t i = 0; i < s->n_labels; i++)
		json_object_set_new(object, s->labels[i]->key, json_string(s->labels[i]->value));
	return object;
}

json_t *msg_json_sandbox(const Fsb__V1__Sandbox *s)
{
	json_t *object = json_object();

	put_text(object, "id", s->id);
	put_text(object, "name", s->name);
	put_text(object, "namespace", s->namespace_);
	put_text(object, "pool", s->pool);
	put_text(object, "agent", s->agent);
	put_text(object, "image", s->image);
	put_text(object, "phase", s->phase);
	if (s->n_endpoints)
		json_object_set_new(object, "endpoints",
				    msg_json_strings(s->n_endpoints, s->endpoints));
	put_time(object, "created", s->created_unix_ns);
	put_time(object, "started", s->started_unix_ns);
	put_time(object, "finished", s->finished_unix_ns);
	if (has_exit_code(s->phase))
		json_object_set_new(object, "exit_code", json_integer(s->exit_code));
	put_int(object, "signal", s->signal);
	if (s->oom_killed)
		json_object_set_new(object, "oom_killed", json_true());
	put_text(object, "message", s->message);
	put_int(object, "generation", s->generation);
	put_int(object, "expire_time_seconds", s->expire_time_seconds);
	if (s->failure_policy)
		put_text(object, "failure_policy", "AutoRecreate");
	if (s->n_labels)
		json_object_set_new(object, "labels", json_labels(s));
	json_object_set_new(object, "stored", json_boolean(s->stored));
	if (s->timings)
		json_object_set_new(object, "timings", json_timings(s->timings));
	return object;
}

void msg_print_json(json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(value);
}
