/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where fsb-ctl connects to and in which namespace: flag, then environment (ENDPOINT, NAMESPACE),
 * then config file, then default. The file is --config, else ./.fsb/config.json, else
 * ~/.fsb/config.json: JSON with "endpoint" and "namespace".
 */
#ifndef CTL_CONFIG_H
#define CTL_CONFIG_H

#include <stdbool.h>

#include "base/err.h"

struct config {
	char endpoint[256];
	char ns[256];
	bool ns_set;	   /* by anything but the default */
	char source[1024]; /* the file that was read; "": none */
};

struct config_flags {
	const char *config;   /* NULL: not given */
	const char *endpoint; /* NULL: not given */
	const char *ns;	      /* NULL: not given; "" is a value */
};

#define CONFIG_DEFAULT_SOCKET "/run/fsb/default/fastpath.sock"
#define CONFIG_DEFAULT_TCP    "localhost:9090"

/* 0, -ENOENT (--config names nothing readable), or -EBADMSG (not the JSON that is expected). */
int config_load(const struct config_flags *flags, struct config *ret, struct err *err);

#endif
