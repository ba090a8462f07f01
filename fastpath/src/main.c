/* SPDX-License-Identifier: Apache-2.0 */
/* fsb-fastpath: options, then the master. */
#include <stdio.h>

#include "base/log.h"
#include "master.h"
#include "worker.h"

int main(int argc, char **argv)
{
	struct fp_options opts;
	struct err err = ERR_INIT;
	int rc = fp_options_parse(argc, argv, &opts, &err);

	if (rc == OPT_EXIT)
		return FP_EXIT_OK;
	if (rc) {
		fprintf(stderr, "fsb-fastpath: %s\n", err.msg);
		return FP_EXIT_USAGE;
	}
	log_init("fastpath");
	return fp_master_run(&opts);
}
