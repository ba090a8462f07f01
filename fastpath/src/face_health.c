/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.health.v1.Health: SERVING once the arena holds what the store held, until the drain. Watch
 * looks four times a second. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "face.h"
#include "health.pb-c.h"

typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus serving;

#define SERVING_	 GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
#define NOT_SERVING_	 GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
#define SERVICE_UNKNOWN_ GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN
#define LOOK_NS		 (250 * NS_PER_MS)

static serving status_of(struct fp_service *svc, const char *service)
{
	static const char *const known[] = {
		"",
		"fastpath.v1.FastPathService",
		"fsb.v1.SandboxService",
		"fsb.v1.AdminService",
		"grpc.health.v1.Health",
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (!strcmp(known[i], service))
			return fp_service_ready(svc) ? SERVING_ : NOT_SERVING_;
	}
	return SERVICE_UNKNOWN_;
}

static void check(struct gcall *call, const ProtobufCMessage *msg)
{
	const Grpc__Health__V1__HealthCheckRequest *req =
		(const Grpc__Health__V1__HealthCheckRequest *)msg;
	Grpc__Health__V1__HealthCheckResponse reply = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	char q[FP_QUOTED_MAX + 8];

	reply.status = status_of(fp_face_service(call), req->service);
	if (reply.status == SERVICE_UNKNOWN_)
		gcall_fail(call, G_NOT_FOUND, "no service '%s' here", fp_quote(req->service, q));
	else
		gcall_reply(call, &reply.base);
}

/* ---- Watch ---- */

struct watch {
	struct fp_service *svc;
	struct gcall *call;
	struct fp_deadline look;
	struct fp_idle idle;
	serving last;
	char *service;
};

#define WATCH_OF(member, at) ((struct watch *)((char *)(at)-offsetof(struct watch, member)))

static void watch_end(struct watch *w, int status, const char *message)
{
	fp_deadline_clear(&w->look);
	fp_idle_del(w->svc, &w->idle);
	gcall_set_user(w->call, NULL, NULL);
	gcall_finish(w->call, status, "%s", message);
	free(w->service);
	free(w);
}

static int watch_send(struct watch *w, serving status)
{
	Grpc__Health__V1__HealthCheckResponse reply = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

	w->last = status;
	reply.status = status;
	return gcall_send(w->call, &reply.base);
}

static void watch_look(struct fp_deadline *look)
{
	struct watch *w = WATCH_OF(look, look);
	serving now = status_of(w->svc, w->service);

	if (now != w->last && watch_send(w, now)) {
		watch_end(w, G_UNAVAILABLE, "the watcher is gone");
		return;
	}
	fp_deadline_set(&w->svc->deadlines, &w->look, clock_mono_ns() + LOOK_NS, watch_look);
}

static void watch_drain(struct fp_idle *idle)
{
	struct watch *w = WATCH_OF(idle, idle);

	(void)watch_send(w, NOT_SERVING_);
	watch_end(w, G_UNAVAILABLE, "this worker is shutting down");
}

static void watch_gone(struct gcall *call)
{
	watch_end(gcall_user(call), G_CANCELLED, "");
}

static void watch(struct gcall *call, const ProtobufCMessage *msg)
{
	const Grpc__Health__V1__HealthCheckRequest *req =
		(const Grpc__Health__V1__HealthCheckRequest *)msg;
	struct watch *w;
	struct fp_fail fail;

	if (fp_idle_check(fp_face_service(call), &fail)) {
		gcall_finish(call, fail.status, "%s", fail.msg);
		return;
	}
	w = calloc(1, sizeof(*w));
	if (w)
		w->service = strdup(req->service);
	if (!w || !w->service) {
		free(w);
		gcall_finish(call, G_RESOURCE_EXHAUSTED, "%s", "this worker is out of memory");
		return;
	}
	w->svc = fp_face_service(call);
	w->call = call;
	gcall_set_user(call, w, watch_gone);
	fp_idle_add(w->svc, &w->idle, true, watch_drain);
	(void)watch_send(w, status_of(w->svc, w->service));
	fp_deadline_set(&w->svc->deadlines, &w->look, clock_mono_ns() + LOOK_NS, watch_look);
}

const struct gmethod fp_methods_health[] = {
	{.path = "/grpc.health.v1.Health/Check",
	 .kind = GMETHOD_UNARY,
	 .request = &grpc__health__v1__health_check_request__descriptor,
	 .handler = check},
	{.path = "/grpc.health.v1.Health/Watch",
	 .kind = GMETHOD_SERVER_STREAM,
	 .request = &grpc__health__v1__health_check_request__descriptor,
	 .handler = watch},
	{.path = NULL},
};
