/* SPDX-License-Identifier: Apache-2.0 */
/* What the simulated agents did, and what that cost: a log line and a JSON file, both of which say
 * that it was simulated. */
#include <fcntl.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "sim.h"

static int open_files(void)
{
	cleanup_closedir DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (dir && readdir(dir))
		n++;
	return n - 3; /* ".", ".." and the directory itself */
}

static double cpu_s(void)
{
	struct rusage usage;

	(void)getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* KiB, of /proc/self/status; 0 when it can't be read. */
static uint64_t rss_kib(void)
{
	cleanup_free char *text = NULL;
	const char *at;

	if (io_read_file(AT_FDCWD, "/proc/self/status", 65536, &text, NULL))
		return 0;
	at = strstr(text, "VmRSS:");
	return at ? strtoull(at + 6, NULL, 10) : 0;
}

static void put_counters(FILE *out, const struct sim_stats *s)
{
	const struct {
		const char *name;
		uint64_t value;
	} counters[] = {
		{"running", s->running},
		{"running_max", s->running_max},
		{"commands", s->commands},
		{"starts", s->starts},
		{"started", s->started},
		{"stops", s->stops},
		{"stopped", s->stopped},
		{"exits", s->exits},
		{"removes", s->removes},
		{"fences", s->fences},
		{"fenced", s->fenced},
		{"repeats", s->repeats},
		{"refused_full", s->refused_full},
		{"refused_fenced", s->refused_fenced},
		{"refused_image", s->refused_image},
		{"refused_spec", s->refused_spec},
		{"refused_epoch", s->refused_epoch},
		{"failed", s->failed},
		{"hellos", s->hellos},
		{"peers", s->peers},
		{"peers_max", s->peers_max},
		{"accepted", s->accepted},
		{"unaccepted", s->unaccepted},
		{"messages_in", s->messages_in},
		{"messages_out", s->messages_out},
		{"events", s->events},
		{"late_ns_max", s->late_ns_max},
	};

	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		fprintf(out, "  \"%s\": %llu,\n", counters[i].name,
			(unsigned long long)counters[i].value);
}

/* Only names of ours and numbers: nothing needs escaping. */
static void write_file(const struct sim *sim)
{
	const struct sim_stats *s = &sim->stats;
	cleanup_free char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int rc;

	if (!out)
		return;
	fprintf(out, "{\n  \"simulated\": true,\n  \"agents\": %lld,\n", (long long)sim->o.agents);
	put_counters(out, s);
	fprintf(out, "  \"late_ns_mean\": %.0f,\n",
		s->late_count ? s->late_ns_sum / (double)s->late_count : 0.0);
	fprintf(out, "  \"seconds\": %.3f,\n  \"cpu_s\": %.3f,\n",
		(double)(clock_mono_ns() - sim->start_ns) / 1e9, cpu_s());
	fprintf(out, "  \"rss_kib\": %llu,\n  \"files\": %d\n}\n", (unsigned long long)rss_kib(),
		open_files());
	if (fclose(out))
		return;
	rc = io_write_file_atomic(AT_FDCWD, sim->o.stats_file, text, len, 0644, 0);
	if (rc)
		log_error("statistics not written", "simulated=true path=%s err=%s",
			  sim->o.stats_file, strerror(-rc));
}

void sim_stats_report(const struct sim *sim)
{
	const struct sim_stats *s = &sim->stats;

	if (sim->o.stats_file)
		write_file(sim);
	log_info(
		"totals",
		"simulated=true agents=%lld started=%llu stopped=%llu running=%u refused_full=%llu "
		"peers=%u files=%d rss_kib=%llu cpu_ms=%llu",
		(long long)sim->o.agents, (unsigned long long)s->started,
		(unsigned long long)s->stopped, s->running, (unsigned long long)s->refused_full,
		s->peers, open_files(), (unsigned long long)rss_kib(),
		(unsigned long long)(cpu_s() * 1e3));
}
