/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Validation of what clients give, before anything is touched. Each returns G_OK or a status with a
 * sentence that names the value and what would be right. Pure.
 */
#ifndef FASTPATH_CHECK_H
#define FASTPATH_CHECK_H

#include <stdint.h>

#include "fail.h"
#include "map.h"
#include "registry/registry.h"
#include "spec.pb-c.h"

/* what: "name", "sandbox_name": how the client calls the field. DNS-1123 subdomain. */
int fp_check_name(const char *what, const char *name, struct fp_fail *fail);
int fp_check_namespace(const char *ns, struct fp_fail *fail);
int fp_check_pool(const char *pool, struct fp_fail *fail);
/* *ret: the canonical reference, REG_IMAGE_MAX + 1 bytes. */
int fp_check_image(const char *image, char *ret, struct fp_fail *fail);
/* ret: REG_PORTS_MAX entries. */
int fp_check_ports(const int32_t *ports, size_t n, uint16_t *ret, struct fp_fail *fail);
/* what: "command", "args". */
int fp_check_argv(const char *what, char *const *argv, size_t n, struct fp_fail *fail);
int fp_check_envs(const struct fp_map *envs, struct fp_fail *fail);
int fp_check_resources(const struct fp_map *resources, struct fp_fail *fail);
int fp_check_labels(const struct fp_map *labels, struct fp_fail *fail);
int fp_check_working_dir(const char *dir, struct fp_fail *fail);
int fp_check_network(const char *network, struct fp_fail *fail);
/* Unix seconds; 0: never. Refuses negatives and what is not after now_unix_ns. */
int fp_check_expire(int64_t expire_unix_s, int64_t now_unix_ns, struct fp_fail *fail);
/* Only MANUAL is served yet; other known ones are UNIMPLEMENTED. */
int fp_check_policy(int policy, struct fp_fail *fail);
int fp_check_recovery(int32_t seconds, struct fp_fail *fail);
/* suffix_len: bytes that will be appended ("/9999"). */
int fp_check_request_id(const char *request_id, size_t suffix_len, struct fp_fail *fail);

/* Everything of a spec but the image: argv, envs, ports, resources, directory, network. */
int fp_check_spec(const Fsb__V1__SandboxSpec *spec, uint16_t *ret_ports, struct fp_fail *fail);

/* What clients hear when they ask for re-creation or a reset. */
#define FP_NO_LIFECYCLE                                                                            \
	"this release has no lifecycle engine yet, which re-creates and resets sandboxes"

#endif
