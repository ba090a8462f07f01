/* SPDX-License-Identifier: Apache-2.0 */
/* fsb-ctl: finds the command in the table, parses its options together with the common ones, runs
 * it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "args.h"
#include "base/clock.h"
#include "base/log.h"
#include "config.h"
#include "ctl.h"

static const struct ctl_command *const commands[] = {
	&ctl_cmd_run,	 &ctl_cmd_list,	 &ctl_cmd_get,	 &ctl_cmd_delete, &ctl_cmd_update,
	&ctl_cmd_reset,	 &ctl_cmd_logs,	 &ctl_cmd_batch, &ctl_cmd_wait,	  &ctl_cmd_image,
	&ctl_cmd_agents, &ctl_cmd_pools, &ctl_cmd_stats, &ctl_cmd_health, &ctl_cmd_arena,
};

enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]), MAX_OPTS = 48 };

static struct {
	struct config_flags config;
	int64_t timeout_s;
	bool timeout_set, verbose;
} flags;

static const struct opt common_opts[] = {
	{.name = "config",
	 .kind = OPT_STRING,
	 .arg = "FILE",
	 .help = "JSON with endpoint and namespace; else ./.fsb or ~/.fsb/config.json",
	 .string = &flags.config.config},
	{.name = "endpoint",
	 .kind = OPT_STRING,
	 .arg = "ADDRESS",
	 .help = "unix:PATH or HOST:PORT of the fast path",
	 .string = &flags.config.endpoint},
	{.name = "namespace",
	 .letter = 'n',
	 .kind = OPT_STRING,
	 .arg = "NS",
	 .help = "namespace; default: default; \"\" lists all",
	 .string = &flags.config.ns},
	{.name = "timeout",
	 .kind = OPT_INT,
	 .arg = "S",
	 .help = "give up after so many seconds; 0: never",
	 .def = "60",
	 .min = 0,
	 .max = 1000000,
	 .number = &flags.timeout_s,
	 .ret_set = &flags.timeout_set},
	{.name = "verbose",
	 .letter = 'v',
	 .kind = OPT_FLAG,
	 .help = "say on stderr what is done",
	 .flag = &flags.verbose},
	{.name = NULL},
};

static const struct ctl_command *find_command(const char *word)
{
	for (size_t i = 0; i < N_COMMANDS; i++) {
		if (!strcmp(commands[i]->name, word) ||
		    (commands[i]->alias && !strcmp(commands[i]->alias, word)))
			return commands[i];
	}
	return NULL;
}

/* "commands:" with a line for each, for the epilog of the main help. */
static char *list_commands(struct mem *mem)
{
	char *text = mem_strdup(mem, "Commands (each has --help):\n");

	for (size_t i = 0; i < N_COMMANDS; i++) {
		const struct ctl_command *c = commands[i];
		char *names = mem_printf(mem, "%s%s%s", c->name, c->alias ? ", " : "",
					 c->alias ? c->alias : "");

		text = mem_printf(mem, "%s  %-16s %s\n", text, names, c->summary);
	}
	return mem_printf(mem,
			  "%s\nEnvironment: ENDPOINT, NAMESPACE (flags win over them).\n"
			  "Exit status: 0 done, 1 failed, 2 wrong usage.",
			  text);
}

static int main_help(struct mem *mem, int argc, char **argv, struct err *err)
{
	const struct opt_program prog = {
		.usage = "fsb-ctl [options] COMMAND ...",
		.summary = "Creates, lists and removes sandboxes, and shows what runs them.",
		.opts = common_opts,
		.epilog = list_commands(mem),
		.stop_at_positional = true,
	};
	int npos = 0;

	if (argc > 1 && !strcmp(argv[1], "help")) {
		opt_help(&prog);
		return OPT_EXIT;
	}
	int rc = opt_parse(&prog, argc, argv, &npos, err);

	if (rc == OPT_OK)
		return err_set(err, -EINVAL, "a command is missing; see fsb-ctl --help");
	return rc;
}

static void join_opts(const struct ctl_command *command, struct opt *all)
{
	size_t n = 0;

	for (const struct opt *o = command->opts; o && o->name; o++)
		all[n++] = *o;
	for (const struct opt *o = common_opts; o->name; o++)
		all[n++] = *o;
	base_bug(n >= MAX_OPTS);
	all[n] = (struct opt){.name = NULL};
}

