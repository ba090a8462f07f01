/* SPDX-License-Identifier: Apache-2.0 */
/* Between rig.c and rig_proc.c only. */
#ifndef TESTS_REGISTRY_RIG_PROC_H
#define TESTS_REGISTRY_RIG_PROC_H

#include <stdbool.h>

bool rig_proc_in_child(void);
void rig_proc_end_all(void); /* kills what a failed test left */

#endif
