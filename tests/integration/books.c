/* SPDX-License-Identifier: Apache-2.0 */
/* Prints an arena's books as one JSON object: what the integration tests compare with the processes
 * that really run. */
#include <stdio.h>
#include <stdlib.h>

#include "registry/registry.h"

static int fail(const char *what, const char *path, enum reg_status status)
{
	fprintf(stderr, "%s '%s': %s\n", what, path, reg_status_text(status));
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	struct reg *reg = NULL;
	struct reg_self *me = NULL;
	struct reg_books books;
	enum reg_status status;

	if (argc != 2) {
		fprintf(stderr, "usage: integration_books ARENA\n");
		return 2;
	}
	status = reg_attach(argv[1], &reg);
	if (status != REG_OK)
		return fail("attach", argv[1], status);
	status = reg_join(reg, REG_KIND_TOOL, &me);
	if (status != REG_OK) {
		reg_detach(reg);
		return fail("join", argv[1], status);
	}
	reg_books(me, &books);
	printf("{\"sandboxes\":%u,\"slots_held\":%u,\"names\":%u,\"request_ids\":%u,\"ports\":%u,"
	       "\"blobs\":%u,\"contradictions\":%u}\n",
	       books.sandboxes, books.slots_held, books.names, books.request_ids, books.ports,
	       books.blobs, books.contradictions);
	reg_leave(me);
	reg_detach(reg);
	return EXIT_SUCCESS;
}
