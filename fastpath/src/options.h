/* SPDX-License-Identifier: Apache-2.0 */
/* The program's flags, checked and with their defaults filled in. */
#ifndef FASTPATH_OPTIONS_H
#define FASTPATH_OPTIONS_H

#include <limits.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/opt.h"

enum { FP_WORKERS_MAX = 64, FP_LISTEN_MAX = 16 };

struct fp_options {
	const char *instance;
	char run_dir[PATH_MAX / 4], arena[PATH_MAX / 2],
		unix_path[PATH_MAX / 2]; /* unix_path "": none */
	char port_file[PATH_MAX / 2];
	const char *listen[FP_LISTEN_MAX];
	int listen_count;
	int workers, drain_timeout_s;
	bool default_strong, insecure;
};

/* OPT_OK, OPT_EXIT (--help, --version), or -EINVAL with the sentence. ret keeps pointers into argv.
 */
int fp_options_parse(int argc, char **argv, struct fp_options *ret, struct err *err);

#endif
