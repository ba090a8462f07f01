/* SPDX-License-Identifier: Apache-2.0 */
/* image, agents, pools: what the sandboxes run on. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ctl.h"
#include "msg.h"
#include "text.h"

static struct {
	const char *ref, *name, *pool, *output;
} flags;

static bool want_json(void)
{
	return !strcmp(flags.output, "json");
}

/* The same rows in both forms; the one that was asked for is printed. Takes array. */
static void print_rows(json_t *array, struct table *table)
{
	if (want_json()) {
		msg_print_json(array);
		return;
	}
	json_decref(array);
	table_print(table);
}

static const char *number(struct mem *mem, uint64_t value)
{
	return mem_printf(mem, "%llu", (unsigned long long)value);
}

/* ---- image ---- */

static const struct opt image_opts[] = {
	{.name = "ref",
	 .kind = OPT_STRING,
	 .arg = "TAG",
	 .help = "tag in the layout; not needed when it has one image",
	 .string = &flags.ref},
	{.name = "name",
	 .kind = OPT_STRING,
	 .arg = "NAME",
	 .help = "name to store it under; default: the tag",
	 .string = &flags.name},
	{.name = "pool",
	 .kind = OPT_STRING,
	 .arg = "POOL",
	 .help = "agents of this pool; default: all",
	 .string = &flags.pool},
	CTL_OUTPUT_OPT("text|json", "text", &flags.output),
	{.name = NULL},
};

static int image_load(struct ctl *ctl, const char *path, struct err *err)
{
	cleanup_pb struct pb_arena *arena = NULL;
	Fsb__V1__LoadImageRequest request = FSB__V1__LOAD_IMAGE_REQUEST__INIT;
	const Fsb__V1__LoadImageResponse *reply;
	ProtobufCMessage *msg = NULL;
	char absolute[PATH_MAX];
	int rc;

	if (!realpath(path, absolute))
		return err_errno(err, errno, "cannot find the OCI layout '%s'", path);
	request.layout_path = absolute;
	request.layout_ref = mem_strdup(&ctl->mem, flags.ref ? flags.ref : "");
	request.name = mem_strdup(&ctl->mem, flags.name ? flags.name : "");
	request.namespace_ = ctl->ns_set ? ctl->ns : mem_strdup(&ctl->mem, "");
	request.pool = mem_strdup(&ctl->mem, flags.pool ? flags.pool : "");
	rc = ctl_call(ctl, FSB_ADMIN "LoadImage", &request.base,
		      &fsb__v1__load_image_response__descriptor, &arena, &msg, err);
	if (rc)
		return rc;
	reply = (const Fsb__V1__LoadImageResponse *)msg;
	if (want_json())
		msg_print_json(json_pack("{s:s,s:s,s:I,s:i}", "image", reply->image, "digest",
					 reply->digest, "bytes", (json_int_t)reply->bytes, "agents",
					 reply->agents));
	else
		printf("Image %s loaded (%s, %llu bytes, %d agents)\n", reply->image, reply->digest,
		       (unsigned long long)reply->bytes, reply->agents);
	return 0;
}

static int image_list(struct ctl *ctl, struct err *err)
{
	cleanup_pb struct pb_arena *arena = NULL;
	Fsb__V1__ListImagesRequest request = FSB__V1__LIST_IMAGES_REQUEST__INIT;
	struct table table = {.mem = &ctl->mem, .columns = 2};
	json_t *array;
	const Fsb__V1__ListImagesResponse *reply;
	ProtobufCMessage *msg = NULL;
	int rc = ctl_call(ctl, FSB_ADMIN "ListImages", &request.base,
			  &fsb__v1__list_images_response__descriptor, &arena, &msg, err);

	if (rc)
		return rc;
	reply = (const Fsb__V1__ListImagesResponse *)msg;
	array = json_array();
	table_row(&table, "IMAGE", "AGENTS");
	for (size_t i = 0; i < reply->n_items; i++) {
		const Fsb__V1__ImageInfo *image = reply->items[i];

		json_array_append_new(array, json_pack("{s:s,s:i}", "image", image->image, "agents",
						       image->agents));
		table_row(&table, image->image, number(&ctl->mem, (uint64_t)image->agents));
	}
	print_rows(array, &table);
	return 0;
}

