/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds positionals among options without parsing them: which word is the subcommand, and where a
 * sandbox's own command starts, so that "run NAME sh -c ..." needs no "--".
 */
#ifndef CTL_ARGS_H
#define CTL_ARGS_H

#include "base/opt.h"

/* Index in argv[from..argc) of the n-th (0-based) positional, or of "--", or argc when there are
 * fewer. */
int args_positional(const struct opt *opts, int argc, char **argv, int from, int n);

#endif
