/* SPDX-License-Identifier: Apache-2.0 */
/* reg_attach and the inspector over damaged headers and lengths: refused with a status, or good for
 * every reader. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "fuzz_bed.h"
#include "internal.h"
#include "registry/inspect.h"

static void inspect(void)
{
	struct reg_inspect_header header;
	struct reg_inspect_sum sum;
	struct reg_inspect *ins;

	if (reg_inspect_open(fuzz_path, &ins) != REG_OK)
		return;
	reg_inspect_header(ins, &header);
	base_bug(reg_inspect_check(ins, NULL, NULL, &sum) != REG_OK);
	/* what attach refuses for its header is broken for the inspector, too */
	base_bug(header.verdict && !sum.findings[REG_FINDING_BROKEN]);
	(void)reg_inspect_close(ins);
}

/* The header's bytes; two more cut the file. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t n = size < sizeof(struct reg_header) ? size : sizeof(struct reg_header);
	struct reg_inspect_header header;
	struct reg_inspect *ins;
	struct reg *reg;

	fuzz_restore();
	memcpy(fuzz_map, data, n);
	if (size >= sizeof(struct reg_header) + 2 && data[n])
		base_bug(truncate(fuzz_path, (off_t)(fuzz_bytes >> (data[n] % 24)) + data[n + 1]) !=
			 0);
	inspect();
	base_bug(reg_inspect_open(fuzz_path, &ins) != REG_OK);
	reg_inspect_header(ins, &header);
	(void)reg_inspect_close(ins);
	enum reg_status st = reg_attach(fuzz_path, &reg);

	base_bug(st != header.verdict); /* both judge alike */
	if (!st) {
		(void)reg_detach(reg);
		fuzz_use(0);
	}
	return 0;
}
