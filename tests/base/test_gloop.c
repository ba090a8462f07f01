/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop without calls: timers, posts, signals, watched fds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/gloop.h"

struct trace {
	struct gloop *loop;
	struct gloop_timer *timer;
	int values[4096];
	int count, stop_at;
};

static struct trace trace;

static void trace_add(int value)
{
	trace.values[trace.count++] = value;
	if (trace.count == trace.stop_at)
		gloop_stop(trace.loop);
}

static void add_fn(void *arg)
{
	trace_add((int)(intptr_t)arg);
}

static int setup(void **state)
{
	(void)state;
	memset(&trace, 0, sizeof(trace));
	trace.loop = gloop_new(NULL);
	return trace.loop ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	trace.loop = gloop_free(trace.loop);
	return 0;
}

/* A permutation of 1..n ms as delays. They keep that order only when all are armed within 1 ms. */
static void arm_quickly(struct gloop_timer **timers, int n)
{
	uint64_t began_ns;
	int tries = 0;

	do {
		began_ns = clock_mono_ns();
		for (int i = 0; i < n; i++) {
			int k = i * 77 % n;

			gloop_timer_set(timers[k], (uint64_t)(k + 1) * NS_PER_MS);
		}
	} while (clock_mono_ns() - began_ns >= NS_PER_MS && ++tries < 1000);
	assert_in_range(tries, 0, 999);
}

static void test_timers_run_in_order_of_due_time(void **state)
{
	enum { TIMERS = 200 };
	struct gloop_timer *timers[TIMERS];

	(void)state;
	for (int i = 0; i < TIMERS; i++) {
		timers[i] = gloop_timer_new(trace.loop, add_fn, (void *)(intptr_t)i);
		assert_non_null(timers[i]);
	}
	arm_quickly(timers, TIMERS);
	for (int i = 0; i < TIMERS; i += 2)
		gloop_timer_cancel(timers[i]);
	trace.stop_at = TIMERS / 2;
	gloop_run(trace.loop);
	for (int i = 0; i < trace.count; i++)
		assert_int_equal(trace.values[i], 2 * i + 1);
	for (int i = 0; i < TIMERS; i++)
		assert_null(gloop_timer_free(timers[i]));
}

static void test_timer_keeps_its_delay(void **state)
{
	struct gloop_timer *timer = gloop_timer_new(trace.loop, add_fn, NULL);
	uint64_t begin_ns = clock_mono_ns(), took_ns;

	(void)state;
	trace.stop_at = 1;
	gloop_timer_set(timer, 500 * NS_PER_MS);
	gloop_timer_set(timer, 20 * NS_PER_MS); /* the later call counts */
	gloop_run(trace.loop);
	took_ns = clock_mono_ns() - begin_ns;
	assert_in_range(took_ns, 20 * NS_PER_MS, 400 * NS_PER_MS);
	(void)gloop_timer_free(timer);
}

static void rearm_fn(void *arg)
{
	(void)arg;
	if (trace.count < 2)
		gloop_timer_set(trace.timer, 0);
	else
		trace.timer = gloop_timer_free(trace.timer);
	trace_add(0);
}

static void test_timer_may_rearm_and_free_itself(void **state)
{
	(void)state;
	trace.timer = gloop_timer_new(trace.loop, rearm_fn, NULL);
	trace.stop_at = 3;
	gloop_timer_set(trace.timer, 0);
	gloop_run(trace.loop);
	assert_int_equal(trace.count, 3);
	assert_null(trace.timer);
}

static void test_poll_tells_whether_something_was_served(void **state)
{
	struct gloop_timer *timer = gloop_timer_new(trace.loop, add_fn, NULL);

	(void)state;
	assert_false(gloop_poll(trace.loop, 0));
	assert_false(gloop_poll(trace.loop, 5));
	gloop_timer_set(timer, 0);
	assert_true(gloop_poll(trace.loop, 0));
	gloop_timer_set(timer, 5 * NS_PER_MS);
	while (!gloop_poll(trace.loop, 1000))
		;
	assert_int_equal(trace.count, 2);
	assert_int_equal(gloop_post(trace.loop, add_fn, NULL), 0);
	assert_true(gloop_poll(trace.loop, 1000));
	assert_int_equal(trace.count, 3);
	(void)gloop_timer_free(timer);
}

static void *post_thread(void *arg)
{
	int base = (int)(intptr_t)arg;

	for (int i = 0; i < 1000; i++)
		assert_int_equal(gloop_post(trace.loop, add_fn, (void *)(intptr_t)(base + i)), 0);
	return NULL;
}

static void test_posts_from_threads_keep_each_threads_order(void **state)
{
	pthread_t threads[3];
	int next[3] = {0, 1000, 2000};

	(void)state;
	trace.stop_at = 3000;
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, post_thread,
						(void *)(intptr_t)(i * 1000)),
				 0);
	gloop_run(trace.loop);
	for (int i = 0; i < 3; i++)
		(void)pthread_join(threads[i], NULL);
	for (int i = 0; i < trace.count; i++)
		assert_int_equal(trace.values[i], next[trace.values[i] / 1000]++);
}

