/* SPDX-License-Identifier: Apache-2.0 */
/* Loading an image: asked of every agent in turn, because only an agent knows which store it shares
 * with others. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "check.h"
#include "create.h"
#include "service.h"
#include "status.h"

struct load {
	struct fp_service *svc;
	uint32_t cursor; /* next agent to look at */
	uint32_t agents; /* have it */
	uint64_t deadline_ns, bytes;
	char image[REG_IMAGE_MAX + 1], digest[160], agent[REG_NAME_MAX + 1];
	char ns[REG_NAMESPACE_MAX + 1], pool[REG_NAME_MAX + 1];
	char *path, *ref, *name;
	void (*done)(void *arg, const struct fp_loaded *loaded);
	void *arg;
};

static void load_next(struct load *load);

static void load_free(struct load *load)
{
	free(load->path);
	free(load->ref);
	free(load->name);
	free(load);
}

static void load_end(struct load *load, int status, const char *message)
{
	const struct fp_loaded loaded = {
		.status = status,
		.message = message,
		.image = load->image,
		.digest = load->digest,
		.bytes = load->bytes,
		.agents = load->agents,
	};

	load->done(load->arg, &loaded);
	load_free(load);
}

static void on_done(void *arg, const struct gresult *result, const ProtobufCMessage *msg)
{
	const Fsb__Agent__V1__LoadImageResponse *reply =
		(const Fsb__Agent__V1__LoadImageResponse *)msg;
	struct load *load = arg;
	struct fp_fail fail;

	if (result->status != G_OK) {
		fp_fail(&fail, result->status, "agent '%s': %s", load->agent, result->message);
		load_end(load, fail.status, fail.msg);
		return;
	}
	load->agents++;
	load->bytes = reply->bytes > load->bytes ? reply->bytes : load->bytes;
	snprintf(load->image, sizeof(load->image), "%s", reply->image);
	snprintf(load->digest, sizeof(load->digest), "%s", reply->digest);
	load_next(load);
}

static bool load_wants(const struct load *load, const struct reg_agent_view *agent)
{
	if (!agent->ready)
		return false;
	if (*load->ns && strcmp(agent->ns, load->ns))
		return false;
	return !*load->pool || !strcmp(agent->pool, load->pool);
}

static void load_send(struct load *load, const struct reg_agent_view *agent)
{
	Fsb__Agent__V1__LoadImageRequest request = FSB__AGENT__V1__LOAD_IMAGE_REQUEST__INIT;
	uint64_t now = clock_mono_ns();
	struct agentlink *link;
	struct fp_fail fail;

	snprintf(load->agent, sizeof(load->agent), "%s", agent->name);
	if (fp_links_get(load->svc->links, agent->id, &link, NULL, &fail)) {
		load_end(load, fail.status, fail.msg);
		return;
	}
	request.layout_path = load->path;
	request.layout_ref = load->ref;
	request.name = load->name;
	if (load->deadline_ns <= now)
		load_end(load, G_DEADLINE_EXCEEDED, "the deadline has passed");
	else if (!agentlink_load_image(link, &request, load->deadline_ns - now, on_done, load))
		load_end(load, G_RESOURCE_EXHAUSTED, "this worker is out of memory");
}

static void load_next(struct load *load)
{
	struct reg_agent_view agent;
	struct fp_fail fail;

	while (reg_agent_next(load->svc->me, &load->cursor, &agent)) {
		if (load_wants(load, &agent)) {
			load_send(load, &agent);
			return;
		}
	}
	if (load->agents) {
		load_end(load, G_OK, "");
		return;
	}
	fp_fail(&fail, G_FAILED_PRECONDITION,
		"no agent is ready%s%s%s%s: the image was loaded nowhere",
		*load->ns ? " in namespace " : "", load->ns, *load->pool ? ", pool " : "",
		load->pool);
	load_end(load, fail.status, fail.msg);
}

static int check_args(const struct fp_load_args *args, struct fp_fail *fail)
{
	char q[FP_QUOTED_MAX + 8], image[REG_IMAGE_MAX + 1];
	int status;

	if (args->layout_path[0] != '/')
		return fp_fail(
			fail, G_INVALID_ARGUMENT,
			"invalid layout_path '%s': must be the absolute path of an OCI layout "
			"directory on the agents' host",
			fp_quote(args->layout_path, q));
	if (strlen(args->layout_path) >= 4096)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "layout_path has %zu bytes: at most 4095 are taken",
			       strlen(args->layout_path));
	status = *args->name ? fp_check_image(args->name, image, fail) : G_OK;
	if (!status && *args->ns)
		status = fp_check_namespace(args->ns, fail);
	if (!status && *args->pool)
		status = fp_check_pool(args->pool, fail);
	return status;
}

/* Unpacking takes its time: a client without a deadline gets ten minutes. */
#define LOAD_DEADLINE_NS (600 * NS_PER_S)

void fp_load_image(struct fp_service *svc, const struct fp_load_args *args,
		   void (*done)(void *arg, const struct fp_loaded *loaded), void *arg)
{
	struct fp_loaded refused = {.image = "", .digest = ""};
	struct load *load;
	struct fp_fail fail;

	if (check_args(args, &fail)) {
		refused.status = fail.status;
		refused.message = fail.msg;
		done(arg, &refused);
		return;
	}
	load = calloc(1, sizeof(*load));
	if (load) {
		load->path = strdup(args->layout_path);
		load->ref = strdup(args->layout_ref);
		load->name = strdup(args->name);
	}
	if (!load || !load->path || !load->ref || !load->name) {
		refused.status = G_RESOURCE_EXHAUSTED;
		refused.message = "this worker is out of memory";
		done(arg, &refused);
		if (load)
			load_free(load);
		return;
	}
	load->svc = svc;
	load->done = done;
	load->arg = arg;
	load->deadline_ns = args->deadline_ns != UINT64_MAX ? args->deadline_ns
							    : clock_mono_ns() + LOAD_DEADLINE_NS;
	snprintf(load->ns, sizeof(load->ns), "%s", args->ns);
	snprintf(load->pool, sizeof(load->pool), "%s", args->pool);
	load_next(load);
}
