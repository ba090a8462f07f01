/* SPDX-License-Identifier: Apache-2.0 */
/* A process that attaches an arena with damaged contents: no reader crashes or runs for ever. The
 * first byte says whether it changes things as well. */
#include "fuzz_bed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	fuzz_restore();
	fuzz_patch(data + 1, size - 1);
	fuzz_use(data[0] & 1);
	return 0;
}