static int image(struct ctl *ctl, int npos, char **pos, struct err *err)
{
	int rc = ctl_check_output(flags.output, "text json", err);

	if (rc)
		return rc;
	if (!strcmp(pos[0], "load") && npos == 2)
		return image_load(ctl, pos[1], err);
	if ((!strcmp(pos[0], "list") || !strcmp(pos[0], "ls")) && npos == 1)
		return image_list(ctl, err);
	return err_set(err, -EINVAL, "usage: fsb-ctl image load DIR, or fsb-ctl image list");
}

const struct ctl_command ctl_cmd_image = {
	.name = "image",
	.args = "load DIR | list",
	.summary = "load an OCI layout into the agents' store, list images",
	.opts = image_opts,
	.epilog = "  fsb-ctl image load ./busybox --ref latest --name busybox",
	.min_pos = 1,
	.max_pos = 2,
	.verbatim_from = -1,
	.run = image,
};

/* ---- agents ---- */

static const struct opt agents_opts[] = {
	{.name = "pool",
	 .kind = OPT_STRING,
	 .arg = "POOL",
	 .help = "only agents of this pool",
	 .string = &flags.pool},
	CTL_OUTPUT_OPT("text|json", "text", &flags.output),
	{.name = NULL},
};

/* An agent that starts nothing calls its node so (agent.proto). */
static bool is_simulated(const Fsb__V1__AgentInfo *a)
{
	return !strcmp(a->node, "simulated");
}

static json_t *json_agent(const Fsb__V1__AgentInfo *a)
{
	json_t *object =
		json_pack("{s:s,s:s,s:s,s:s,s:s,s:i,s:i,s:s,s:I}", "name", a->name, "namespace",
			  a->namespace_, "pool", a->pool, "node", a->node, "address", a->address,
			  "capacity", a->capacity, "allocated", a->allocated, "state", a->state,
			  "reserved_total", (json_int_t)a->reserved_total);
	char beat[40];

	if (is_simulated(a))
		json_object_set_new(object, "simulated", json_true());
	json_object_set_new(
		object, "last_heartbeat",
		json_string(clock_rfc3339(a->last_heartbeat_unix_ns, beat, sizeof(beat))));
	json_object_set_new(object, "images", msg_json_strings(a->n_images, a->images));
	return object;
}

static void agent_row(struct ctl *ctl, struct table *table, const Fsb__V1__AgentInfo *a)
{
	char age[40];

	table_row(table, a->name, a->pool,
		  is_simulated(a) ? mem_printf(&ctl->mem, "%s, simulated", a->state) : a->state,
		  a->capacity > 0 ? mem_printf(&ctl->mem, "%d/%d", a->allocated, a->capacity)
				  : mem_printf(&ctl->mem, "%d", a->allocated),
		  number(&ctl->mem, a->reserved_total), number(&ctl->mem, a->n_images),
		  text_age(a->last_heartbeat_unix_ns / 1000000000, age, sizeof(age)), a->address);
}

static int by_name(const void *left, const void *right)
{
	const Fsb__V1__AgentInfo *a = *(Fsb__V1__AgentInfo *const *)left;
	const Fsb__V1__AgentInfo *b = *(Fsb__V1__AgentInfo *const *)right;

	return strverscmp(a->name, b->name);
}

