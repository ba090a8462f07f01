/* SPDX-License-Identifier: Apache-2.0 */
/* Cgroup hierarchies, versions 1 and 2, by file descriptors of directories that stay open. */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"

static const char *const controller_names[CG_CONTROLLERS] = {
	[CG_MEMORY] = "memory", [CG_CPU] = "cpu", [CG_PIDS] = "pids"};

/* "a,b,c" or "a b c" holds word. */
static bool list_has(const char *list, const char *word)
{
	size_t len = strlen(word);

	while (*list) {
		size_t n = strcspn(list, ", \n");

		if (n == len && !memcmp(list, word, n))
			return true;
		list += n;
		list += strspn(list, ", \n");
	}
	return false;
}

static int tree_add(struct cgroups *cg, const char *mount, bool v2)
{
	struct cgroup_tree *tree;

	for (int i = 0; i < cg->count; i++) {
		if (!strcmp(cg->trees[i].mount, mount))
			return i;
	}
	if (cg->count == CG_CONTROLLERS || strlen(mount) >= sizeof(tree->mount))
		return -1;
	tree = &cg->trees[cg->count];
	tree->v2 = v2;
	tree->base_fd = -1;
	strcpy(tree->mount, mount); /* fits: checked above */
	tree->mount_fd = open(mount, O_DIRECTORY | O_CLOEXEC);
	return tree->mount_fd < 0 ? -1 : cg->count++;
}

/* One line of mountinfo: "… MOUNTPOINT OPTIONS … - TYPE SOURCE SUPEROPTIONS". */
static void scan_mount(struct cgroups *cg, char *line, char *v2_mount, size_t v2_size)
{
	char *sep = strstr(line, " - "), *save = NULL, *field, *point = NULL, *type, *opts;

	if (!sep)
		return;
	*sep = '\0';
	field = strtok_r(line, " ", &save);
	for (int i = 0; field && i < 4; i++)
		field = strtok_r(NULL, " ", &save);
	point = field;
	type = strtok_r(sep + 3, " ", &save);
	strtok_r(NULL, " ", &save);
	opts = strtok_r(NULL, " ", &save);
	if (!point || !type || !opts)
		return;
	if (!strcmp(type, "cgroup2") && !*v2_mount)
		snprintf(v2_mount, v2_size, "%s", point);
	if (strcmp(type, "cgroup"))
		return;
	for (int c = 0; c < CG_CONTROLLERS; c++) {
		if (cg->tree_of[c] < 0 && list_has(opts, controller_names[c]))
			cg->tree_of[c] = tree_add(cg, point, false);
	}
}

static int find_trees(struct cgroups *cg, struct err *err)
{
	cleanup_free char *text = NULL, *v2_controllers = NULL;
	char v2_mount[128] = "", path[160], *save = NULL;
	size_t len;
	int rc = io_read_file(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &text, &len);

	if (rc)
		return err_errno(err, -rc, "read '/proc/self/mountinfo'");
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		scan_mount(cg, line, v2_mount, sizeof(v2_mount));
	if (*v2_mount) {
		snprintf(path, sizeof(path), "%s/cgroup.controllers", v2_mount);
		(void)io_read_file(AT_FDCWD, path, 4096, &v2_controllers, &len);
	}
	for (int c = 0; c < CG_CONTROLLERS; c++) {
		if (cg->tree_of[c] < 0 && v2_controllers &&
		    list_has(v2_controllers, controller_names[c]))
			cg->tree_of[c] = tree_add(cg, v2_mount, true);
		if (cg->tree_of[c] < 0)
			return err_set(err, -ENOTSUP,
				       "cgroup controller '%s' is mounted neither as version 1 nor "
				       "in the version 2 tree; without it limits can't be set",
				       controller_names[c]);
	}
	return 0;
}

/* Version 2 only: children of dir get the controllers that we use. */
static int enable_controllers(const struct cgroups *cg, int tree, int dir_fd)
{
	char text[64];

	for (int c = 0; c < CG_CONTROLLERS; c++) {
		int n;

		if (cg->tree_of[c] != tree)
			continue;
		n = snprintf(text, sizeof(text), "+%s", controller_names[c]);
		n = io_write_file(dir_fd, "cgroup.subtree_control", text, (size_t)n);
		if (n)
			return n;
	}
	return 0;
}

