/* SPDX-License-Identifier: Apache-2.0 */
/* stats and health: how the control plane itself is. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "ctl.h"
#include "health.pb-c.h"
#include "msg.h"
#include "text.h"

/* ---- stats ---- */

static struct {
	const char *output;
} stats_flags;

static const struct opt stats_opts[] = {
	CTL_OUTPUT_OPT("text|json", "text", &stats_flags.output),
	{.name = NULL},
};

static json_t *json_workers(const Fsb__V1__GetStatsResponse *s)
{
	json_t *array = json_array();

	for (size_t i = 0; i < s->n_workers; i++) {
		const Fsb__V1__WorkerStats *w = s->workers[i];

		json_array_append_new(array, json_pack("{s:i,s:I,s:I,s:I}", "worker", w->worker,
						       "pid", (json_int_t)w->pid, "creates",
						       (json_int_t)w->creates, "refusals",
						       (json_int_t)w->refusals));
	}
	return array;
}

static json_t *json_histograms(const Fsb__V1__GetStatsResponse *s)
{
	json_t *object = json_object();

	for (size_t i = 0; i < s->n_histograms; i++) {
		const Fsb__V1__Histogram *h = s->histograms[i];

		json_object_set_new(
			object, h->name,
			json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "count", (json_int_t)h->count,
				  "p50_ns", (json_int_t)h->p50_ns, "p90_ns", (json_int_t)h->p90_ns,
				  "p99_ns", (json_int_t)h->p99_ns, "p999_ns",
				  (json_int_t)h->p999_ns, "max_ns", (json_int_t)h->max_ns));
	}
	return object;
}

static json_t *json_unmet(const Fsb__V1__GetStatsResponse *s)
{
	json_t *array = json_array();

	for (size_t i = 0; i < s->n_unmet; i++) {
		const Fsb__V1__PoolDemand *d = s->unmet[i];

		json_array_append_new(array, json_pack("{s:s,s:s,s:I}", "namespace", d->namespace_,
						       "pool", d->pool, "unmet_demand",
						       (json_int_t)d->unmet_demand));
	}
	return array;
}

static void print_stats_json(const Fsb__V1__GetStatsResponse *s)
{
	json_t *object = json_pack("{s:I,s:I,s:I,s:b}", "sandboxes", (json_int_t)s->sandboxes,
				   "dirty", (json_int_t)s->dirty, "store_lag_ns",
				   (json_int_t)s->store_lag_ns, "store_loaded", s->store_loaded);
	json_t *counters = json_object(), *refusals = json_object();

	for (size_t i = 0; i < s->n_counters; i++)
		json_object_set_new(counters, s->counters[i]->key,
				    json_integer((json_int_t)s->counters[i]->value));
	for (size_t i = 0; i < s->n_refusals; i++)
		json_object_set_new(refusals, s->refusals[i]->key,
				    json_integer((json_int_t)s->refusals[i]->value));
	json_object_set_new(object, "workers", json_workers(s));
	json_object_set_new(object, "histograms", json_histograms(s));
	json_object_set_new(object, "counters", counters);
	json_object_set_new(object, "refusals", refusals);
	json_object_set_new(object, "unmet", json_unmet(s));
	msg_print_json(object);
}

static const char *number(struct mem *mem, uint64_t value)
{
	return mem_printf(mem, "%llu", (unsigned long long)value);
}

static const char *duration(struct mem *mem, uint64_t ns)
{
	char buf[40];

	if (ns && ns < 10 * NS_PER_US)
		return mem_printf(mem, "%lluns", (unsigned long long)ns);
	return mem_strdup(mem, text_duration(ns, buf, sizeof(buf)));
}

static void print_histograms(struct mem *mem, const Fsb__V1__GetStatsResponse *s)
{
	struct table table = {.mem = mem, .columns = 7};

	table_row(&table, "STAGE", "COUNT", "P50", "P90", "P99", "P99.9", "MAX");
	for (size_t i = 0; i < s->n_histograms; i++) {
		const Fsb__V1__Histogram *h = s->histograms[i];

		table_row(&table, h->name, number(mem, h->count), duration(mem, h->p50_ns),
			  duration(mem, h->p90_ns), duration(mem, h->p99_ns),
			  duration(mem, h->p999_ns), duration(mem, h->max_ns));
	}
	table_print(&table);
}

