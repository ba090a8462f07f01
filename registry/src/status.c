/* SPDX-License-Identifier: Apache-2.0 */
/* Names and texts of statuses and states. */
#include "registry/registry.h"

const char *reg_status_name(enum reg_status status)
{
	static const char *const names[] = {
#define NAME(name, text) #name,
		REG_STATUS_LIST(NAME)
#undef NAME
	};

	return (unsigned int)status < REG_STATUS_MAX ? names[status] : "?";
}

const char *reg_status_text(enum reg_status status)
{
	static const char *const texts[] = {
#define TEXT(name, text) text,
		REG_STATUS_LIST(TEXT)
#undef TEXT
	};

	return (unsigned int)status < REG_STATUS_MAX ? texts[status] : "?";
}

const char *reg_state_name(enum reg_state state)
{
	static const char *const names[] = {"FREE",    "CLAIMED",  "RESERVED", "STARTING",
					    "RUNNING", "STOPPING", "EXITED",   "EXPIRED",
					    "LOST",    "RESTORED", "GONE"};

	return (unsigned int)state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}
