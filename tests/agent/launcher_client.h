/* SPDX-License-Identifier: Apache-2.0 */
/* A blocking client of the launcher's socket: what fsb-agent does, for tests of the launcher alone.
 */
#ifndef TESTS_AGENT_LAUNCHER_CLIENT_H
#define TESTS_AGENT_LAUNCHER_CLIENT_H

#include "base/pb.h"
#include "launcher.pb-c.h"
#include "testing.h"

typedef Fsb__Launcher__V1__Notice Notice;
#define ACK(name)    FSB__AGENT__V1__ACK_CODE__##name
#define NOTICE(name) FSB__LAUNCHER__V1__NOTICE_KIND__##name

struct lclient {
	int fd;
	uint64_t next_seq;
	struct pb_arena *arena; /* of the notice returned last */
};

/* Waits up to 5 s for the launcher to listen. */
void lclient_connect(struct lclient *c, const struct testbed *bed, const char *agent);
void lclient_close(struct lclient *c);
uint64_t lclient_send(struct lclient *c, Fsb__Launcher__V1__Request *request);
/* The next notice, valid until the next call; NULL after timeout_ms or at the end of the
 * connection. */
const Notice *lclient_next(struct lclient *c, int timeout_ms);
/* The next notice of that kind and, unless 0, seq; others are dropped. */
const Notice *lclient_wait(struct lclient *c, Fsb__Launcher__V1__NoticeKind kind, uint64_t seq);

/* A start request with sensible fields: id, image layer "base", sh -c script. Static storage. */
Fsb__Launcher__V1__Start *lclient_sh(const char *id, const char *script);
uint64_t lclient_send_start(struct lclient *c, Fsb__Launcher__V1__Start *start);
uint64_t lclient_send_stop(struct lclient *c, const char *id, int grace_s, bool keep_files);
uint64_t lclient_send_remove(struct lclient *c, const char *id);

#endif
