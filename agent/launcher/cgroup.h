/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cgroups of sandboxes: fsb/INSTANCE/AGENT/ID in each hierarchy that has one of memory, cpu and
 * pids: version 1 where it is mounted, else version 2. Nothing here knows of sandbox states.
 */
#ifndef AGENT_LAUNCHER_CGROUP_H
#define AGENT_LAUNCHER_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { ID_PATH_MAX = 128 };

enum cgroup_controller { CG_MEMORY, CG_CPU, CG_PIDS, CG_CONTROLLERS };

struct cgroup_tree {
	bool v2;
	int mount_fd; /* root of the hierarchy */
	int base_fd;  /* fsb/INSTANCE/AGENT */
	char mount[128];
};

struct cgroups {
	struct cgroup_tree trees[CG_CONTROLLERS];
	int count;
	int tree_of[CG_CONTROLLERS]; /* index into trees */
	char base[256];		     /* "fsb/INSTANCE/AGENT" */
};

struct cgroup_limits {
	int64_t memory_bytes, cpu_milli, pids;
};

/* A sandbox's directories while its process sets itself up. */
struct cgroup_dirs {
	int fd[CG_CONTROLLERS];
};

/* Finds the hierarchies and makes the agent's directory in each. A missing controller is an error:
 * limits are always set. */
int cgroups_init(struct cgroups *cg, const char *instance, const char *agent, struct err *err);
/* Removes the agent's directory and its parents where they are empty. */
void cgroups_remove_base(struct cgroups *cg);

/* In the child: makes the directories and moves the caller in. 0 or -errno. */
int cgroup_join(const struct cgroups *cg, const char *id, struct cgroup_dirs *ret);
/* In the child: writes the limits and closes the directories. 0 or -errno. */
int cgroup_limit(const struct cgroups *cg, struct cgroup_dirs *dirs,
		 const struct cgroup_limits *limits);

/* SIGKILLs every member; returns how many there were. */
int cgroup_kill(const struct cgroups *cg, const char *id);
/* The kernel has killed a member for want of memory. */
bool cgroup_oom_killed(const struct cgroups *cg, const char *id);
/* 0 when nothing is left of it; -EBUSY while a member is on its way out. */
int cgroup_remove(const struct cgroups *cg, const char *id);

#endif
