/* SPDX-License-Identifier: Apache-2.0 */
/* Walks argv by the option table; unknown options count as flags (opt_parse will refuse them). */
#include "args.h"

#include <string.h>

static const struct opt *find_long(const struct opt *opts, const char *name, size_t len)
{
	for (; opts->name; opts++) {
		if (strlen(opts->name) == len && !strncmp(opts->name, name, len))
			return opts;
	}
	return NULL;
}

static const struct opt *find_letter(const struct opt *opts, char letter)
{
	for (; opts->name; opts++) {
		if (opts->letter == letter)
			return opts;
	}
	return NULL;
}

/* How many words the option at word takes: 2 when its value is the next one. */
static int words_of(const struct opt *opts, const char *word)
{
	const struct opt *opt;
	const char *equals;

	if (word[1] != '-') {
		opt = find_letter(opts, word[1]);
		return opt && opt->kind != OPT_FLAG && !word[2] ? 2 : 1;
	}
	equals = strchr(word, '=');
	if (equals)
		return 1;
	opt = find_long(opts, word + 2, strlen(word + 2));
	return opt && opt->kind != OPT_FLAG ? 2 : 1;
}

int args_positional(const struct opt *opts, int argc, char **argv, int from, int n)
{
	int i = from;

	while (i < argc) {
		if (!strcmp(argv[i], "--"))
			return i;
		if (argv[i][0] == '-' && argv[i][1])
			i += words_of(opts, argv[i]);
		else if (n-- == 0)
			return i;
		else
			i++;
	}
	return argc;
}
