/* SPDX-License-Identifier: Apache-2.0 */
/* The figures as text and as JSON. Simulated agents are called so, and a rate that was not served
 * is not called reached. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "load.h"

static const double quantiles[] = {0.5, 0.9, 0.99, 0.999};
static const char *const quantile_keys[] = {"p50_ns", "p90_ns", "p99_ns", "p99_9_ns"};
#define QUANTILES 4

static const char *mode_words(const struct load *load)
{
	static const char *const words[] = {"create + delete (fsb.v1)",
					    "create + delete (fastpath.v1)",
					    "get",
					    "list",
					    "batch",
					    "echo (grpc.health.v1 Check)"};

	return words[load->o.mode];
}

static const char *hist_title(const struct load *load, int h)
{
	static const char *const titles[HIST_MAX] = {
		NULL,
		"delete",
		"sent late by",
		"from the send",
		"server: reserve",
		"server: agent hop",
		"server: total",
	};

	return h == HIST_MAIN ? call_title(load) : titles[h];
}

static struct outcome outcome_of(const struct load *load)
{
	uint64_t from = load->schedule.measure_ns;
	/* A closed loop's operations that end after the window belong to it, too. */
	return (struct outcome){
		.window_ns = load->o.duration_ns,
		.arrivals = load->n.arrivals,
		.done = load->n.done,
		.spent_ns = load->last_done_ns > from ? load->last_done_ns - from : 0,
	};
}

/* ---- text ---- */

static const char *human(uint64_t ns, char *buf, size_t size)
{
	if (ns < 10000)
		snprintf(buf, size, "%.2f us", (double)ns / 1e3);
	else if (ns < 1000000)
		snprintf(buf, size, "%.0f us", (double)ns / 1e3);
	else if (ns < 100000000)
		snprintf(buf, size, "%.2f ms", (double)ns / 1e6);
	else
		snprintf(buf, size, "%.0f ms", (double)ns / 1e6);
	return buf;
}

static void print_hist(const struct load *load, int h)
{
	const struct hist *hist = &load->hists[h];
	char buf[32];

	if (!hist->count)
		return;
	printf("  %-18s %9llu", hist_title(load, h), (unsigned long long)hist->count);
	for (int i = 0; i < QUANTILES; i++)
		printf(" %11s", human(hist_quantile(hist, quantiles[i]), buf, sizeof(buf)));
	printf(" %11s", human(hist->max_ns, buf, sizeof(buf)));
	printf(" %11s\n", human((uint64_t)hist_mean(hist), buf, sizeof(buf)));
}

static void print_agents(const struct load *load)
{
	if (load->simulated_agents == load->agents && load->agents)
		printf("agents: %d, all SIMULATED: nothing is started, a create ends at a "
		       "simulated "
		       "acknowledgement\n",
		       load->agents);
	else if (load->simulated_agents)
		printf("agents: %d, of them %d SIMULATED\n", load->agents, load->simulated_agents);
	else
		printf("agents: %d, none simulated\n", load->agents);
}

static void print_rate(const struct load *load)
{
	const struct load_counts *n = &load->n;
	struct outcome o = outcome_of(load);

	if (load->o.closed) {
		printf("closed loop of %lld: %.1f/s (latencies are of a loop that waits, not of "
		       "load)\n",
		       (long long)load->o.closed, outcome_achieved(&o));
	} else {
		printf("rate: asked for %.1f/s, offered %.1f/s, achieved %.1f/s: %s\n",
		       load->o.rate, outcome_offered(&o), outcome_achieved(&o),
		       outcome_reached(&o) ? "reached" : "NOT REACHED");
		printf("dropped: %llu of %llu arrivals (--in-flight-max %lld)\n",
		       (unsigned long long)n->dropped, (unsigned long long)n->arrivals,
		       (long long)load->o.in_flight_max);
	}
	printf("errors: %llu of the measured %ss", (unsigned long long)n->errors, call_title(load));
	printf("%s\n", load->reason_count ? "; in the whole run:" : "");
	for (size_t i = 0; i < load->reason_count; i++)
		printf("  %8llu  %s %s: %s\n", (unsigned long long)load->reasons[i].count,
		       load->reasons[i].where, gstatus_name(load->reasons[i].status),
		       load->reasons[i].text);
	if (load->reasons_more)
		printf("  %8llu  of other reasons\n", (unsigned long long)load->reasons_more);
}

static void print_books(const struct load *load)
{
	const struct load_counts *n = &load->n;

	printf("books: created %llu, deleted %llu, left over and deleted at the end %llu, leaked "
	       "%llu, vanished %llu, remaining %llu; slots held in the pool %lld before, %lld "
	       "after: %s\n",
	       (unsigned long long)n->created, (unsigned long long)n->deleted,
	       (unsigned long long)n->recovered, (unsigned long long)n->leaked,
	       (unsigned long long)n->vanished, (unsigned long long)n->remaining,
	       (long long)load->allocated_before, (long long)load->allocated_after,
	       books_balanced(load) ? "balanced" : "NOT BALANCED");
}

void report_print(struct load *load)
{
	const struct load_options *o = &load->o;

	printf("fsb-load: %s", mode_words(load));
	if (o->mode == MODE_BATCH)
		printf(" of %lld", (long long)o->batch);
	if (o->closed)
		printf(", closed loop");
	else
		printf(", open loop, Poisson arrivals");
	printf(", %.1f s after %.1f s of warm-up, %lld connections, seed %lld%s\n",
	       (double)o->duration_ns / 1e9, (double)o->warmup_ns / 1e9, (long long)o->connections,
	       (long long)o->seed, load->interrupted ? "; INTERRUPTED" : "");
	print_agents(load);
	printf("  %-18s %9s %11s %11s %11s %11s %11s %11s\n", "", "count", "p50", "p90", "p99",
	       "p99.9", "max", "mean");
	for (int h = 0; h < HIST_MAX; h++)
		print_hist(load, h);
	print_rate(load);
	printf("generator: %.0f %% of a CPU\n",
	       load->wall_s > 0 ? 100 * load->cpu_s / load->wall_s : 0);
	print_books(load);
	(void)fflush(stdout);
}