/* Only what occurred; nothing at all when nothing did. */
static void print_refusals(struct mem *mem, const Fsb__V1__GetStatsResponse *s)
{
	struct table refusals = {.mem = mem, .columns = 2};
	struct table unmet = {.mem = mem, .columns = 3};

	table_row(&refusals, "REFUSED BECAUSE", "COUNT");
	for (size_t i = 0; i < s->n_refusals; i++)
		table_row(&refusals, s->refusals[i]->key, number(mem, s->refusals[i]->value));
	if (s->n_refusals) {
		putchar('\n');
		table_print(&refusals);
	}
	table_row(&unmet, "NAMESPACE", "POOL", "UNMET");
	for (size_t i = 0; i < s->n_unmet; i++)
		table_row(&unmet, s->unmet[i]->namespace_, s->unmet[i]->pool,
			  number(mem, s->unmet[i]->unmet_demand));
	if (s->n_unmet) {
		putchar('\n');
		table_print(&unmet);
	}
}

static void print_stats_text(struct mem *mem, const Fsb__V1__GetStatsResponse *s)
{
	struct table workers = {.mem = mem, .columns = 4};
	struct table counters = {.mem = mem, .columns = 2};

	printf("Sandboxes:   %u\nUnwritten:   %u\nStore lag:   %s\nStore:       %s\n\n",
	       s->sandboxes, s->dirty, duration(mem, s->store_lag_ns),
	       s->store_loaded ? "loaded" : "still being loaded");
	table_row(&workers, "WORKER", "PID", "CREATES", "REFUSALS");
	for (size_t i = 0; i < s->n_workers; i++) {
		const Fsb__V1__WorkerStats *w = s->workers[i];

		table_row(&workers, number(mem, (uint64_t)w->worker), number(mem, (uint64_t)w->pid),
			  number(mem, w->creates), number(mem, w->refusals));
	}
	table_print(&workers);
	putchar('\n');
	print_histograms(mem, s);
	putchar('\n');
	table_row(&counters, "COUNTER", "VALUE");
	for (size_t i = 0; i < s->n_counters; i++)
		table_row(&counters, s->counters[i]->key, number(mem, s->counters[i]->value));
	table_print(&counters);
	print_refusals(mem, s);
}

static int stats(struct ctl *ctl, int npos, char **pos, struct err *err)
{
	cleanup_pb struct pb_arena *arena = NULL;
	Fsb__V1__GetStatsRequest request = FSB__V1__GET_STATS_REQUEST__INIT;
	ProtobufCMessage *msg = NULL;
	int rc = ctl_check_output(stats_flags.output, "text json", err);

	if (!rc)
		rc = ctl_call(ctl, FSB_ADMIN "GetStats", &request.base,
			      &fsb__v1__get_stats_response__descriptor, &arena, &msg, err);
	if (rc)
		return rc;
	if (!strcmp(stats_flags.output, "json"))
		print_stats_json((const Fsb__V1__GetStatsResponse *)msg);
	else
		print_stats_text(&ctl->mem, (const Fsb__V1__GetStatsResponse *)msg);
	return 0;
}

const struct ctl_command ctl_cmd_stats = {
	.name = "stats",
	.args = "",
	.summary = "latencies by stage, counters, refusals by reason, unmet demand, store lag",
	.opts = stats_opts,
	.max_pos = 0,
	.verbatim_from = -1,
	.run = stats,
};

/* ---- health ---- */

static struct {
	const char *service;
} health_flags;

static const struct opt health_opts[] = {
	{.name = "service",
	 .kind = OPT_STRING,
	 .arg = "NAME",
	 .help = "ask about this service; default: the server",
	 .string = &health_flags.service},
	{.name = NULL},
};

static int health(struct ctl *ctl, int npos, char **pos, struct err *err)
{
	static const char *const names[] = {"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"};
	cleanup_pb struct pb_arena *arena = NULL;
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	const Grpc__Health__V1__HealthCheckResponse *reply;
	ProtobufCMessage *msg = NULL;
	unsigned int status;
	int rc;

	request.service = mem_strdup(&ctl->mem, health_flags.service ? health_flags.service : "");
	rc = ctl_call(ctl, "/grpc.health.v1.Health/Check", &request.base,
		      &grpc__health__v1__health_check_response__descriptor, &arena, &msg, err);
	if (rc)
		return rc;
	reply = (const Grpc__Health__V1__HealthCheckResponse *)msg;
	status = (unsigned int)reply->status;
	puts(status < sizeof(names) / sizeof(names[0]) ? names[status] : "UNKNOWN");
	return status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
		       ? 0
		       : CTL_FAILED;
}

const struct ctl_command ctl_cmd_health = {
	.name = "health",
	.args = "",
	.summary = "ask whether the fast path serves (exit status 0: yes)",
	.opts = health_opts,
	.max_pos = 0,
	.verbatim_from = -1,
	.run = health,
};
