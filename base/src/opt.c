/* SPDX-License-Identifier: Apache-2.0 */
/* Option tables: parsing and --help from one source. */
#include "base/opt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

/* argv being read. */
struct cursor {
	int argc, next, npos;
	char **argv;
};

static const struct opt *find_long(const struct opt *opts, const char *name, size_t len)
{
	for (; opts->name; opts++)
		if (strlen(opts->name) == len && memcmp(opts->name, name, len) == 0)
			return opts;
	return NULL;
}

static const struct opt *find_letter(const struct opt *opts, char letter)
{
	for (; opts->name; opts++)
		if (opts->letter && opts->letter == letter)
			return opts;
	return NULL;
}

static int list_add(struct opt_list *list, const char *value)
{
	const char **items = realloc(list->items, ((size_t)list->count + 1) * sizeof(*list->items));

	if (!items)
		return -ENOMEM;
	items[list->count++] = value;
	list->items = items;
	return 0;
}

static int store_number(const struct opt *opt, const char *value, struct err *err)
{
	if (str_to_i64(value, opt->min, opt->max, opt->number) == 0)
		return 0;
	return err_set(err, -EINVAL, "--%s '%s': want a whole number from %lld to %lld", opt->name,
		       value, (long long)opt->min, (long long)opt->max);
}

/* value is NULL for flags only. */
static int store(const struct opt *opt, const char *value, struct err *err)
{
	switch (opt->kind) {
	case OPT_FLAG:
		*opt->flag = true;
		return 0;
	case OPT_STRING:
		*opt->string = value;
		return 0;
	case OPT_INT:
		return store_number(opt, value, err);
	case OPT_LIST:
		if (list_add(opt->list, value) == 0)
			return 0;
		return err_set(err, -ENOMEM, "out of memory for --%s", opt->name);
	}
	return 0;
}

/* inline_value: what stood behind "=" or the letter; NULL: the next argument is the value. */
static int take_option(struct cursor *cur, const struct opt *opt, const char *inline_value,
		       bool *seen, struct err *err)
{
	const char *value = inline_value;

	if (opt->kind == OPT_FLAG && value)
		return err_set(err, -EINVAL, "--%s takes no value, but '%s' was given", opt->name,
			       value);
	if (opt->kind != OPT_FLAG && !value) {
		if (cur->next >= cur->argc)
			return err_set(err, -EINVAL, "--%s needs a value: --%s %s", opt->name,
				       opt->name, opt->arg ? opt->arg : "VALUE");
		value = cur->argv[cur->next++];
	}
	*seen = true;
	if (opt->ret_set)
		*opt->ret_set = true;
	return store(opt, value, err);
}

static void print_version(const struct opt_program *prog)
{
	printf("%.*s %s\n", (int)strcspn(prog->usage, " "), prog->usage, FSB_VERSION);
}

/* --help, --version, and -h unless the table has another use for it. */
static bool built_in(const struct opt_program *prog, const char *arg)
{
	if (strcmp(arg, "--help") == 0 ||
	    (strcmp(arg, "-h") == 0 && !find_letter(prog->opts, 'h'))) {
		opt_help(prog);
		return true;
	}
	if (strcmp(arg, "--version") == 0) {
		print_version(prog);
		return true;
	}
	return false;
}

/* arg starts with '-' and is longer than that. */
static int parse_one(const struct opt_program *prog, struct cursor *cur, const char *arg,
		     bool *seen, struct err *err)
{
	const struct opt *opt;
	const char *value;

	if (built_in(prog, arg))
		return OPT_EXIT;
	if (arg[1] == '-') {
		size_t len = strcspn(arg + 2, "=");

		opt = find_long(prog->opts, arg + 2, len);
		value = arg[2 + len] == '=' ? arg + 2 + len + 1 : NULL;
	} else {
		opt = find_letter(prog->opts, arg[1]);
		value = arg[2] != '\0' ? arg + 2 : NULL;
	}
	if (!opt)
		return err_set(err, -EINVAL, "unknown option '%s'; --help lists the options", arg);
	return take_option(cur, opt, value, &seen[opt - prog->opts], err);
}

static int apply_defaults(const struct opt_program *prog, const bool *seen, struct err *err)
{
	for (const struct opt *opt = prog->opts; opt->name; opt++) {
		int r;

		if (seen[opt - prog->opts] || !opt->def || opt->kind == OPT_FLAG)
			continue;
		r = store(opt, opt->def, err);
		if (r < 0)
			return r;
	}
	return OPT_OK;
}

/* Positionals move to the front: argv[npos] has been read already, so nothing is lost. */
static int parse_all(const struct opt_program *prog, struct cursor *cur, bool *seen,
		     struct err *err)
{
	bool only_positionals = false;

	while (cur->next < cur->argc) {
		char *arg = cur->argv[cur->next++];
		int r;

		if (only_positionals || arg[0] != '-' || arg[1] == '\0') {
			cur->argv[++cur->npos] = arg;
			only_positionals |= prog->stop_at_positional;
			continue;
		}
		if (strcmp(arg, "--") == 0) {
			only_positionals = true;
			continue;
		}
		r = parse_one(prog, cur, arg, seen, err);
		if (r != OPT_OK)
			return r;
	}
	return apply_defaults(prog, seen, err);
}

int opt_parse(const struct opt_program *prog, int argc, char **argv, int *ret_npos, struct err *err)
{
	struct cursor cur = {.argc = argc, .next = 1, .argv = argv};
	size_t count = 0;
	bool *seen;
	int r;

	for (const struct opt *opt = prog->opts; opt->name; opt++, count++)
		if (opt->ret_set)
			*opt->ret_set = false;
	seen = calloc(count + 1, sizeof(*seen));
	if (!seen)
		return err_set(err, -ENOMEM, "out of memory for the options");
	r = parse_all(prog, &cur, seen, err);
	free(seen);
	if (r == OPT_OK)
		*ret_npos = cur.npos;
	return r;
}

static int left_column(const struct opt *opt, char *buf, size_t size)
{
	const char *arg = opt->kind == OPT_FLAG ? "" : opt->arg ? opt->arg : "VALUE";
	char letter[8] = "    ";

	if (opt->letter)
		(void)snprintf(letter, sizeof(letter), "-%c, ", opt->letter);
	return snprintf(buf, size, "  %s--%s%s%s", letter, opt->name, *arg ? " " : "", arg);
}

static void help_line(const char *left, int width, const char *help, const char *def)
{
	printf("%-*s  %s", width, left, help);
	if (def && *def)
		printf(" (default: %s)", def);
	printf("\n");
}

void opt_help(const struct opt_program *prog)
{
	char left[128];
	int width = (int)strlen("      --version");

	for (const struct opt *opt = prog->opts; opt->name; opt++) {
		int len = left_column(opt, left, sizeof(left));

		width = len > width ? len : width;
	}
	printf("usage: %s\n", prog->usage);
	if (prog->summary)
		printf("\n%s\n", prog->summary);
	printf("\noptions:\n");
	for (const struct opt *opt = prog->opts; opt->name; opt++) {
		(void)left_column(opt, left, sizeof(left));
		help_line(left, width, opt->help ? opt->help : "",
			  opt->kind == OPT_FLAG ? NULL : opt->def);
	}
	help_line(find_letter(prog->opts, 'h') ? "      --help" : "  -h, --help", width,
		  "show this text", NULL);
	help_line("      --version", width, "show the version", NULL);
	if (prog->epilog)
		printf("\n%s\n", prog->epilog);
}
