/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement alone, from inside the registry: choose an agent, take a slot, give it back, without
 * name and record. One and two processes, releasing their own slots or each other's; by homes, or
 * by whole passes over dense hints. Prints one line per case; the figures of docs/placement.md.
 */
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "internal.h"
#include "registry/bench.h"

enum { PROCESSES_MAX = 16, RING = 256, BLOCK = 256, BLOCKS_MAX = 1 << 17 };

struct spec {
	uint32_t agents, processes, fill; /* fill: percent of the slots that are held throughout */
	bool foreign, dense, random, one_free;
	double seconds;
};

/* A slot on its way to the one who releases it: agent + 1 18 | slot 12 | generation 28; 0: none */
struct lane {
	_Alignas(64) _Atomic uint64_t slot[RING];
};

struct result {
	double pair_ns;
	uint64_t pairs, refused, steals;
};

struct shared {
	_Alignas(64) _Atomic uint32_t ready, go;
	_Alignas(64) _Atomic uint32_t stop, done;
	uint32_t record[PROCESSES_MAX]; /* hidden, claimed by that process */
	struct result result[PROCESSES_MAX];
	struct lane lane[PROCESSES_MAX];
};

struct worker {
	const struct spec *spec;
	struct shared *shared;
	struct reg *reg;
	struct reg_self *me;
	struct reg_bench_target target;
	uint32_t rank;
	struct reg_lease held[RING];
	uint64_t random, refused;
};

static const char ns[] = "bench", pool_name[] = "pool", image_name[] = "image";

static void must(enum reg_status status, const char *what)
{
	if (status == REG_OK)
		return;
	(void)fprintf(stderr, "%s: %s\n", what, reg_status_name(status));
	exit(2);
}

/* ---- the world ---- */

static uint32_t slots_of(uint32_t agent)
{
	return 16 + agent * 2654435761u % 49; /* 16..64 */
}

static void join_agents(struct reg_self *me, const struct spec *spec)
{
	const char *images[] = {image_name};

	for (uint32_t i = 0; i < spec->agents; i++) {
		char name[24];
		reg_agent_id id;
		struct reg_agent_info info = {.ns = ns,
					      .name = name,
					      .pool = pool_name,
					      .capacity = (int32_t)slots_of(i)};

		(void)snprintf(name, sizeof(name), "agent-%u", i);
		must(reg_agent_join(me, &info, &id), "reg_agent_join");
		must(reg_agent_set_images(me, id, images, i % 2), "reg_agent_set_images");
		must(reg_agent_set_ready(me, id, true), "reg_agent_set_ready");
	}
}

/* A hidden record: claimed, never published, without ports. */
static uint32_t record_new(struct reg_self *me)
{
	uint64_t word;
	uint32_t idx;

	must(reg__cell_take(me, CELLS_RECORDS, REG_CLAIMED, 0, REG_LIMIT_SANDBOXES, &idx, &word),
	     "a record");
	return idx;
}

static uint64_t slots_with_image(const struct spec *spec)
{
	uint64_t sum = 0;

	for (uint32_t i = 1; i < spec->agents; i += 2)
		sum += slots_of(i);
	return sum;
}

/* Held by nobody who measures: as after commits. */
static void fill(struct reg_self *me, const struct spec *spec)
{
	struct reg_bench_target target;
	struct reg_lease lease;
	uint32_t record;
	uint64_t n = slots_with_image(spec) * spec->fill / 100;

	must(reg_bench_target(me, ns, pool_name, image_name, &target), "the pool");
	record = record_new(me);
	if (spec->one_free)
		n = slots_with_image(spec) - spec->processes;
	for (uint64_t i = 0; i < n; i++)
		must(reg__place(me, target.pool, target.image, record, &lease), "fill");
}

/* ---- a worker ---- */

static bool take(struct worker *w, struct reg_lease *ret)
{
	enum reg_status st =
		reg__place(w->me, w->target.pool, w->target.image, w->shared->record[w->rank], ret);

	w->refused += st != REG_OK;
	return st == REG_OK;
}

static void give(struct worker *w, const struct reg_lease *l)
{
	reg__slot_free(w->me, l->agent.idx, l->slot, l->slot_gen, w->shared->record[w->rank]);
}

static uint32_t below(struct worker *w, uint32_t n)
{
	w->random ^= w->random << 13; /* xorshift64 */
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (uint32_t)(w->random % n);
}

/* A fresh one, then one of those held is given back. */
static void own_pair(struct worker *w, uint32_t i)
{
	uint32_t at = w->spec->random ? below(w, RING) : i % RING;
	struct reg_lease fresh;

	if (!take(w, &fresh))
		return;
	give(w, &w->held[at]);
	w->held[at] = fresh;
}

