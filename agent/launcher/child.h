/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the child, between clone3 and exec: each step either works or ends the child with a record
 * of which step failed and why. The parent reads that record from a pipe that exec closes.
 */
#ifndef AGENT_LAUNCHER_CHILD_H
#define AGENT_LAUNCHER_CHILD_H

#include "launcher.h"

/* The steps in order; what users read when one fails; how it is counted when errno does not say
 * better. */
#define CHILD_STEPS(X)                                                                             \
	X(CGROUP, "join the cgroups", RESOURCES)                                                   \
	X(NAMESPACES, "make the namespaces", RESOURCES)                                            \
	X(NETWORK, "make the network namespace", RESOURCES)                                        \
	X(ROOT, "mount the root file system", INTERNAL)                                            \
	X(MOUNTS, "mount /proc, /dev and /sys", INTERNAL)                                          \
	X(FILES, "write /etc/hosts and /etc/hostname", INTERNAL)                                   \
	X(USER, "find the user", BAD_SPEC)                                                         \
	X(WORKDIR, "enter the working directory", BAD_SPEC)                                        \
	X(LIMITS, "set the limits", RESOURCES)                                                     \
	X(PRIVILEGES, "drop privileges", INTERNAL)                                                 \
	X(EXEC, "execute the command", BAD_SPEC)

enum child_step {
#define X(name, text, code) STEP_##name,
	CHILD_STEPS(X)
#undef X
		STEP_COUNT
};

/* One packet on the pipe. ready: everything is done but exec; a second packet with error set
 * follows when exec fails. */
struct child_report {
	uint32_t ready;
	uint32_t step;
	int32_t error;		  /* errno */
	uint32_t not_interpreter; /* exec: the file is there, what it names as its interpreter is
				     not */
	uint64_t step_ns[STEP_COUNT];
};

struct child {
	const struct launcher *l;
	const StartRequest *request;
	int pipe_fd;
	int netns_fd; /* -1: make one */
	struct cgroup_dirs cgroup_dirs;
	char resolv_conf[4096];
	/* what the image says of the user */
	uint32_t uid, gid;
	uint32_t groups[64];
	int ngroups;
	char home[256];
	struct child_report report;
};

_Noreturn void child_run(struct child *c);

/* 0 or -errno each. */
int rootfs_mount(struct child *c);	  /* overlay, pivot_root */
int rootfs_mount_system(struct child *c); /* /proc, /dev, /sys */
int rootfs_write_files(struct child *c);  /* hostname, /etc/hosts, … */
/* In the launcher, once. */
int rootfs_make_base(const char *path);
int rootfs_mkdirs(const char *path, mode_t mode);
int identity_find(struct child *c);
int identity_drop(struct child *c);

#endif
