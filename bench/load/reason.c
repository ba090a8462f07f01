/* SPDX-License-Identifier: Apache-2.0 */
/* Why operations failed: counted by where, status and reason. */
#include <stdio.h>
#include <string.h>

#include "load.h"

/* Numbers and quoted values differ from call to call: '#' and '...' stand for them, so that equal
 * reasons count as one. */
static void normalise(const char *message, char *to, size_t size)
{
	size_t n = 0;
	bool quoted = false;

	for (const char *at = message; *at && n + 5 < size; at++) {
		if (*at == '\'') {
			if (!quoted)
				n += (size_t)snprintf(to + n, size - n, "'...");
			else
				to[n++] = '\'';
			quoted = !quoted;
		} else if (quoted) {
			continue;
		} else if (*at >= '0' && *at <= '9') {
			if (!n || to[n - 1] != '#')
				to[n++] = '#';
		} else {
			to[n++] = *at == '\n' ? ' ' : *at;
		}
	}
	to[n] = '\0';
}

void reason_note(struct load *load, const char *where, int status, const char *message)
{
	char text[REASON_BYTES];

	normalise(message, text, sizeof(text));
	for (size_t i = 0; i < load->reason_count; i++) {
		struct reason *r = &load->reasons[i];

		if (r->status == status && r->where == where && !strcmp(r->text, text)) {
			r->count++;
			return;
		}
	}
	if (load->reason_count == REASONS_MAX) {
		load->reasons_more++;
		return;
	}
	load->reasons[load->reason_count] =
		(struct reason){.status = status, .where = where, .count = 1};
	memcpy(load->reasons[load->reason_count++].text, text, sizeof(text));
}
