/* SPDX-License-Identifier: Apache-2.0 */
/* The master: never touches gRPC or the arena, so that it can fork at any time. */
#ifndef FASTPATH_MASTER_H
#define FASTPATH_MASTER_H

#include "options.h"

/* Runs until SIGTERM or SIGINT. Returns the exit code, in the master and in its workers. */
int fp_master_run(const struct fp_options *opts);

#endif
