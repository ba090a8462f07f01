/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command-line options from a table, so that parsing and --help can't drift. Long options "--name
 * VALUE" or "--name=VALUE"; single-letter aliases by .letter ("-n VALUE", "-nVALUE"). Options may
 * stand before and after positionals; "--" ends them.
 * --help (-h unless .letter uses it) and --version are built in.
 */
#ifndef BASE_OPT_H
#define BASE_OPT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum opt_kind { OPT_FLAG, OPT_STRING, OPT_INT, OPT_LIST /* repeatable string */ };

struct opt {
	const char *name; /* without dashes */
	char letter;	  /* 0: none */
	enum opt_kind kind;
	const char *arg;  /* placeholder in --help */
	const char *help; /* one line; the default is appended by --help when def is set */
	const char *def; /* textual default, stored when the option is absent; NULL: the variable is
			    left as it was */
	int64_t min, max; /* OPT_INT */
	union {
		bool *flag;
		const char **string;
		int64_t *number;
		struct opt_list *list;
	};
	bool *ret_set; /* optional: given on the command line */
};

struct opt_list {
	const char **items; /* keeps pointers into argv */
	int count;
};

struct opt_program {
	const char *usage;	 /* "fsb-agent [options]" */
	const char *summary;	 /* what it is for, shown by --help */
	const struct opt *opts;	 /* ends with a NULL name */
	const char *epilog;	 /* examples; may be NULL */
	bool stop_at_positional; /* the first positional ends option parsing (subcommands) */
};

enum { OPT_OK = 0, OPT_EXIT = 1 /* --help or --version was answered */ };

/*
 * Parses argv[1..]; positionals are moved to argv[1..*ret_npos]. OPT_OK, OPT_EXIT, or -EINVAL with
 * a message that names the option, the value and what would be right. Programs exit 2 on -EINVAL.
 */
int opt_parse(const struct opt_program *prog, int argc, char **argv, int *ret_npos,
	      struct err *err);
void opt_help(const struct opt_program *prog);

#endif
