/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes of the registry's tests: each attaches and joins for itself and dies with its
 * parent. */
#include "rig.h"
#include "rig_proc.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum { CHILDREN_MAX = 64 };
static pid_t children[CHILDREN_MAX];
static bool in_child;

bool rig_proc_in_child(void)
{
	return in_child;
}

static void remember(pid_t pid)
{
	for (int i = 0; i < CHILDREN_MAX; i++)
		if (!children[i]) {
			children[i] = pid;
			return;
		}
	abort();
}

static void forget(pid_t pid)
{
	for (int i = 0; i < CHILDREN_MAX; i++)
		if (children[i] == pid)
			children[i] = 0;
}

void rig_proc_end_all(void)
{
	for (int i = 0; i < CHILDREN_MAX; i++)
		if (children[i])
			rig_end(children[i]);
}

/* cmocka catches these and goes on with the next test, in a child as well: here a crash has to be a
 * crash. */
static void crash_for_real(void)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGABRT};

	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)signal(signals[i], SIG_DFL);
}

#ifdef __SANITIZE_ADDRESS__
/* 'S' of "tid (name) S …": it sleeps, so it holds no lock of the allocator. */
static bool thread_sleeps(const char *tid)
{
	char path[64], line[256] = "";
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%.20s/stat", tid);
	f = fopen(path, "re");
	if (!f)
		return true; /* over already */
	(void)!fgets(line, sizeof(line), f);
	(void)fclose(f);
	return strstr(line, ") S ") != NULL;
}

/* AddressSanitizer's allocator is not made ready for a fork: a child would inherit the lock that
 * another thread holds. So no other thread may be running. */
void rig_threads_rest(void)
{
	uint64_t end_ns = clock_mono_ns() + 10 * NS_PER_S;
	bool busy = true;

	while (busy && clock_mono_ns() < end_ns) {
		DIR *dir = opendir("/proc/self/task");
		struct dirent *e;

		CHECK(dir != NULL);
		busy = false;
		while ((e = readdir(dir)))
			busy |= *e->d_name != '.' && atoi(e->d_name) != gettid() &&
				!thread_sleeps(e->d_name);
		(void)closedir(dir);
		(void)sched_yield();
	}
}
#else
void rig_threads_rest(void) {}
#endif

static pid_t fork_child(pid_t parent)
{
	pid_t pid;

	(void)fflush(stdout);
	(void)fflush(stderr);
	rig_threads_rest();
	pid = fork();
	CHECK(pid >= 0);
	if (pid > 0) {
		remember(pid);
		return pid;
	}
	in_child = true;
	crash_for_real();
	memset(children, 0, sizeof(children));
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(96);
	return 0;
}

pid_t rig_fork_bare(const struct rig *rig, rig_fn fn, void *arg)
{
	struct rig child = {0};
	pid_t pid = fork_child(getpid());

	if (pid > 0)
		return pid;
	memcpy(child.path, rig->path, sizeof(child.path));
	fn(&child, arg);
	_exit(0);
}

pid_t rig_fork(const struct rig *rig, rig_fn fn, void *arg)
{
	struct rig child = {0};
	pid_t pid = fork_child(getpid());

	if (pid > 0)
		return pid;
	memcpy(child.path, rig->path, sizeof(child.path));
	CHECK_OK(reg_attach(child.path, &child.reg));
	CHECK_OK(reg_join(child.reg, REG_KIND_WORKER, &child.me));
	fn(&child, arg);
	(void)reg_leave(child.me);
	(void)reg_detach(child.reg);
	_exit(0);
}

/* waitpid with a deadline, so that a hang is a failure with a text. */
static int wait_status(pid_t pid, int flags)
{
	uint64_t deadline = clock_mono_ns() + (rig_long() ? 1200 : 120) * NS_PER_S;
	struct timespec nap = {.tv_nsec = 20000};
	int status;

	for (;;) {
		pid_t got = waitpid(pid, &status, flags | WNOHANG);

		if (got == pid)
			break;
		CHECK(got == 0 || errno == EINTR);
		if (clock_mono_ns() > deadline) {
			(void)fprintf(stderr, "child %d does not end\n", pid);
			rig_end(pid);
			CHECK(!"the child ended in time");
		}
		(void)nanosleep(&nap, NULL);
		if (nap.tv_nsec < 2000000)
			nap.tv_nsec *= 2;
	}
	if (!WIFSTOPPED(status))
		forget(pid);
	return status;
}

int rig_join_status(pid_t pid)
{
	return wait_status(pid, 0);
}

void rig_join(pid_t pid)
{
	CHECK_EQ(wait_status(pid, 0), 0);
}

bool rig_join_killed(pid_t pid)
{
	int status = wait_status(pid, 0);

	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return true;
	CHECK_EQ(status, 0);
	return false;
}

bool rig_join_stopped(pid_t pid)
{
	int status = wait_status(pid, WUNTRACED);

	if (WIFSTOPPED(status))
		return true;
	CHECK_EQ(status, 0);
	return false;
}

void rig_end(pid_t pid)
{
	int status;

	(void)kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	forget(pid);
}

void *rig_shared_alloc(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

void rig_shared_free(void *p, size_t size)
{
	(void)munmap(p, size);
}

void rig_barrier_wait(struct rig_barrier *barrier, uint32_t n)
{
	uint64_t deadline = clock_mono_ns() + 60 * NS_PER_S;
	/* acquire/acq_rel: a plain barrier, what came before it is seen after it */
	uint32_t round = atomic_load_explicit(&barrier->round, memory_order_acquire);

	if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) + 1 == n) {
		atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
		atomic_fetch_add_explicit(&barrier->round, 1, memory_order_release);
		return;
	}
	for (uint32_t spins = 0;
	     atomic_load_explicit(&barrier->round, memory_order_acquire) == round;) {
		if (++spins % 64 == 0)
			(void)sched_yield();
		if (spins % 65536 == 0)
			CHECK(clock_mono_ns() < deadline);
	}
}
