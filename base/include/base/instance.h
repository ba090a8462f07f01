/* SPDX-License-Identifier: Apache-2.0 */
/* Where the processes of one instance meet, unless flags say otherwise. */
#ifndef BASE_INSTANCE_H
#define BASE_INSTANCE_H

#include <stddef.h>

#include "base/err.h"

#define INSTANCE_RUN_DIR "/run/fsb/"
#define INSTANCE_ARENA	 "/dev/shm/fsb-"

/* *path stays when it is set; else it becomes buf, filled with the default of that instance.
 * -EINVAL when that is too long. */
int instance_run_dir(const char **path, const char *instance, char *buf, size_t size,
		     struct err *err);
int instance_arena(const char **path, const char *instance, char *buf, size_t size,
		   struct err *err);

#endif