/* Words after the command word's removal, with "--" in front of a verbatim command. */
static char **arrange_args(struct mem *mem, const struct ctl_command *command,
			   const struct opt *all, int argc, char **argv, int word, int *ret_argc)
{
	char **out = mem_alloc(mem, sizeof(*out) * (size_t)(argc + 2));
	int n = 0;

	out[n++] = argv[0];
	for (int i = 1; i < argc; i++) {
		if (i != word)
			out[n++] = argv[i];
	}
	if (command->verbatim_from >= 0) {
		int at = args_positional(all, n, out, 1, command->verbatim_from);

		if (at < n && strcmp(out[at], "--")) {
			memmove(out + at + 1, out + at, sizeof(*out) * (size_t)(n - at));
			out[at] = mem_strdup(mem, "--");
			n++;
		}
	}
	*ret_argc = n;
	return out;
}

static int set_up(struct ctl *ctl, struct err *err)
{
	struct config config;
	int rc = config_load(&flags.config, &config, err);

	if (rc)
		return rc;
	(void)snprintf(ctl->endpoint, sizeof(ctl->endpoint), "%s", config.endpoint);
	(void)snprintf(ctl->ns, sizeof(ctl->ns), "%s", config.ns);
	ctl->ns_set = config.ns_set;
	ctl->timeout_ns = (uint64_t)flags.timeout_s * NS_PER_S;
	ctl->timeout_set = flags.timeout_set;
	ctl->verbose = flags.verbose;
	if (ctl->verbose) {
		log_set_level(LOG_DEBUG);
		if (config.source[0])
			(void)fprintf(stderr, "Using config file: %s\n", config.source);
		(void)fprintf(stderr, "Endpoint: %s, namespace: %s\n", ctl->endpoint,
			      ctl->ns[0] ? ctl->ns : "(all)");
	}
	return 0;
}

static int check_positionals(const struct ctl_command *command, int npos, char **pos,
			     struct err *err)
{
	if (npos < command->min_pos)
		return err_set(err, -EINVAL, "usage: fsb-ctl %s [options] %s", command->name,
			       command->args);
	if (command->max_pos >= 0 && npos > command->max_pos)
		return err_set(err, -EINVAL,
			       "'%s' is one word too many; usage: fsb-ctl %s [options] %s",
			       pos[command->max_pos], command->name, command->args);
	return 0;
}

static int run_command(struct ctl *ctl, const struct ctl_command *command, int argc, char **argv,
		       int word, struct err *err)
{
	struct opt all[MAX_OPTS];
	struct opt_program prog = {
		.usage = mem_printf(&ctl->mem, "fsb-ctl %s [options] %s", command->name,
				    command->args),
		.summary = command->summary,
		.opts = all,
		.epilog = command->epilog,
	};
	int npos = 0;
	int rc;

	join_opts(command, all);
	argv = arrange_args(&ctl->mem, command, all, argc, argv, word, &argc);
	rc = opt_parse(&prog, argc, argv, &npos, err);
	if (rc)
		return rc == OPT_EXIT ? 0 : rc;
	rc = check_positionals(command, npos, argv + 1, err);
	if (!rc)
		rc = set_up(ctl, err);
	if (!rc)
		rc = command->run(ctl, npos, argv + 1, err);
	return rc;
}

static int dispatch(struct ctl *ctl, int argc, char **argv, struct err *err)
{
	int word = args_positional(common_opts, argc, argv, 1, 0);
	const struct ctl_command *command;
	bool help = word < argc && !strcmp(argv[word], "help");

	if (word >= argc - (help ? 1 : 0) || !strcmp(argv[word], "--")) {
		int rc = main_help(&ctl->mem, argc, argv, err);

		return rc == OPT_EXIT ? 0 : rc;
	}
	if (help) {
		static char help_flag[] = "--help";

		argv[word] = argv[word + 1];
		argv[word + 1] = help_flag;
	}
	command = find_command(argv[word]);
	if (!command)
		return err_set(err, -EINVAL, "unknown command '%s'; see fsb-ctl --help",
			       argv[word]);
	return run_command(ctl, command, argc, argv, word, err);
}

int main(int argc, char **argv)
{
	struct ctl ctl = {.loop = NULL};
	struct err err = ERR_INIT;
	int rc;

	log_init("ctl");
	log_set_level(LOG_WARN);
	(void)signal(SIGPIPE, SIG_IGN);
	rc = dispatch(&ctl, argc, argv, &err);
	if (rc < 0)
		(void)fprintf(stderr, "Error: %s\n", err.msg[0] ? err.msg : strerror(-rc));
	ctl_done(&ctl);
	if (fflush(stdout) && rc == 0)
		return CTL_FAILED;
	if (rc == -EINVAL)
		return CTL_USAGE;
	return rc < 0 ? CTL_FAILED : rc;
}
