/* SPDX-License-Identifier: Apache-2.0 */
/* Runs inside a sandbox: tries what must be refused and prints one line each, "NAME errno". Also
 * eats memory, forks, ignores TERM. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static char stack[65536] __attribute__((aligned(16)));

static int nothing(void *arg)
{
	return 0;
}

#define TRY(name, ...)                                                                             \
	do {                                                                                       \
		errno = 0;                                                                         \
		long try__rc = (long)(__VA_ARGS__);                                                \
		printf("%s %d\n", name, try__rc < 0 ? errno : 0);                                  \
	} while (0)

static void try_syscalls(void)
{
	union bpf_attr attr = {0};
	struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};

	TRY("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
	TRY("umount2", umount2("/proc", MNT_DETACH));
	TRY("unshare", unshare(CLONE_NEWNS));
	TRY("unshare-user", unshare(CLONE_NEWUSER));
	TRY("setns", setns(0, 0));
	TRY("clone-newuser", clone(nothing, stack + sizeof(stack), CLONE_NEWUSER | SIGCHLD, NULL));
	TRY("clone-newnet", clone(nothing, stack + sizeof(stack), CLONE_NEWNET | SIGCHLD, NULL));
	TRY("clone3", syscall(SYS_clone3, &args, sizeof(args)));
	TRY("bpf", syscall(SYS_bpf, 0, &attr, sizeof(attr)));
	TRY("ptrace", ptrace(PTRACE_ATTACH, 1, NULL, NULL));
	TRY("process_vm_readv", syscall(SYS_process_vm_readv, 1, NULL, 0, NULL, 0, 0));
	TRY("process_vm_writev", syscall(SYS_process_vm_writev, 1, NULL, 0, NULL, 0, 0));
	TRY("keyctl", syscall(SYS_keyctl, 0, 0, 0, 0, 0));
	TRY("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -1));
	TRY("request_key", syscall(SYS_request_key, "user", "x", NULL, 0));
	TRY("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
	TRY("kexec_file_load", syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 0));
	TRY("init_module", syscall(SYS_init_module, NULL, 0, ""));
	TRY("finit_module", syscall(SYS_finit_module, -1, "", 0));
	TRY("delete_module", syscall(SYS_delete_module, "x", 0));
	TRY("perf_event_open", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
	TRY("userfaultfd", syscall(SYS_userfaultfd, 0));
	TRY("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, NULL, 0));
	TRY("reboot", syscall(SYS_reboot, 0, 0, 0, NULL));
	TRY("swapon", syscall(SYS_swapon, "/x", 0));
	TRY("pivot_root", syscall(SYS_pivot_root, ".", "."));
	TRY("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
	TRY("fsmount", syscall(SYS_fsmount, -1, 0, 0));
	TRY("open_tree", syscall(SYS_open_tree, -100, "/", 0));
	TRY("move_mount", syscall(SYS_move_mount, -1, "", -1, "", 0));
	TRY("mount_setattr", syscall(SYS_mount_setattr, -1, "", 0, NULL, 0));
	TRY("io_uring_setup", syscall(SYS_io_uring_setup, 1, NULL));
	TRY("syslog", syscall(SYS_syslog, 3, NULL, 0));
	TRY("settimeofday", syscall(SYS_settimeofday, NULL, NULL));
	TRY("sethostname", sethostname("x", 1));
	TRY("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
	TRY("mknod-device", mknod("/tmp/disk", S_IFBLK | 0600, makedev(254, 0)));
	TRY("write-sysctl", open("/proc/sys/kernel/hostname", O_WRONLY));
	TRY("write-sysrq", open("/proc/sysrq-trigger", O_WRONLY));
	TRY("write-sys", open("/sys/kernel/rcu_expedited", O_WRONLY));
	/* These must work. */
	TRY("ok-fork", ({
		    pid_t pid = fork();
		    if (!pid)
			    _exit(0);
		    waitpid(pid, NULL, 0);
		    pid;
	    }));
	TRY("ok-socket", socket(AF_INET, SOCK_STREAM, 0));
	TRY("ok-fifo", mkfifo("/tmp/fifo", 0600));
	TRY("ok-write", open("/etc/new", O_WRONLY | O_CREAT, 0600));
}

static void eat_memory(void)
{
	for (int mib = 1;; mib++) {
		char *p = malloc(1 << 20);

		if (!p) {
			printf("refused after %d MiB\n", mib);
			exit(3);
		}
		memset(p, mib, 1 << 20);
	}
}

/* How many children can be had. */
static void fork_many(void)
{
	int n = 0;

	while (n < 1000) {
		pid_t pid = fork();

		if (pid < 0)
			break;
		if (!pid) {
			pause();
			_exit(0);
		}
		n++;
	}
	printf("forked %d errno %d\n", n, errno);
}

static void on_term(int signo)
{
	static const char text[] = "got TERM\n";

	if (write(1, text, sizeof(text) - 1) > 0)
		_exit(42);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "syscalls";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(what, "syscalls"))
		try_syscalls();
	else if (!strcmp(what, "memory"))
		eat_memory();
	else if (!strcmp(what, "forks"))
		fork_many();
	else if (!strcmp(what, "ignore-term")) {
		signal(SIGTERM, SIG_IGN);
		puts("ready");
		for (;;)
			pause();
	} else if (!strcmp(what, "handle-term")) {
		signal(SIGTERM, on_term);
		puts("ready");
		for (;;)
			pause();
	} else if (!strcmp(what, "die"))
		raise(SIGSEGV), kill(getpid(), SIGABRT);
	return 0;
}