/* The one free slot: given back, taken again. */
static void single_pair(struct worker *w, uint32_t i)
{
	(void)i;
	give(w, &w->held[0]);
	while (!take(w, &w->held[0]))
		;
}

/* Gives back what the other one has taken, then takes one for the other one to give back. */
static void foreign_pair(struct worker *w, uint32_t i)
{
	struct shared *sh = w->shared;
	uint32_t other = (w->rank + 1) % w->spec->processes;
	_Atomic uint64_t *theirs = &sh->lane[other].slot[i % RING];
	_Atomic uint64_t *mine = &sh->lane[w->rank].slot[i % RING];
	struct reg_lease l;
	uint64_t x;

	while (!(x = atomic_exchange_explicit(theirs, 0, memory_order_acquire)))
		if (atomic_load_explicit(&sh->stop, memory_order_relaxed))
			return;
	reg__slot_free(w->me, place_agent(x), place_slot(x), place_gen(x), sh->record[other]);
	while (atomic_load_explicit(mine, memory_order_relaxed))
		if (atomic_load_explicit(&sh->stop, memory_order_relaxed))
			return;
	if (take(w, &l))
		atomic_store_explicit(mine, place_make(l.agent.idx, l.slot, l.slot_gen),
				      memory_order_release);
}

typedef void pair_fn(struct worker *w, uint32_t i);

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Blocks of pairs until told to stop; the median of their means. */
static void measure(struct worker *w, pair_fn *pair, struct result *ret)
{
	static double means[BLOCKS_MAX];
	uint32_t blocks = 0, i = 0;

	while (!atomic_load_explicit(&w->shared->stop, memory_order_relaxed) &&
	       blocks < BLOCKS_MAX) {
		uint64_t start = clock_mono_ns();

		for (uint32_t k = 0; k < BLOCK; k++)
			pair(w, i++);
		means[blocks++] = (double)(clock_mono_ns() - start) / BLOCK;
	}
	qsort(means, blocks, sizeof(means[0]), by_value);
	ret->pair_ns = blocks ? means[blocks / 2] : 0;
	ret->pairs = i;
	ret->refused = w->refused;
	ret->steals = w->me ? atomic_load_explicit(&w->me->part->count[REG_COUNT_STEAL],
						   memory_order_relaxed)
			    : 0;
}

static void pin(uint32_t cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % (uint32_t)sysconf(_SC_NPROCESSORS_ONLN), &set);
	(void)sched_setaffinity(0, sizeof(set), &set);
}

static void start_together(struct shared *sh)
{
	atomic_fetch_add_explicit(&sh->ready, 1, memory_order_acq_rel);
	while (!atomic_load_explicit(&sh->go, memory_order_acquire))
		__builtin_ia32_pause();
}

static void cas_pair(struct worker *w, uint32_t i)
{
	static _Alignas(64) _Atomic uint64_t word;
	uint64_t none = 0, one = 1;

	(void)w;
	(void)i;
	(void)atomic_compare_exchange_strong_explicit(&word, &none, 1, memory_order_acquire,
						      memory_order_relaxed);
	(void)atomic_compare_exchange_strong_explicit(&word, &one, 0, memory_order_release,
						      memory_order_relaxed);
}

static void worker_registry(struct worker *w)
{
	const struct spec *spec = w->spec;
	pair_fn *pair = spec->one_free ? single_pair : spec->foreign ? foreign_pair : own_pair;

	must(reg_join(w->reg, spec->dense ? REG_KIND_TOOL : REG_KIND_WORKER, &w->me), "reg_join");
	must(reg_bench_target(w->me, ns, pool_name, image_name, &w->target), "the pool");
	w->shared->record[w->rank] = record_new(w->me);
	start_together(w->shared); /* all have joined */
	for (uint32_t i = 0; i < (spec->one_free ? 1 : RING); i++) {
		struct reg_lease l;

		if (!take(w, &l))
			break;
		w->held[i] = l;
		if (spec->foreign)
			w->shared->lane[w->rank].slot[i] =
				place_make(l.agent.idx, l.slot, l.slot_gen);
	}
	measure(w, pair, &w->shared->result[w->rank]);
}

static void worker_run(const struct spec *spec, struct shared *sh, const char *path, uint32_t rank)
{
	struct worker w = {
		.spec = spec, .shared = sh, .rank = rank, .random = 88172645463325252u + rank};

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin(rank);
	if (path) {
		must(reg_attach(path, &w.reg), "reg_attach");
		worker_registry(&w);
	} else {
		start_together(sh);
		measure(&w, cas_pair, &sh->result[rank]);
	}
	_exit(0);
}

