/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for what is left of an instance in the places where the kernel would show it. */
#include "leaks.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

enum { MAX_PROC_BYTES = 16 << 20, MAX_REPORTS = 20, MAX_NAMESPACES = 4096, MAX_DEPTH = 16 };

struct search {
	const char *instance, *run_dir;
	bool stopped;
	int reports;
	/* Mount namespaces that were looked at. */
	ino_t seen[MAX_NAMESPACES];
	int n_seen;
	struct leaks found;
};

__attribute__((format(printf, 3, 4))) static void report(struct search *s, int *counter,
							 const char *fmt, ...)
{
	va_list args;

	(*counter)++;
	if (s->reports++ >= MAX_REPORTS)
		return;
	(void)fputs("left: ", stderr);
	va_start(args, fmt);
	(void)vfprintf(stderr, fmt, args);
	va_end(args);
	(void)fputc('\n', stderr);
}

/* ---- processes ---- */

/* In a cgroup below fsb/INSTANCE; while the stack runs nothing but sandboxes is there. */
static bool in_our_cgroup(struct search *s, int proc_fd)
{
	cleanup_free char *text = NULL;
	char mark[128];
	size_t len;

	(void)snprintf(mark, sizeof(mark), "/fsb/%s/", s->instance);
	return !io_read_file(proc_fd, "cgroup", MAX_PROC_BYTES, &text, &len) && strstr(text, mark);
}

/* One of our programs, started with this run directory or for this instance. */
static bool is_our_daemon(struct search *s, int proc_fd)
{
	cleanup_free char *text = NULL;
	const char *end, *base;
	size_t len;
	bool ours = false;

	if (io_read_file(proc_fd, "cmdline", MAX_PROC_BYTES, &text, &len) || !len)
		return false;
	base = strrchr(text, '/');
	base = base ? base + 1 : text;
	if (strncmp(base, "fsb-", 4) || !strcmp(base, "fsb-quickstart"))
		return false;
	end = text + len;
	for (const char *arg = text; arg < end; arg += strlen(arg) + 1)
		ours |= strstr(arg, s->run_dir) || !strcmp(arg, s->instance);
	return ours;
}

static bool first_sight(struct search *s, int proc_fd)
{
	struct stat st;

	if (fstatat(proc_fd, "ns/mnt", &st, 0))
		return false;
	for (int i = 0; i < s->n_seen; i++) {
		if (s->seen[i] == st.st_ino)
			return false;
	}
	if (s->n_seen < MAX_NAMESPACES)
		s->seen[s->n_seen++] = st.st_ino;
	return true;
}

/* Lines that name a sandbox's directory, or, when stopped, anything in the run directory. */
static void count_mounts(struct search *s, const char *pid, int proc_fd)
{
	cleanup_free char *text = NULL;
	char mark[256];
	char *state = NULL;
	size_t len;

	if (!first_sight(s, proc_fd) ||
	    io_read_file(proc_fd, "mountinfo", MAX_PROC_BYTES, &text, &len))
		return;
	(void)snprintf(mark, sizeof(mark), "%s/%s", s->run_dir, s->stopped ? "" : "state/");
	for (char *line = strtok_r(text, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
		if (strstr(line, mark))
			report(s, &s->found.mounts, "mount seen by process %s: %.160s", pid, line);
	}
}

static void look_at_process(struct search *s, DIR *proc, const char *pid)
{
	cleanup_close int fd = openat(dirfd(proc), pid, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (in_our_cgroup(s, fd))
		report(s, &s->found.processes, "process %s in a cgroup of the instance", pid);
	else if (s->stopped && is_our_daemon(s, fd))
		report(s, &s->found.processes, "process %s of the stack", pid);
	count_mounts(s, pid, fd);
}

static void look_at_processes(struct search *s)
{
	cleanup_closedir DIR *proc = opendir("/proc");
	const struct dirent *entry;

	while (proc && (entry = readdir(proc))) {
		if (isdigit((unsigned char)entry->d_name[0]))
			look_at_process(s, proc, entry->d_name);
	}
}

/* ---- directories ---- */

/* An agent keeps files of its own, all with a leading dot, beside its sandboxes' directories. */
static bool is_agents_own(const struct search *s, const char *name)
{
	return !s->stopped && name[0] == '.';
}

/* Counts entries from depth min_depth on: directories only, or anything. */
static void count_tree(struct search *s, int *counter, const char *path, int depth, int min_depth,
		       bool dirs_only)
{
	cleanup_closedir DIR *dir = opendir(path);
	const struct dirent *entry;

	while (dir && depth < MAX_DEPTH && (entry = readdir(dir))) {
		cleanup_free char *child = NULL;
		bool is_dir = entry->d_type == DT_DIR;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
		    is_agents_own(s, entry->d_name) || (dirs_only && !is_dir) ||
		    asprintf(&child, "%s/%s", path, entry->d_name) < 0)
			continue;
		if (depth >= min_depth)
			report(s, counter, "%s", child);
		else if (is_dir)
			count_tree(s, counter, child, depth + 1, min_depth, dirs_only);
	}
}

/* HIERARCHY/fsb/INSTANCE/AGENT/SANDBOX; the agent's own directory may stay while it runs. */
static void look_at_cgroups(struct search *s)
{
	cleanup_fclose FILE *mounts = setmntent("/proc/mounts", "re");
	const struct mntent *mount;

	while (mounts && (mount = getmntent(mounts))) {
		char path[512];

		if (strncmp(mount->mnt_type, "cgroup", 6))
			continue;
		(void)snprintf(path, sizeof(path), "%s/fsb/%s", mount->mnt_dir, s->instance);
		if (s->stopped && !access(path, F_OK))
			report(s, &s->found.cgroups, "%s", path);
		else if (!s->stopped)
			count_tree(s, &s->found.cgroups, path, 1, 2, true);
	}
}

static void look_at_files(struct search *s)
{
	char path[512];

	if (!s->stopped) {
		(void)snprintf(path, sizeof(path), "%s/state", s->run_dir);
		count_tree(s, &s->found.files, path, 1, 2, false);
		return;
	}
	count_tree(s, &s->found.files, s->run_dir, 1, 1, false);
	(void)snprintf(path, sizeof(path), "/dev/shm/fsb-%s", s->instance);
	if (!access(path, F_OK))
		report(s, &s->found.files, "%s", path);
}

void leaks_count(const char *instance, const char *run_dir, bool stopped, struct leaks *ret)
{
	struct search s = {.instance = instance, .run_dir = run_dir, .stopped = stopped};

	look_at_processes(&s);
	look_at_cgroups(&s);
	look_at_files(&s);
	if (s.reports > MAX_REPORTS)
		(void)fprintf(stderr, "left: ... and %d more\n", s.reports - MAX_REPORTS);
	*ret = s.found;
}

int leaks_total(const struct leaks *leaks)
{
	return leaks->processes + leaks->mounts + leaks->cgroups + leaks->files;
}