/* ---- JSON ---- */

static json_t *count(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *json_hist(const struct hist *hist)
{
	json_t *object = json_object();

	json_object_set_new(object, "count", count(hist->count));
	for (int i = 0; i < QUANTILES; i++)
		json_object_set_new(object, quantile_keys[i],
				    count(hist_quantile(hist, quantiles[i])));
	json_object_set_new(object, "max_ns", count(hist->max_ns));
	json_object_set_new(object, "mean_ns", json_real(hist_mean(hist)));
	return object;
}

static json_t *json_hists(const struct load *load)
{
	static const char *const keys[HIST_MAX] = {
		NULL, "delete", "lag", "service", "server_reserve", "server_agent", "server_total"};
	json_t *object = json_object();

	for (int h = 0; h < HIST_MAX; h++) {
		if (load->hists[h].count)
			json_object_set_new(object, h == HIST_MAIN ? call_title(load) : keys[h],
					    json_hist(&load->hists[h]));
	}
	return object;
}

static json_t *json_reasons(const struct load *load)
{
	json_t *array = json_array();

	for (size_t i = 0; i < load->reason_count; i++) {
		const struct reason *r = &load->reasons[i];

		json_array_append_new(array, json_pack("{s:s,s:s,s:s,s:I}", "where", r->where,
						       "status", gstatus_name(r->status), "reason",
						       r->text, "count", (json_int_t)r->count));
	}
	return array;
}

static json_t *json_options(const struct load *load)
{
	const struct load_options *o = &load->o;

	return json_pack("{s:s,s:s,s:f,s:I,s:f,s:f,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:s,s:s,s:b}",
			 "target", o->target, "mode", o->mode_text, "rate",
			 o->closed ? 0.0 : o->rate, "closed", (json_int_t)o->closed, "duration_s",
			 (double)o->duration_ns / 1e9, "warmup_s", (double)o->warmup_ns / 1e9,
			 "connections", (json_int_t)o->connections, "in_flight_max",
			 (json_int_t)o->in_flight_max, "batch", (json_int_t)o->batch, "population",
			 (json_int_t)o->population, "spec_bytes", (json_int_t)o->spec_bytes, "seed",
			 (json_int_t)o->seed, "pool", o->pool, "image", o->image, "prefix",
			 o->prefix, "strong", o->strong);
}

static json_t *json_books(const struct load *load)
{
	const struct load_counts *n = &load->n;

	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:b}", "created",
			 (json_int_t)n->created, "deleted", (json_int_t)n->deleted, "delete_errors",
			 (json_int_t)n->delete_errors, "left", (json_int_t)n->left, "recovered",
			 (json_int_t)n->recovered, "leaked", (json_int_t)n->leaked, "vanished",
			 (json_int_t)n->vanished, "remaining", (json_int_t)n->remaining,
			 "allocated_before", (json_int_t)load->allocated_before, "allocated_after",
			 (json_int_t)load->allocated_after, "balanced", books_balanced(load));
}

static json_t *json_rate(const struct load *load)
{
	const struct load_counts *n = &load->n;
	struct outcome o = outcome_of(load);

	return json_pack("{s:f,s:f,s:b,s:I,s:I,s:I,s:I}", "offered_per_s", outcome_offered(&o),
			 "achieved_per_s", outcome_achieved(&o), "reached",
			 !load->o.closed && outcome_reached(&o), "arrivals",
			 (json_int_t)n->arrivals, "done", (json_int_t)n->done, "dropped",
			 (json_int_t)n->dropped, "errors", (json_int_t)n->errors);
}

static json_t *json_workers(const struct load *load)
{
	json_t *object = json_object();
	char key[16];

	for (int i = 0; i < WORKERS_MAX; i++) {
		if (!load->workers[i])
			continue;
		snprintf(key, sizeof(key), "%d", i);
		json_object_set_new(object, key, count(load->workers[i]));
	}
	return object;
}

int report_json(struct load *load, struct err *err)
{
	json_t *root;
	int rc;

	if (!load->o.json_file)
		return 0;
	root = json_pack("{s:s,s:i,s:i,s:b,s:b,s:o,s:o,s:o,s:o,s:o,s:o,s:{s:f,s:f}}", "tool",
			 "fsb-load", "agents", load->agents, "simulated_agents",
			 load->simulated_agents, "simulated", load->simulated_agents > 0,
			 "interrupted", load->interrupted, "options", json_options(load), "latency",
			 json_hists(load), "rate", json_rate(load), "reasons", json_reasons(load),
			 "books", json_books(load), "creates_by_worker", json_workers(load),
			 "generator", "cpu_s", load->cpu_s, "wall_s", load->wall_s);
	if (!root)
		return err_set(err, -ENOMEM, "out of memory for the JSON output");
	rc = strcmp(load->o.json_file, "-")
		     ? json_dump_file(root, load->o.json_file, JSON_INDENT(2))
		     : json_dumpf(root, stdout, JSON_INDENT(2));
	if (!rc && !strcmp(load->o.json_file, "-"))
		putchar('\n');
	json_decref(root);
	return rc ? err_errno(err, errno, "write '%s'", load->o.json_file) : 0;
}
