/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Grace periods over processes: over when every live participant has ended its read sections;
 * joining, dying, standing still and forking in the midst of one; the futex's wrap.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "internal.h"
#include "rig.h"

#define LONG_NS (60 * NS_PER_S) /* a deadline, not an expectation */

/* What a reader may meet: 0 published, 1 unpublished, 2 the grace period is over. */
struct scene {
	_Atomic uint32_t stage, bad, ready, end, sections;
	struct rig_barrier barrier;
};

/* No section that began before the unpublishing is open when it is over. */
static void reader_fn(struct rig *rig, void *arg)
{
	struct scene *s = arg;

	atomic_fetch_add(&s->ready, 1);
	while (!atomic_load(&s->end)) {
		reg__read_lock();
		if (atomic_load(&s->stage) == 0) {
			for (int i = 0; i < 50; i++) {
				if (atomic_load(&s->stage) == 2)
					atomic_fetch_add(&s->bad, 1);
				reg__pause();
			}
		}
		reg__read_unlock();
		atomic_fetch_add(&s->sections, 1);
	}
}

static void await(_Atomic uint32_t *word, uint32_t at_least)
{
	uint64_t deadline = clock_mono_ns() + LONG_NS;

	while (atomic_load(word) < at_least) {
		CHECK(clock_mono_ns() < deadline);
		(void)usleep(100);
	}
}

static void one_round(struct rig *rig, struct scene *s)
{
	atomic_store(&s->stage, 0);
	(void)usleep(50);
	atomic_store(&s->stage, 1);
	CHECK_OK(reg_synchronize(rig->me, LONG_NS));
	atomic_store(&s->stage, 2);
	(void)usleep(50);
}

/* The futex wraps in the sixteenth: each arena begins that near to it. */
static void test_readers_end_before(void **state)
{
	struct rig *rig = *state;
	struct scene *s = rig_shared_alloc(sizeof(*s));
	pid_t pids[3];

	for (int i = 0; i < 3; i++)
		pids[i] = rig_fork(rig, reader_fn, s);
	await(&s->ready, 3);
	for (uint32_t n = rig_scaled(200); n; n--)
		one_round(rig, s);
	CHECK((uint32_t)atomic_load(&rig->reg->hdr->gp_requested) < REG_GRACE_FIRST);
	atomic_store(&s->end, 1);
	for (int i = 0; i < 3; i++)
		rig_join(pids[i]);
	CHECK_EQ(atomic_load(&s->bad), 0);
	CHECK(atomic_load(&s->sections) > 0);
	rig_shared_free(s, sizeof(*s));
}

/* Alone: the own thread serves. */
static void test_alone(void **state)
{
	struct rig *rig = *state;
	uint64_t number = reg__grace_start(rig->reg);

	CHECK_OK(reg_synchronize(rig->me, LONG_NS));
	CHECK(reg__grace_done(rig->reg, number));
	/* not while we read */
	reg__read_lock();
	number = reg__grace_start(rig->reg);
	CHECK_ST(reg_synchronize(rig->me, 20 * NS_PER_MS), REG_TIMEOUT);
	CHECK(!reg__grace_done(rig->reg, number));
	reg__read_unlock();
	CHECK_OK(reg_synchronize(rig->me, LONG_NS));
}

/* Children that join and leave all the time: a joiner either reads what is published now, or is
 * waited for. */
static void joiner_fn(struct rig *rig, void *arg)
{
	struct scene *s = arg;

	atomic_fetch_add(&s->ready, 1);
	while (!atomic_load(&s->end)) {
		struct reg *reg;
		struct reg_self *me;

		CHECK_OK(reg_attach(rig->path, &reg));
		CHECK_OK(reg_join(reg, REG_KIND_WORKER, &me));
		reg__read_lock();
		if (atomic_load(&s->stage) == 0)
			for (int i = 0; i < 20; i++)
				if (atomic_load(&s->stage) == 2)
					atomic_fetch_add(&s->bad, 1);
		reg__read_unlock();
		(void)reg_leave(me);
		(void)reg_detach(reg);
		atomic_fetch_add(&s->sections, 1);
	}
}