static int open_base(struct cgroups *cg, int tree, struct err *err)
{
	struct cgroup_tree *t = &cg->trees[tree];
	char path[256], *save = NULL;
	cleanup_close int dir = fcntl(t->mount_fd, F_DUPFD_CLOEXEC, 3);

	snprintf(path, sizeof(path), "%s", cg->base);
	for (char *part = strtok_r(path, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		int rc = t->v2 ? enable_controllers(cg, tree, dir) : 0, next;

		if (rc)
			return err_errno(err, -rc, "enable controllers above '%s/%s'", t->mount,
					 cg->base);
		if (mkdirat(dir, part, 0755) && errno != EEXIST)
			return err_errno(err, errno, "make cgroup '%s/%s'", t->mount, cg->base);
		next = openat(dir, part, O_DIRECTORY | O_CLOEXEC);
		if (next < 0)
			return err_errno(err, errno, "open cgroup '%s/%s'", t->mount, cg->base);
		close(dir);
		dir = next;
	}
	if (t->v2 && enable_controllers(cg, tree, dir))
		return err_set(err, -EIO, "controllers can't be enabled below '%s/%s'", t->mount,
			       cg->base);
	t->base_fd = take_fd(&dir);
	return 0;
}

int cgroups_init(struct cgroups *cg, const char *instance, const char *agent, struct err *err)
{
	int rc;

	*cg = (struct cgroups){.tree_of = {-1, -1, -1}};
	snprintf(cg->base, sizeof(cg->base), "fsb/%s/%s", instance, agent);
	rc = find_trees(cg, err);
	for (int i = 0; !rc && i < cg->count; i++)
		rc = open_base(cg, i, err);
	return rc;
}

void cgroups_remove_base(struct cgroups *cg)
{
	for (int i = 0; i < cg->count; i++) {
		char path[256];

		snprintf(path, sizeof(path), "%s", cg->base);
		for (char *slash = path; slash; slash = strrchr(path, '/')) {
			if (slash != path)
				*slash = '\0';
			if (unlinkat(cg->trees[i].mount_fd, path, AT_REMOVEDIR))
				break;
		}
	}
}

/*
 * Version 1 is joined by "tasks" and not by "cgroup.procs": for a caller that moves only itself,
 * the kernel then does without the lock over all thread groups, whose writer waits for an RCU grace
 * period (p50 8 ms after 25 ms of idleness, against 0.04 ms). The child has one thread, so the
 * effect is the same.
 */
int cgroup_join(const struct cgroups *cg, const char *id, struct cgroup_dirs *ret)
{
	for (int i = 0; i < cg->count; i++) {
		int base = cg->trees[i].base_fd, rc;

		if (mkdirat(base, id, 0755) && errno != EEXIST)
			return -errno;
		ret->fd[i] = openat(base, id, O_DIRECTORY | O_CLOEXEC);
		if (ret->fd[i] < 0)
			return -errno;
		rc = io_write_file(ret->fd[i], cg->trees[i].v2 ? "cgroup.procs" : "tasks", "0", 1);
		if (rc)
			return rc;
	}
	return 0;
}

static int put(int dir, const char *file, const char *fmt, int64_t value, bool optional)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "%s%lld", fmt, (long long)value);
	int rc = io_write_file(dir, file, text, (size_t)n);

	return rc == -ENOENT && optional ? 0 : rc;
}

static int limit_memory(int dir, bool v2, int64_t bytes)
{
	int rc;

	if (v2) {
		rc = put(dir, "memory.max", "", bytes, false);
		return rc ? rc : put(dir, "memory.swap.max", "", 0, true);
	}
	rc = put(dir, "memory.limit_in_bytes", "", bytes, false);
	return rc ? rc : put(dir, "memory.memsw.limit_in_bytes", "", bytes, true);
}

static int limit_cpu(int dir, bool v2, int64_t milli)
{
	/* The period is the kernel's default, 100 ms; its smallest quota is 1 ms. */
	int64_t quota_us = milli * 100 < 1000 ? 1000 : milli * 100;
	char text[64];
	int n;

	if (!v2)
		return put(dir, "cpu.cfs_quota_us", "", quota_us, false);
	n = snprintf(text, sizeof(text), "%lld 100000", (long long)quota_us);
	return io_write_file(dir, "cpu.max", text, (size_t)n);
}

int cgroup_limit(const struct cgroups *cg, struct cgroup_dirs *dirs,
		 const struct cgroup_limits *limits)
{
	int memory = cg->tree_of[CG_MEMORY], cpu = cg->tree_of[CG_CPU], pids = cg->tree_of[CG_PIDS];
	int rc;

	rc = limit_memory(dirs->fd[memory], cg->trees[memory].v2, limits->memory_bytes);
	if (!rc)
		rc = limit_cpu(dirs->fd[cpu], cg->trees[cpu].v2, limits->cpu_milli);
	if (!rc)
		rc = put(dirs->fd[pids], "pids.max", "", limits->pids, false);
	for (int i = 0; i < cg->count; i++)
		close(dirs->fd[i]);
	return rc;
}

static int kill_listed(const char *procs)
{
	int killed = 0;

	while (*procs) {
		size_t n = strcspn(procs, "\n");
		char text[16];
		int64_t pid;

		if (n < sizeof(text)) {
			memcpy(text, procs, n);
			text[n] = '\0';
			/* 0 stands for a process of a foreign pid namespace: never a target of
			 * kill(2). */
			if (!str_to_i64(text, 1, INT32_MAX, &pid) && !kill((pid_t)pid, SIGKILL))
				killed++;
		}
		procs += n + (procs[n] == '\n');
	}
	return killed;
}

int cgroup_kill(const struct cgroups *cg, const char *id)
{
	int killed = 0;

	for (int i = 0; i < cg->count; i++) {
		cleanup_free char *procs = NULL;
		char path[ID_PATH_MAX];
		size_t len;

		snprintf(path, sizeof(path), "%s/cgroup.procs", id);
		if (!io_read_file(cg->trees[i].base_fd, path, 1 << 20, &procs, &len))
			killed += kill_listed(procs);
	}
	return killed;
}

bool cgroup_oom_killed(const struct cgroups *cg, const char *id)
{
	const struct cgroup_tree *tree = &cg->trees[cg->tree_of[CG_MEMORY]];
	cleanup_free char *text = NULL;
	char path[ID_PATH_MAX];
	const char *at;
	size_t len;

	snprintf(path, sizeof(path), "%s/%s", id,
		 tree->v2 ? "memory.events" : "memory.oom_control");
	if (io_read_file(tree->base_fd, path, 4096, &text, &len))
		return false;
	at = strstr(text, "oom_kill ");
	return at && at[9] != '0';
}

int cgroup_remove(const struct cgroups *cg, const char *id)
{
	int rc = 0;

	for (int i = 0; i < cg->count; i++) {
		if (unlinkat(cg->trees[i].base_fd, id, AT_REMOVEDIR) && errno != ENOENT)
			rc = -errno;
	}
	return rc;
}
