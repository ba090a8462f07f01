/* SPDX-License-Identifier: Apache-2.0 */
/* Which store a URL means. */
#include <errno.h>
#include <string.h>

#include "store.h"

int crd_store_open(const char *url, struct crd_store **ret, struct err *err)
{
	static const char sqlite[] = "sqlite:";

	if (strncmp(url, sqlite, strlen(sqlite)) == 0 && url[strlen(sqlite)])
		return crd_store_sqlite_open(url + strlen(sqlite), ret, err);
	return err_set(err, -EINVAL, "store '%s': this build knows sqlite:PATH", url);
}

struct crd_store *crd_store_close(struct crd_store *store)
{
	if (store)
		store->ops->close(store);
	return NULL;
}
