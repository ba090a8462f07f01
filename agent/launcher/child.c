/* SPDX-License-Identifier: Apache-2.0 */
/* The child's way from clone3 to exec, in order. It runs in a copy of the launcher's memory and
 * never returns into its code. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/failpoint.h"

enum { NOFILE_SOFT = 1024, NOFILE_HARD = 524288 };

_Noreturn static void child_fail(struct child *c, enum child_step step, int rc)
{
	c->report.step = step;
	c->report.error = -rc;
	/* The pipe holds far more than two reports; when the parent is gone nobody needs it. */
	if (write(c->pipe_fd, &c->report, sizeof(c->report)) < 0)
		_exit(126);
	_exit(127);
}

static void child_step(struct child *c, enum child_step step, int rc)
{
	if (rc)
		child_fail(c, step, rc);
	c->report.step_ns[step] = clock_mono_ns();
}

static int reset_signals(void)
{
	struct sigaction plain = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int signo = 1; signo < _NSIG; signo++)
		(void)sigaction(signo, &plain, NULL); /* KILL, STOP and libc's own refuse */
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL) ? -errno : 0;
}

static int make_namespaces(void)
{
	if (setsid() < 0 && errno != EPERM)
		return -errno;
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS))
		return -errno;
	/* Nothing mounted here may show up outside. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return -errno;
	return reset_signals();
}

static void read_resolv_conf(struct child *c)
{
	cleanup_close int fd = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, c->resolv_conf, sizeof(c->resolv_conf) - 1);

	c->resolv_conf[n < 0 ? 0 : n] = '\0';
}

static int make_network(struct child *c)
{
	if (c->request->shared_network) {
		read_resolv_conf(c);
		return 0;
	}
	if (c->netns_fd >= 0)
		return setns(c->netns_fd, CLONE_NEWNET) ? -errno : 0;
	return unshare(CLONE_NEWNET) ? -errno : netns_lo_up();
}

/* stdin from /dev/null, stdout and stderr to the log, which is opened while the host's root is
 * still there. */
static int open_stdio(struct child *c)
{
	cleanup_close int null = open("/dev/null", O_RDONLY | O_CLOEXEC), log = -1;
	char path[ID_MAX + 8];

	snprintf(path, sizeof(path), "%s/log", c->request->meta->id);
	log = openat(c->l->state_fd, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (null < 0 || log < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
		return -errno;
	return 0;
}

static int mount_root(struct child *c)
{
	int rc = open_stdio(c);

	return rc ? rc : rootfs_mount(c);
}

static int enter_workdir(struct child *c)
{
	const char *cwd = *c->request->cwd ? c->request->cwd : "/";
	int rc;

	if (!chdir(cwd))
		return 0;
	if (errno != ENOENT)
		return -errno;
	rc = rootfs_mkdirs(cwd, 0755);
	if (rc)
		return rc;
	return chdir(cwd) ? -errno : 0;
}

static int set_rlimits(void)
{
	struct rlimit files, core = {0, 0};

	if (getrlimit(RLIMIT_NOFILE, &files))
		return -errno;
	if (files.rlim_max > NOFILE_HARD)
		files.rlim_max = NOFILE_HARD;
	files.rlim_cur = files.rlim_max < NOFILE_SOFT ? files.rlim_max : NOFILE_SOFT;
	if (setrlimit(RLIMIT_NOFILE, &files) || setrlimit(RLIMIT_CORE, &core))
		return -errno;
	umask(022);
	return 0;
}

static int set_limits(struct child *c)
{
	struct cgroup_limits limits = {
		.memory_bytes = c->request->memory_bytes,
		.cpu_milli = c->request->cpu_milli,
		.pids = c->request->pids,
	};
	int rc = cgroup_limit(&c->l->cgroups, &c->cgroup_dirs, &limits);

	/* After the join, so that the sandbox sees its own cgroup as the root. */
	if (!rc && unshare(CLONE_NEWCGROUP))
		rc = -errno;
	return rc ? rc : set_rlimits();
}

static int drop_privileges(struct child *c)
{
	int rc;

	if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC))
		return -errno;
	rc = identity_drop(c);
	if (rc)
		return rc;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &c->l->filter) ? -errno : 0;
}

static const char *env_find(char *const *env, size_t n, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < n; i++) {
		if (!strncmp(env[i], name, len) && env[i][len] == '=')
			return env[i] + len + 1;
	}
	return NULL;
}

/* The environment, with HOME added where neither image nor request name one. */
static char **child_environment(struct child *c)
{
	static char home[300];
	size_t n = c->request->n_env;
	char **env = calloc(n + 2, sizeof(*env));

	if (!env)
		child_fail(c, STEP_EXEC, -ENOMEM);
	memcpy(env, c->request->env, n * sizeof(*env));
	if (!env_find(env, n, "HOME")) {
		snprintf(home, sizeof(home), "HOME=%s", c->home);
		env[n] = home;
	}
	return env;
}

static int exec_path(struct child *c, const char *path, char **argv, char **env)
{
	execve(path, argv, env);
	if (errno == ENOENT && !access(path, F_OK))
		c->report.not_interpreter = 1;
	return -errno;
}

/* Looks the command up in PATH as execvp does. A file that is there but can't be run is the better
 * error. */
static int exec_search(struct child *c, char **argv, char **env)
{
	const char *dir = env_find(c->request->env, c->request->n_env, "PATH");
	int best = -ENOENT;
	char full[4096];

	while (dir && *dir && !c->report.not_interpreter) {
		size_t n = strcspn(dir, ":");
		int rc;

		if ((size_t)snprintf(full, sizeof(full), "%.*s/%s", n ? (int)n : 1, n ? dir : ".",
				     argv[0]) < sizeof(full)) {
			rc = exec_path(c, full, argv, env);
			if (rc != -ENOENT && rc != -ENOTDIR)
				best = rc;
		}
		dir += n + (dir[n] == ':');
	}
	return best;
}

_Noreturn static void child_exec(struct child *c)
{
	char **argv = calloc(c->request->n_argv + 1, sizeof(*argv)), **env = child_environment(c);
	int rc;

	if (!argv)
		child_fail(c, STEP_EXEC, -ENOMEM);
	memcpy(argv, c->request->argv, c->request->n_argv * sizeof(*argv));
	c->report.ready = 1;
	if (write(c->pipe_fd, &c->report, sizeof(c->report)) != sizeof(c->report))
		_exit(127);
	rc = strchr(argv[0], '/') ? exec_path(c, argv[0], argv, env) : exec_search(c, argv, env);
	child_fail(c, STEP_EXEC, rc);
}

void child_run(struct child *c)
{
	child_step(c, STEP_CGROUP,
		   cgroup_join(&c->l->cgroups, c->request->meta->id, &c->cgroup_dirs));
	if (FAILPOINT("launcher.child"))
		child_fail(c, STEP_CGROUP, -EIO);
	child_step(c, STEP_NAMESPACES, make_namespaces());
	child_step(c, STEP_NETWORK, make_network(c));
	child_step(c, STEP_ROOT, mount_root(c));
	child_step(c, STEP_MOUNTS, rootfs_mount_system(c));
	child_step(c, STEP_FILES, rootfs_write_files(c));
	child_step(c, STEP_USER, identity_find(c));
	child_step(c, STEP_WORKDIR, enter_workdir(c));
	child_step(c, STEP_LIMITS, set_limits(c));
	child_step(c, STEP_PRIVILEGES, drop_privileges(c));
	child_exec(c);
}
