/* SPDX-License-Identifier: Apache-2.0 */
/* See testing.h. */
#include "testing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"

static const char *const hierarchies[] = {"memory", "cpu", "pids", "unified", "."};

static void die(const char *what)
{
	fprintf(stderr, "test set-up: %s: %s\n", what, strerror(errno));
	exit(1);
}

void testing_need_root(void)
{
	if (geteuid() == 0)
		return;
	printf("skipped: namespaces, mounts and cgroups need root\n");
	exit(0);
}

/*
 * What test programs left that were killed, by a timeout for example: sandboxes, launchers (agents
 * die with the program), cgroups, directories.
 */
static void sweep(const char *tmp)
{
	testing_sh(
		"for d in %s/fsb-test-[0-9]*; do pid=${d##*-}; [ -d $d ] && ! [ -d /proc/$pid ] || "
		"continue; kill -9 $(cat $d/agents/*.launcher.pid 2>/dev/null) 2>/dev/null; "
		"for c in /sys/fs/cgroup/*/fsb/t$pid; do "
		"kill -9 $(cat $c/*/*/cgroup.procs 2>/dev/null) 2>/dev/null; done; sleep 0.2; "
		"for c in /sys/fs/cgroup/*/fsb/t$pid; do [ ! -d $c ] || find $c -depth -type d "
		"-exec rmdir {} +; done; rm -rf $d; done",
		tmp);
}

void testbed_make(struct testbed *bed)
{
	const char *tmp = getenv("TMPDIR");
	char self[256], path[128];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	sweep(tmp ? tmp : "/tmp");
	if (n < 0)
		die("readlink /proc/self/exe");
	self[n] = '\0';
	snprintf(bed->bin_dir, sizeof(bed->bin_dir), "%s/../bin", dirname(self));
	snprintf(bed->instance, sizeof(bed->instance), "t%d", getpid());
	snprintf(bed->run_dir, sizeof(bed->run_dir), "%s/fsb-test-%d", tmp ? tmp : "/tmp",
		 getpid());
	snprintf(path, sizeof(path), "%s/log", bed->run_dir);
	if (io_mkdirs(path, 0750))
		die(path);
}

int testing_sh(const char *fmt, ...)
{
	char command[4096];
	va_list ap;
	int status;

	va_start(ap, fmt);
	if (vsnprintf(command, sizeof(command), fmt, ap) >= (int)sizeof(command))
		abort();
	va_end(ap);
	status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void testbed_remove(struct testbed *bed)
{
	struct leftovers left = testing_count(bed, "*");

	if (left.processes) {
		fprintf(stderr, "%d processes of %s are left\n", left.processes, bed->run_dir);
		testing_sh("tail -n 50 %s/log/*", bed->run_dir);
		exit(1);
	}
	for (size_t i = 0; i < sizeof(hierarchies) / sizeof(*hierarchies); i++)
		testing_sh(
			"d=/sys/fs/cgroup/%s/fsb/%s; [ ! -d $d ] || find $d -depth -type d -delete",
			hierarchies[i], bed->instance);
	if (io_remove_tree(AT_FDCWD, bed->run_dir))
		die(bed->run_dir);
}

pid_t testing_spawn(const struct testbed *bed, char *const argv[])
{
	char path[300], log[128];
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(path, sizeof(path), "%s/%s", bed->bin_dir, argv[0]);
	snprintf(log, sizeof(log), "%s/log/test.log", bed->run_dir);
	dup2(open(log, O_WRONLY | O_CREAT | O_APPEND, 0640), 2);
	execv(path, argv);
	_exit(127);
}

int testing_end(pid_t pid, int signo)
{
	int status = -1;

	kill(pid, signo);
	waitpid(pid, &status, 0);
	return status;
}

static bool read_pid(const char *path, pid_t *ret)
{
	cleanup_free char *text = NULL;
	int64_t pid;

	if (io_read_file(AT_FDCWD, path, 32, &text, NULL))
		return false;
	text[strcspn(text, "\n")] = '\0';
	if (str_to_i64(text, 1, INT32_MAX, &pid))
		return false;
	*ret = (pid_t)pid;
	return true;
}

pid_t testing_pid_file(const char *path)
{
	pid_t pid = -1;

	(void)wait_until(read_pid(path, &pid));
	return pid;
}

bool testing_gone(pid_t pid)
{
	return wait_until(kill(pid, 0) && errno == ESRCH);
}

static int count_output(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int count_output(const char *fmt, ...)
{
	char command[1024], line[64] = "";
	va_list ap;
	FILE *f;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	f = popen(command, "r");
	if (!f || !fgets(line, sizeof(line), f))
		die(command);
	pclose(f);
	return atoi(line);
}

struct leftovers testing_count(const struct testbed *bed, const char *agent)
{
	struct leftovers left = {0};

	left.mounts = count_output("grep -c %s/ /proc/self/mountinfo", bed->run_dir);
	left.states = count_output("ls -d %s/state/%s/*/ 2>/dev/null | wc -l", bed->run_dir, agent);
	for (size_t i = 0; i < sizeof(hierarchies) / sizeof(*hierarchies); i++)
		left.cgroups +=
			count_output("ls -d /sys/fs/cgroup/%s/fsb/%s/%s/*/ 2>/dev/null | wc -l",
				     hierarchies[i], bed->instance, agent);
	left.processes =
		count_output("grep -ls /fsb/%s/ /proc/[0-9]*/cgroup | wc -l", bed->instance);
	return left;
}