/* ---- a case ---- */

static void run_workers(const struct spec *spec, struct shared *sh, const char *path)
{
	pid_t pid[PROCESSES_MAX];
	int status;

	memset(sh, 0, sizeof(*sh));
	for (uint32_t i = 0; i < spec->processes; i++) {
		pid[i] = fork();
		base_bug(pid[i] < 0);
		if (!pid[i])
			worker_run(spec, sh, path, i);
	}
	while (atomic_load_explicit(&sh->ready, memory_order_acquire) < spec->processes)
		(void)usleep(1000);
	atomic_store_explicit(&sh->go, 1, memory_order_release);
	(void)usleep((useconds_t)(spec->seconds * 1e6));
	atomic_store_explicit(&sh->stop, 1, memory_order_relaxed);
	for (uint32_t i = 0; i < spec->processes; i++)
		base_bug(waitpid(pid[i], &status, 0) != pid[i] || status != 0);
}

/* Highest minus lowest load of the agents with the image that are not full. */
static uint32_t spread(struct reg_self *me)
{
	uint32_t cursor = 0, low = UINT32_MAX, high = 0, i = 0;
	struct reg_agent_view v;

	while (reg_agent_next(me, &cursor, &v)) {
		if (i++ % 2 == 0 || v.allocated >= v.slots)
			continue;
		low = v.allocated < low ? v.allocated : low;
		high = v.allocated > high ? v.allocated : high;
	}
	return high > low ? high - low : 0;
}

static void run_registry(const struct spec *spec, struct shared *sh)
{
	struct reg_limits limits = {.agents = spec->agents, .sandboxes = 65536};
	char path[64];
	struct reg *reg;
	struct reg_self *me;

	(void)snprintf(path, sizeof(path), "/dev/shm/fsb-placement-%d", (int)getpid());
	must(reg_create(path, &limits, &reg), "reg_create");
	must(reg_join(reg, REG_KIND_TOOL, &me), "reg_join");
	join_agents(me, spec);
	fill(me, spec);
	run_workers(spec, sh, path);
	printf("%7u agents  %u proc  %-7s %-5s %s fill %2u%%  ", spec->agents, spec->processes,
	       spec->one_free  ? "1 free"
	       : spec->foreign ? "foreign"
			       : "own",
	       spec->random ? "any" : "old", spec->dense ? "dense" : "homes", spec->fill);
	for (uint32_t i = 0; i < spec->processes; i++)
		printf("%7.1f ns", sh->result[i].pair_ns);
	printf("  refused %llu  steals %.4f  spread %u\n",
	       (unsigned long long)sh->result[0].refused,
	       (double)sh->result[0].steals / (double)sh->result[0].pairs, spread(me));
	(void)fflush(stdout);
	reg_leave(me);
	reg_detach(reg);
	(void)unlink(path);
}

static void run_cas(struct shared *sh, uint32_t processes, double seconds)
{
	struct spec spec = {.processes = processes, .seconds = seconds};

	run_workers(&spec, sh, NULL);
	printf("cas pair, private lines, %u proc  ", processes);
	for (uint32_t i = 0; i < processes; i++)
		printf("%7.1f ns", sh->result[i].pair_ns);
	printf("\n");
}

static void usage(void)
{
	(void)fprintf(
		stderr,
		"placement AGENTS PROCESSES own|foreign|one-free homes|dense [old|any] [SECONDS] "
		"[FILL]\nplacement cas PROCESSES\n");
	exit(2);
}

int main(int argc, char **argv)
{
	struct shared *sh =
		mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	base_bug(sh == MAP_FAILED);
	if (argc < 3)
		usage();
	struct spec spec = {.agents = (uint32_t)atoi(argv[1]),
			    .processes = (uint32_t)atoi(argv[2]),
			    .seconds = argc > 6 ? atof(argv[6]) : 0.5,
			    .fill = argc > 7 ? (uint32_t)atoi(argv[7]) : 25};
	if (spec.processes < 1 || spec.processes > PROCESSES_MAX)
		usage();
	if (strcmp(argv[1], "cas") == 0) {
		run_cas(sh, spec.processes, spec.seconds);
		return 0;
	}
	if (argc < 5 || !spec.agents || spec.fill > 90)
		usage();
	spec.foreign = strcmp(argv[3], "foreign") == 0;
	spec.one_free = strcmp(argv[3], "one-free") == 0;
	spec.dense = strcmp(argv[4], "dense") == 0;
	spec.random = argc > 5 && strcmp(argv[5], "any") == 0;
	run_registry(&spec, sh);
	return 0;
}