static void post_again_fn(void *arg)
{
	(void)arg;
	trace_add(trace.count);
	if (trace.count < 100)
		assert_int_equal(gloop_post(trace.loop, post_again_fn, NULL), 0);
}

static void test_a_post_may_post(void **state)
{
	(void)state;
	trace.stop_at = 100;
	assert_int_equal(gloop_post(trace.loop, post_again_fn, NULL), 0);
	gloop_run(trace.loop);
	assert_int_equal(trace.count, 100);
}

static void signal_fn(void *arg, int signo)
{
	(void)arg;
	trace_add(signo);
}

static void test_signals_arrive_on_the_loop(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(gloop_on_signal(trace.loop, SIGUSR1, signal_fn, NULL, &err), 0);
	assert_int_equal(gloop_on_signal(trace.loop, SIGTERM, signal_fn, NULL, &err), 0);
	assert_int_equal(gloop_on_signal(trace.loop, 0, signal_fn, NULL, &err), -EINVAL);
	trace.stop_at = 1;
	assert_int_equal(kill(getpid(), SIGUSR1), 0);
	gloop_run(trace.loop);
	trace.stop_at = 2;
	assert_int_equal(kill(getpid(), SIGTERM), 0);
	gloop_run(trace.loop);
	assert_int_equal(trace.values[0], SIGUSR1);
	assert_int_equal(trace.values[1], SIGTERM);
}

static void readable_fn(void *arg, int fd)
{
	char byte;

	(void)arg;
	assert_int_equal(read(fd, &byte, 1), 1); /* one at a time: level-triggered */
	trace_add(byte);
}

static void test_fd_is_watched_level_triggered(void **state)
{
	struct gloop_fd *watch;
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	watch = gloop_fd_add(trace.loop, fds[0], readable_fn, NULL, NULL);
	assert_non_null(watch);
	assert_int_equal(write(fds[1], "abc", 3), 3);
	trace.stop_at = 3;
	gloop_run(trace.loop);
	assert_memory_equal(((int[]){'a', 'b', 'c'}), trace.values, 3 * sizeof(int));
	assert_null(gloop_fd_del(watch));
	assert_int_equal(write(fds[1], "d", 1), 1);
	assert_false(gloop_poll(trace.loop, 20)); /* nobody watches any more */
	assert_int_equal(trace.count, 3);
	(void)close(fds[0]);
	(void)close(fds[1]);
}

static struct gloop_fd *watches[2];

/* The first handler that runs removes both watches, its own and one that may be ready. */
static void remove_fn(void *arg, int fd)
{
	(void)arg;
	(void)fd;
	for (int i = 0; i < 2; i++)
		watches[i] = gloop_fd_del(watches[i]);
	trace_add(1);
}

static void test_a_handler_may_remove_watches(void **state)
{
	int fds[2][2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe(fds[i]), 0);
		assert_int_equal(write(fds[i][1], "x", 1), 1);
		watches[i] = gloop_fd_add(trace.loop, fds[i][0], remove_fn, NULL, NULL);
		assert_non_null(watches[i]);
	}
	trace.stop_at = 1;
	gloop_run(trace.loop);
	(void)gloop_poll(trace.loop, 20);
	assert_int_equal(trace.count, 1);
	for (int i = 0; i < 2; i++) {
		(void)close(fds[i][0]);
		(void)close(fds[i][1]);
	}
}

static void test_watching_a_bad_fd_is_an_error(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_null(gloop_fd_add(trace.loop, 9999, readable_fn, NULL, &err));
	assert_int_equal(err.code, -EBADF);
}

/* gloop.c finds abseil's switch by name: after a change of the library it must be looked up anew.
 */
static void test_the_deadlock_detectors_switch_is_there(void **state)
{
	(void)state;
	assert_non_null(dlsym(RTLD_DEFAULT, "_ZN4absl7debian329SetMutexDeadlockDetectionMode"
					    "ENS0_15OnDeadlockCycleE"));
}

static void test_status_names(void **state)
{
	(void)state;
	assert_string_equal(gstatus_name(G_OK), "OK");
	assert_string_equal(gstatus_name(G_UNAVAILABLE), "UNAVAILABLE");
	assert_string_equal(gstatus_name(99), "UNKNOWN");
}

#define loop_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		loop_test(test_timers_run_in_order_of_due_time),
		loop_test(test_timer_keeps_its_delay),
		loop_test(test_timer_may_rearm_and_free_itself),
		loop_test(test_poll_tells_whether_something_was_served),
		loop_test(test_posts_from_threads_keep_each_threads_order),
		loop_test(test_a_post_may_post),
		loop_test(test_signals_arrive_on_the_loop),
		loop_test(test_fd_is_watched_level_triggered),
		loop_test(test_a_handler_may_remove_watches),
		loop_test(test_watching_a_bad_fd_is_an_error),
		cmocka_unit_test(test_the_deadlock_detectors_switch_is_there),
		cmocka_unit_test(test_status_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
