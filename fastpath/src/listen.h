/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets of the master: TCP on loopback (elsewhere only when told so) and a unix socket.
 */
#ifndef FASTPATH_LISTEN_H
#define FASTPATH_LISTEN_H

#include <stdbool.h>

#include "base/err.h"

/* "HOST:PORT", "[v6]:PORT"; port 0: any. *ret_fd gives (non-blocking, close-on-exec), *ret_port is
 * what was bound. */
int fp_listen_tcp(const char *address, bool insecure, int *ret_fd, int *ret_port, struct err *err);
/* Mode 0660. Replaces a socket file that nobody listens on; refuses one that is in use and anything
 * that is not a socket. */
int fp_listen_unix(const char *path, int *ret_fd, struct err *err);

#endif
