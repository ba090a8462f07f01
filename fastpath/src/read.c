/* SPDX-License-Identifier: Apache-2.0 */
/* Get and List, from the arena: what a create, delete or update has returned is seen at once, by
 * whichever worker is asked. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/pb.h"
#include "check.h"
#include "service.h"
#include "status.h"

int fp_get(struct fp_service *svc, const char *ns, const char *name, struct reg_sandbox_view *ret,
	   struct fp_fail *fail)
{
	return fp_lookup(svc, ns, name, ret, fail);
}

/* What sorting needs of one sandbox; a whole view of each would be 2 KiB. */
struct item {
	reg_sandbox_id sandbox;
	char *key; /* "namespace/name" */
};

struct list {
	struct item *items;
	size_t n, room;
};

static void list_free(struct list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->items[i].key);
	free(list->items);
}

static int list_push(struct list *list, const struct reg_sandbox_view *view)
{
	if (list->n == list->room) {
		size_t room = list->room ? list->room * 2 : 64;
		struct item *items = realloc(list->items, room * sizeof(*items));

		if (!items)
			return -ENOMEM;
		list->items = items;
		list->room = room;
	}
	list->items[list->n].sandbox = view->sandbox;
	if (asprintf(&list->items[list->n].key, "%s/%s", view->ns, view->name) < 0)
		return -ENOMEM;
	list->n++;
	return 0;
}

static bool labels_match(struct fp_service *svc, const struct reg_sandbox_view *view,
			 const struct fp_map *want)
{
	struct fp_labels labels;
	bool match;

	if (want->n == 0)
		return true;
	if (view->labels_len == 0 || fp_labels_of(svc->me, view->sandbox, &labels))
		return false;
	match = fp_map_has_all(&labels.map, want);
	fp_labels_done(&labels);
	return match;
}

/* '/' ends the namespace and must sort below all that a name may hold ('-' and '.' are less in
 * ASCII), so it counts as 1. */
static int by_key(const void *a, const void *b)
{
	const unsigned char *x = (const unsigned char *)((const struct item *)a)->key;
	const unsigned char *y = (const unsigned char *)((const struct item *)b)->key;

	while (*x && *x == *y) {
		x++;
		y++;
	}
	return (*x == '/' ? 1 : *x) - (*y == '/' ? 1 : *y);
}

static int check_args(const struct fp_list_args *args, struct fp_fail *fail)
{
	char q[FP_QUOTED_MAX + 8];

	if (*args->phase && fp_phase_rank(args->phase) < 0)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "unknown phase '%s': must be Pending, Bound, Running, Terminating, "
			       "Succeeded, Failed, Expired or Lost",
			       fp_quote(args->phase, q));
	return *args->ns ? fp_check_namespace(args->ns, fail) : G_OK;
}

static int list_collect(struct fp_service *svc, const struct fp_list_args *args, struct list *list)
{
	struct reg_sandbox_view view;
	uint32_t cursor = 0;

	while (reg_next(svc->me, &cursor, *args->ns ? args->ns : NULL, &view)) {
		if (*args->pool && strcmp(view.pool, args->pool))
			continue;
		if (*args->phase && strcmp(fp_phase(&view), args->phase))
			continue;
		if (!labels_match(svc, &view, &args->labels))
			continue;
		if (list_push(list, &view))
			return -ENOMEM;
	}
	if (list->n)
		qsort(list->items, list->n, sizeof(*list->items), by_key);
	return 0;
}

int fp_list(struct fp_service *svc, const struct fp_list_args *args,
	    const struct fp_list_handlers *handlers, struct fp_fail *fail)
{
	struct list list = {0};
	struct fp_map labels;
	struct fp_list_args sorted = *args;
	struct reg_sandbox_view view;
	int status = check_args(args, fail);

	if (status)
		return status;
	if (fp_map_sorted(&args->labels, NULL, &labels))
		return fp_fail(fail, G_RESOURCE_EXHAUSTED, "this worker is out of memory");
	sorted.labels = labels;
	if (list_collect(svc, &sorted, &list))
		status = fp_fail(fail, G_RESOURCE_EXHAUSTED, "this worker is out of memory");
	else
		handlers->on_begin(handlers->arg, list.n);
	for (size_t i = 0; !status && i < list.n; i++) {
		if (reg_view(svc->me, list.items[i].sandbox, &view) == REG_OK &&
		    view.state != REG_GONE)
			handlers->on_item(handlers->arg, &view);
	}
	fp_map_free(&labels);
	list_free(&list);
	return status;
}

/* The registry keeps the ports sorted; the spec has them as they were asked for. */
uint32_t fp_endpoint_ports(struct fp_service *svc, const struct reg_sandbox_view *view,
			   uint16_t ret[REG_PORTS_MAX])
{
	cleanup_free void *buf = NULL;
	const Fsb__V1__SandboxSpec *spec;
	struct pb_arena *arena;
	ProtobufCMessage *msg;
	uint32_t len, n = 0;
	bool shared;

	if (view->port_count == 0 || view->agent.idx == UINT32_MAX || view->spec_len == 0)
		return 0;
	buf = malloc(view->spec_len);
	if (!buf || reg_spec(svc->me, view->sandbox, buf, view->spec_len, &len) != REG_OK ||
	    pb_unpack(&fsb__v1__sandbox_spec__descriptor, buf, len, NULL, &arena, &msg, NULL))
		return 0;
	spec = (const Fsb__V1__SandboxSpec *)msg;
	shared = *spec->network ? !strcmp(spec->network, "shared") : view->agent_shared_network;
	for (; shared && n < spec->n_exposed_ports && n < REG_PORTS_MAX; n++)
		ret[n] = (uint16_t)spec->exposed_ports[n];
	pb_free(arena);
	return n;
}