static int agents(struct ctl *ctl, int npos, char **pos, struct err *err)
{
	cleanup_pb struct pb_arena *arena = NULL;
	Fsb__V1__ListAgentsRequest request = FSB__V1__LIST_AGENTS_REQUEST__INIT;
	struct table table = {.mem = &ctl->mem, .columns = 8};
	json_t *array;
	const Fsb__V1__ListAgentsResponse *reply;
	ProtobufCMessage *msg = NULL;
	int rc = ctl_check_output(flags.output, "text json", err);

	if (rc)
		return rc;
	request.namespace_ = ctl->ns_set ? ctl->ns : mem_strdup(&ctl->mem, "");
	request.pool = mem_strdup(&ctl->mem, flags.pool ? flags.pool : "");
	rc = ctl_call(ctl, FSB_ADMIN "ListAgents", &request.base,
		      &fsb__v1__list_agents_response__descriptor, &arena, &msg, err);
	if (rc)
		return rc;
	reply = (const Fsb__V1__ListAgentsResponse *)msg;
	if (reply->n_items)
		qsort(reply->items, reply->n_items, sizeof(reply->items[0]), by_name);
	array = json_array();
	table_row(&table, "NAME", "POOL", "STATE", "SLOTS", "RESERVED", "IMAGES", "HEARTBEAT",
		  "ADDRESS");
	for (size_t i = 0; i < reply->n_items; i++) {
		json_array_append_new(array, json_agent(reply->items[i]));
		agent_row(ctl, &table, reply->items[i]);
	}
	print_rows(array, &table);
	return 0;
}

const struct ctl_command ctl_cmd_agents = {
	.name = "agents",
	.args = "",
	.summary = "list agents with their slots and state",
	.opts = agents_opts,
	.max_pos = 0,
	.verbatim_from = -1,
	.run = agents,
};

/* ---- pools ---- */

static const struct opt pools_opts[] = {CTL_OUTPUT_OPT("text|json", "text", &flags.output),
					{.name = NULL}};

static json_t *json_pool(const Fsb__V1__PoolInfo *p)
{
	return json_pack("{s:s,s:s,s:i,s:i,s:i,s:i,s:I}", "name", p->name, "namespace",
			 p->namespace_, "agents", p->agents, "ready_agents", p->ready_agents,
			 "capacity", p->capacity, "allocated", p->allocated, "unmet_demand",
			 (json_int_t)p->unmet_demand);
}

static void pool_row(struct ctl *ctl, struct table *table, const Fsb__V1__PoolInfo *p)
{
	table_row(table, p->namespace_, p->name,
		  mem_printf(&ctl->mem, "%d/%d", p->ready_agents, p->agents),
		  mem_printf(&ctl->mem, "%d/%d", p->allocated, p->capacity),
		  number(&ctl->mem, p->unmet_demand));
}

static int pools(struct ctl *ctl, int npos, char **pos, struct err *err)
{
	cleanup_pb struct pb_arena *arena = NULL;
	Fsb__V1__ListPoolsRequest request = FSB__V1__LIST_POOLS_REQUEST__INIT;
	struct table table = {.mem = &ctl->mem, .columns = 5};
	json_t *array;
	const Fsb__V1__ListPoolsResponse *reply;
	ProtobufCMessage *msg = NULL;
	int rc = ctl_check_output(flags.output, "text json", err);

	if (rc)
		return rc;
	request.namespace_ = ctl->ns_set ? ctl->ns : mem_strdup(&ctl->mem, "");
	rc = ctl_call(ctl, FSB_ADMIN "ListPools", &request.base,
		      &fsb__v1__list_pools_response__descriptor, &arena, &msg, err);
	if (rc)
		return rc;
	reply = (const Fsb__V1__ListPoolsResponse *)msg;
	array = json_array();
	table_row(&table, "NAMESPACE", "NAME", "READY", "SLOTS", "UNMET");
	for (size_t i = 0; i < reply->n_items; i++) {
		json_array_append_new(array, json_pool(reply->items[i]));
		pool_row(ctl, &table, reply->items[i]);
	}
	print_rows(array, &table);
	return 0;
}

const struct ctl_command ctl_cmd_pools = {
	.name = "pools",
	.args = "",
	.summary = "list pools with their capacity",
	.opts = pools_opts,
	.max_pos = 0,
	.verbatim_from = -1,
	.run = pools,
};