static void test_joiners(void **state)
{
	struct rig *rig = *state;
	struct scene *s = rig_shared_alloc(sizeof(*s));
	pid_t pids[2];

	for (int i = 0; i < 2; i++)
		pids[i] = rig_fork_bare(rig, joiner_fn, s);
	await(&s->ready, 2);
	for (uint32_t n = rig_scaled(300); n; n--)
		one_round(rig, s);
	atomic_store(&s->end, 1);
	for (int i = 0; i < 2; i++)
		rig_join(pids[i]);
	CHECK_EQ(atomic_load(&s->bad), 0);
	CHECK(atomic_load(&s->sections) > 1);
	rig_shared_free(s, sizeof(*s));
}

static void section_then_wait(struct rig *rig, void *arg)
{
	struct scene *s = arg;

	reg__read_lock();
	atomic_store(&s->ready, 1);
	while (!atomic_load(&s->end))
		(void)usleep(200);
	reg__read_unlock();
}

static void *synchronize_fn(void *arg)
{
	struct rig *rig = arg;

	CHECK_OK(reg_synchronize(rig->me, LONG_NS));
	return NULL;
}

/* It dies inside its read section, in the midst of the period: nobody waits for the dead, reaped or
 * not. */
static void test_death(void **state)
{
	struct rig *rig = *state;
	struct scene *s = rig_shared_alloc(sizeof(*s));
	pid_t pid = rig_fork(rig, section_then_wait, s);
	struct reg_reap_result res;
	uint64_t number;
	pthread_t waiter;

	await(&s->ready, 1);
	number = reg__grace_start(rig->reg);
	CHECK_ST(reg_synchronize(rig->me, 20 * NS_PER_MS), REG_TIMEOUT);
	CHECK_EQ(pthread_create(&waiter, NULL, synchronize_fn, rig), 0);
	rig_end(pid);
	CHECK_EQ(pthread_join(waiter, NULL), 0);
	CHECK(reg__grace_done(rig->reg, number));
	CHECK_OK(reg_reap(rig->me, NULL, NULL, &res));
	CHECK_EQ(res.participants, 1);
	CHECK_OK(reg_synchronize(rig->me, LONG_NS));
	rig_shared_free(s, sizeof(*s));
}

static void stop_self(struct rig *rig, void *arg)
{
	(void)raise(SIGSTOP);
}

/* Somebody stands still: the period lasts, it is named, and everything else goes on. */
static void test_stopped(void **state)
{
	struct rig *rig = *state;
	pid_t pid;
	struct reg_laggard laggard;
	uint32_t cursor = 0;
	uint64_t number;

	(void)rig_agent(rig, "a", 4);
	pid = rig_fork(rig, stop_self, NULL);
	CHECK(rig_join_stopped(pid));
	number = reg__grace_start(rig->reg);
	CHECK_ST(reg_synchronize(rig->me, 30 * NS_PER_MS), REG_TIMEOUT);
	for (uint32_t n = rig_scaled(1000); n; n--) {
		struct reg_request req = rig_request("s");

		rig_delete(rig, rig_run(rig, &req));
	}
	CHECK(reg_laggard_next(rig->me, &cursor, &laggard));
	CHECK_EQ(laggard.pid, pid);
	CHECK(!reg_laggard_next(rig->me, &cursor, &laggard));
	(void)kill(pid, SIGCONT);
	rig_join(pid);
	CHECK_OK(reg_synchronize(rig->me, LONG_NS));
	CHECK(reg__grace_done(rig->reg, number));
}

static void *read_on(void *arg)
{
	struct scene *s = arg;

	reg__read_lock();
	atomic_store(&s->ready, 1);
	while (!atomic_load(&s->end))
		(void)usleep(200);
	reg__read_unlock();
	return NULL;
}

/*
 * A fork while another thread of the process reads and a period is under way. The child is not
 * counted and has nothing to wait for; when it attaches for itself, it can drive periods of its
 * own.
 */
