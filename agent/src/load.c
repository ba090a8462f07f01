/* SPDX-License-Identifier: Apache-2.0 */
/* The LoadImage method: the unpacking is done by a thread of its own, so that starts don't wait for
 * it. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "base/log.h"

enum { LOADS_MAX = 8 };

struct load {
	struct agent *a;
	struct gcall *call;
	char *path, *layout_ref, *name;
	struct image_load_result result;
	struct err err;
	int rc;
};

static struct load *load_free(struct load *ld)
{
	if (!ld)
		return NULL;
	free(ld->path);
	free(ld->layout_ref);
	free(ld->name);
	free(ld);
	return NULL;
}

static int status_of(int rc)
{
	switch (rc) {
	case -ENOENT:
	case -ENOTDIR:
		return G_NOT_FOUND;
	case -EINVAL:
	case -EBADMSG:
	case -ENAMETOOLONG:
	case -E2BIG:
	case -EFBIG:
		return G_INVALID_ARGUMENT;
	case -ENOSPC:
	case -ENOMEM:
		return G_RESOURCE_EXHAUSTED;
	default:
		return G_INTERNAL;
	}
}

static void reply(struct load *ld)
{
	Fsb__Agent__V1__LoadImageResponse response = FSB__AGENT__V1__LOAD_IMAGE_RESPONSE__INIT;

	if (ld->rc || gcall_cancelled(ld->call)) {
		gcall_fail(ld->call, ld->rc ? status_of(ld->rc) : G_CANCELLED, "%s", ld->err.msg);
		return;
	}
	response.image = ld->result.ref;
	response.digest = ld->result.digest;
	response.bytes = ld->result.bytes;
	response.already_present = ld->result.already_present;
	gcall_reply(ld->call, &response.base);
}

/* On the loop's thread. */
static void on_loaded(void *arg)
{
	struct load *ld = arg;
	struct agent *a = ld->a;

	a->loads--;
	if (image_store_reload(a->images))
		agt_event_images(a);
	log_info("image loaded", "path=%s image=%s err=%s", ld->path, ld->result.ref, ld->err.msg);
	reply(ld);
	load_free(ld);
}

static void *load_thread(void *arg)
{
	struct load *ld = arg;
	struct image_load_request request = {
		.run_dir = ld->a->run_dir,
		.layout_path = ld->path,
		.layout_ref = ld->layout_ref,
		.name = ld->name,
	};

	ld->rc = image_load(&request, &ld->result, &ld->err);
	/* Without memory to post the call can't be answered: better end than leave it hanging. */
	base_bug(gloop_post(ld->a->loop, on_loaded, ld));
	return NULL;
}

/* The thread finishes the call whether or not somebody still waits. */
static void on_cancel(struct gcall *call)
{
	(void)call;
}

static int start_thread(struct load *ld)
{
	pthread_attr_t attr;
	pthread_t thread;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	rc = pthread_create(&thread, &attr, load_thread, ld);
	pthread_attr_destroy(&attr);
	return rc;
}

void agt_load_call(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__Agent__V1__LoadImageRequest *request =
		(const Fsb__Agent__V1__LoadImageRequest *)msg;
	struct agent *a = gserver_ctx(gcall_server(call));
	struct load *ld;

	if (a->loads >= LOADS_MAX) {
		gcall_fail(call, G_RESOURCE_EXHAUSTED,
			   "%u images are being loaded: try again later", a->loads);
		return;
	}
	ld = calloc(1, sizeof(*ld));
	if (ld) {
		ld->a = a;
		ld->call = call;
		ld->path = strdup(request->layout_path);
		ld->layout_ref = strdup(request->layout_ref);
		ld->name = strdup(request->name);
	}
	if (!ld || !ld->path || !ld->layout_ref || !ld->name || start_thread(ld)) {
		load_free(ld);
		gcall_fail(call, G_RESOURCE_EXHAUSTED, "the agent is out of memory or threads");
		return;
	}
	a->loads++;
	gcall_set_user(call, ld, on_cancel);
}
