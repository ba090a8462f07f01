/* SPDX-License-Identifier: Apache-2.0 */
/* See agent_bed.h. */
#include "agent_bed.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct testbed bed;
struct aclient client;
pid_t agent_pid;
char layout[128];

void agent_spawn(char *const extra[])
{
	char *argv[32] = {(char[]){"fsb-agent"}, (char[]){"--name"},
			  (char[]){"a"},	 (char[]){"--instance"},
			  bed.instance,		 (char[]){"--run-dir"},
			  bed.run_dir,		 (char[]){"--capacity"},
			  (char[]){"64"},	 (char[]){"--memory"},
			  (char[]){"64Mi"}};
	int n = 11;

	for (int i = 0; extra && extra[i]; i++)
		argv[n++] = extra[i];
	agent_pid = testing_spawn(&bed, argv);
}

pid_t launcher_pid(void)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/agents/a.launcher.pid", bed.run_dir);
	return testing_pid_file(path);
}

int agent_bed_setup(void **state)
{
	const char *message;
	int status;

	testing_need_root();
	testbed_make(&bed);
	snprintf(layout, sizeof(layout), "%s/layout", bed.run_dir);
	if (testing_sh("%s/tools/mkimage %s >/dev/null && umoci insert --image %s:latest %s "
		       "/bin/probe "
		       ">/dev/null",
		       FSB_SOURCE_DIR, layout, layout, FSB_PROBE))
		return -1;
	agent_spawn(NULL);
	aclient_open(&client, &bed, "a", FSB__AGENT__V1__PEER_ROLE__REGISTRYD, "arena-1", 1);
	status = aclient_load(&client, layout, "latest", "busybox", &message);
	if (status != G_OK)
		fprintf(stderr, "load image: %s: %s\n", gstatus_name(status), message);
	return status;
}

int agent_bed_teardown(void **state)
{
	pid_t launcher = launcher_pid();

	int status;

	aclient_close(&client);
	status = testing_end(agent_pid, SIGTERM);
	if (launcher > 0)
		kill(launcher, SIGTERM);
	if (launcher > 0 && !testing_gone(launcher))
		return -1;
	if (status || !testing_sh("grep -E 'Sanitizer|runtime error|broken invariant' %s/log/*",
				  bed.run_dir)) {
		print_error("the agent ended with status %#x, or its log has errors\n", status);
		testing_sh("tail -n 60 %s/log/*", bed.run_dir);
		return -1;
	}
	testbed_remove(&bed);
	return 0;
}

void assert_nothing_left(void)
{
	struct leftovers left = testing_count(&bed, "a");

	assert_int_equal(left.states, 0);
	assert_int_equal(left.cgroups, 0);
	assert_int_equal(left.processes, 0);
	assert_int_equal(left.mounts, 0);
}