static void test_fork(void **state)
{
	struct rig *rig = *state;
	struct scene *s = rig_shared_alloc(sizeof(*s));
	pthread_t reader;
	uint64_t number;
	pid_t pid;

	CHECK_EQ(pthread_create(&reader, NULL, read_on, s), 0);
	await(&s->ready, 1);
	rig_threads_rest();
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		struct reg *reg;
		struct reg_self *me;

		urcu_bp_synchronize_rcu(); /* the reader is not here */
		if (rig->reg->grace_running || reg__part_own(rig->reg, 0))
			_exit(2);
		if (reg_attach(rig->path, &reg) || reg_join(reg, REG_KIND_WORKER, &me))
			_exit(3);
		(void)reg_leave(me);
		(void)raise(SIGSTOP); /* standing still it delays nobody */
		_exit(0);
	}
	{
		int status;

		CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
		CHECK(WIFSTOPPED(status));
	}
	number = reg__grace_start(rig->reg);
	CHECK_ST(reg_synchronize(rig->me, 20 * NS_PER_MS), REG_TIMEOUT);
	atomic_store(&s->end, 1);
	CHECK_EQ(pthread_join(reader, NULL), 0);
	CHECK_OK(reg_synchronize(rig->me, LONG_NS));
	CHECK(reg__grace_done(rig->reg, number));
	(void)kill(pid, SIGCONT);
	rig_join(pid);
	rig_shared_free(s, sizeof(*s));
}

/* fork, over and over, while periods run: no child inherits a lock that is never given back. */
static void test_fork_storm(void **state)
{
	struct rig *rig = *state;

	for (uint32_t n = rig_scaled(100); n; n--) {
		pid_t pid;

		(void)reg__grace_start(rig->reg);
		pid = fork();
		CHECK(pid >= 0);
		if (!pid) {
			reg__read_lock();
			reg__read_unlock();
			urcu_bp_synchronize_rcu();
			_exit(0);
		}
		rig_join(pid);
	}
	CHECK_OK(reg_synchronize(rig->me, LONG_NS));
}

/* The last to leave ends the thread; the next to join has one again. */
static void test_leave_and_join(void **state)
{
	struct rig *rig = *state;
	struct reg_self *other;

	CHECK(rig->reg->grace_running);
	CHECK_OK(reg_join(rig->reg, REG_KIND_WORKER, &other));
	rig->me = reg_leave(rig->me);
	CHECK(rig->reg->grace_running);
	CHECK_OK(reg_synchronize(other, LONG_NS));
	(void)reg_leave(other);
	CHECK(!rig->reg->grace_running);
	CHECK_OK(reg_join(rig->reg, REG_KIND_TOOL, &rig->me));
	CHECK_OK(reg_synchronize(rig->me, LONG_NS));
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void median(struct rig *rig, const char *what)
{
	enum { N = 201 };
	static uint64_t ns[N];

	for (int i = 0; i < N; i++) {
		uint64_t begun = clock_mono_ns();

		CHECK_OK(reg_synchronize(rig->me, LONG_NS));
		ns[i] = clock_mono_ns() - begun;
	}
	qsort(ns, N, sizeof(ns[0]), compare);
	print_message("grace period, %s: p50 %lu us, p99 %lu us\n", what,
		      (unsigned long)ns[N / 2] / 1000, (unsigned long)ns[N * 99 / 100] / 1000);
}

static void idle_fn(struct rig *rig, void *arg)
{
	struct scene *s = arg;

	atomic_fetch_add(&s->ready, 1);
	while (!atomic_load(&s->end))
		(void)usleep(1000);
}

static void spin_fn(struct rig *rig, void *arg)
{
	struct scene *s = arg;

	atomic_fetch_add(&s->ready, 1);
	while (!atomic_load(&s->end)) {
		reg__read_lock();
		for (int i = 0; i < 20; i++)
			reg__pause();
		reg__read_unlock();
	}
}

/* Figures, no threshold: the document quotes what this prints. */
static void test_measure(void **state)
{
	struct rig *rig = *state;
	struct scene *s = rig_shared_alloc(sizeof(*s));
	rig_fn fns[] = {idle_fn, spin_fn};

	for (int k = 0; k < 2; k++) {
		pid_t pids[3];

		atomic_store(&s->ready, 0);
		atomic_store(&s->end, 0);
		for (int i = 0; i < 3; i++)
			pids[i] = rig_fork(rig, fns[k], s);
		await(&s->ready, 3);
		median(rig, k ? "three spinning readers" : "three idle processes");
		atomic_store(&s->end, 1);
		for (int i = 0; i < 3; i++)
			rig_join(pids[i]);
	}
	rig_shared_free(s, sizeof(*s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_alone, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_readers_end_before, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_joiners, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_death, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_stopped, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_fork, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_fork_storm, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_leave_and_join, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_measure, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
