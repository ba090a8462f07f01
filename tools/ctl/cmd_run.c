/* SPDX-License-Identifier: Apache-2.0 */
/* run: one sandbox. Uses fastpath.v1, unless an option asks for something that only fsb.v1 knows.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "ctl.h"
#include "msg.h"
#include "specopts.h"
#include "text.h"

static struct {
	struct spec_flags spec;
	const char *mode, *output;
	bool mode_set, wait_stored;
} flags;

static const struct opt opts[] = {
	SPEC_OPTS(flags.spec),
	{.name = "mode",
	 .kind = OPT_STRING,
	 .arg = "fast|strong",
	 .help = "strong: in the store before it starts; default: fast",
	 .string = &flags.mode,
	 .ret_set = &flags.mode_set},
	{.name = "wait-stored",
	 .kind = OPT_FLAG,
	 .help = "return when the store has the sandbox",
	 .flag = &flags.wait_stored},
	CTL_OUTPUT_OPT("text|json", "text", &flags.output),
	{.name = NULL},
};

/* What both services tell about a new sandbox. */
struct created {
	const char *name, *id, *agent;
	size_t n_endpoints;
	char **endpoints;
	uint64_t took_ns;
};

static void print_text(const struct created *c)
{
	char took[40];

	printf("🎉 Sandbox created successfully in %s\n",
	       text_duration(c->took_ns, took, sizeof(took)));
	printf("Name:      %s\nID:        %s\nAgent:     %s\nEndpoints: [", c->name, c->id,
	       c->agent);
	for (size_t i = 0; i < c->n_endpoints; i++)
		printf("%s%s", i ? " " : "", c->endpoints[i]);
	printf("]\n");
}

static void print_json(const struct created *c)
{
	json_t *object = json_pack("{s:s,s:s,s:s}", "sandbox_id", c->id, "agent_pod", c->agent,
				   "sandbox_name", c->name);

	json_object_set_new(object, "endpoints", msg_json_strings(c->n_endpoints, c->endpoints));
	json_object_set_new(object, "took_us", json_integer((json_int_t)(c->took_ns / NS_PER_US)));
	msg_print_json(object);
}

static void print_created(const struct created *c)
{
	if (!strcmp(flags.output, "json"))
		print_json(c);
	else
		print_text(c);
}

static int run_fastpath(struct ctl *ctl, const char *name, const struct run_spec *spec,
			struct err *err)
{
	cleanup_pb struct pb_arena *arena = NULL;
	const Fastpath__V1__CreateResponse *reply;
	ProtobufCMessage *msg = NULL;
	uint64_t start_ns = clock_mono_ns();
	int rc = ctl_call(ctl, FASTPATH_V1 "CreateSandbox",
			  &msg_create(&ctl->mem, ctl->ns, name, spec)->base,
			  &fastpath__v1__create_response__descriptor, &arena, &msg, err);

	if (rc)
		return rc;
	reply = (const Fastpath__V1__CreateResponse *)msg;
	print_created(&(struct created){.name = reply->sandbox_name,
					.id = reply->sandbox_id,
					.agent = reply->agent_pod,
					.n_endpoints = reply->n_endpoints,
					.endpoints = reply->endpoints,
					.took_ns = clock_mono_ns() - start_ns});
	return 0;
}

static int run_fsb(struct ctl *ctl, char *name, const struct run_spec *spec, struct err *err)
{
	cleanup_pb struct pb_arena *arena = NULL;
	Fsb__V1__CreateSandboxRequest request = FSB__V1__CREATE_SANDBOX_REQUEST__INIT;
	const Fsb__V1__Sandbox *reply;
	ProtobufCMessage *msg = NULL;
	uint64_t start_ns = clock_mono_ns();
	int rc;

	request.name = name;
	request.spec = msg_spec(&ctl->mem, spec);
	request.options = msg_options(&ctl->mem, ctl->ns, spec);
	if (flags.wait_stored)
		request.options->wait_for = FSB__V1__WAIT_FOR__WAIT_STORED;
	rc = ctl_call(ctl, FSB_V1 "CreateSandbox", &request.base, &fsb__v1__sandbox__descriptor,
		      &arena, &msg, err);
	if (rc)
		return rc;
	reply = (const Fsb__V1__Sandbox *)msg;
	print_created(&(struct created){.name = reply->name,
					.id = reply->id,
					.agent = reply->agent,
					.n_endpoints = reply->n_endpoints,
					.endpoints = reply->endpoints,
					.took_ns = clock_mono_ns() - start_ns});
	return 0;
}

static int run(struct ctl *ctl, int npos, char **pos, struct err *err)
{
	struct run_spec spec;
	int rc = ctl_check_output(flags.output, "text json", err);

	if (!rc)
		rc = ctl_one_namespace(ctl, err);
	if (!rc)
		rc = spec_collect(&flags.spec, npos - 1, pos + 1, &ctl->mem, &spec, err);
	if (!rc && flags.mode_set) {
		spec.mode_set = true;
		rc = spec_parse_mode("--mode", flags.mode, &spec.strong, err);
	}
	if (rc)
		return rc;
	if (spec.network[0] || flags.wait_stored)
		return run_fsb(ctl, pos[0], &spec, err);
	return run_fastpath(ctl, pos[0], &spec, err);
}

const struct ctl_command ctl_cmd_run = {
	.name = "run",
	.args = "NAME [COMMAND [ARG...]]",
	.summary = "create a sandbox",
	.opts = opts,
	.epilog = "The word after NAME starts the sandbox's own command; what follows is not read "
		  "as options.\n"
		  "\n"
		  "  fsb-ctl run web --image busybox --ports 80 --network shared httpd -f\n"
		  "  fsb-ctl run -f sandbox.yaml job-1 sh -c 'echo hello'",
	.min_pos = 1,
	.max_pos = -1,
	.verbatim_from = 1,
	.run = run,
};
