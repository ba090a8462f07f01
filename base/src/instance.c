/* SPDX-License-Identifier: Apache-2.0 */
/* Default paths of an instance. */
#include "base/instance.h"

#include <errno.h>
#include <stdio.h>

static int fill(const char **path, const char *prefix, const char *instance, char *buf, size_t size,
		struct err *err)
{
	if (*path)
		return 0;
	if ((size_t)snprintf(buf, size, "%s%s", prefix, instance) >= size)
		return err_set(err, -EINVAL, "--instance is too long: '%.64s...'", instance);
	*path = buf;
	return 0;
}

int instance_run_dir(const char **path, const char *instance, char *buf, size_t size,
		     struct err *err)
{
	return fill(path, INSTANCE_RUN_DIR, instance, buf, size, err);
}

int instance_arena(const char **path, const char *instance, char *buf, size_t size, struct err *err)
{
	return fill(path, INSTANCE_ARENA, instance, buf, size, err);
}
