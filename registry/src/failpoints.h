/* SPDX-License-Identifier: Apache-2.0 */
/* The steps between two shared writes at which tests kill or stop a process. Each name is used at
 * exactly one place. */
#ifndef REGISTRY_SRC_FAILPOINTS_H
#define REGISTRY_SRC_FAILPOINTS_H

#define REG_FAILPOINTS(X)                                                                          \
	X("reserve.record-claimed")                                                                \
	X("reserve.record-filled")                                                                 \
	X("reserve.request-tentative")                                                             \
	X("reserve.request-claimed")                                                               \
	X("reserve.name-claimed")                                                                  \
	X("reserve.mask-taken")                                                                    \
	X("reserve.slot-claimed")                                                                  \
	X("reserve.hint-published")                                                                \
	X("reserve.placed")                                                                        \
	X("reserve.port-claimed")                                                                  \
	X("reserve.published")                                                                     \
	X("batch.admitted")                                                                        \
	X("batch.placed")                                                                          \
	X("batch.member-marked")                                                                   \
	X("batch.head-published")                                                                  \
	X("batch.member-shown")                                                                    \
	X("batch.undone")                                                                          \
	X("starting.done")                                                                         \
	X("commit.slot-busy")                                                                      \
	X("commit.done")                                                                           \
	X("abort.claimed")                                                                         \
	X("undo.ports-freed")                                                                      \
	X("undo.slot-freed")                                                                       \
	X("undo.mask-cleared")                                                                     \
	X("undo.place-cleared")                                                                    \
	X("undo.name-freed")                                                                       \
	X("undo.request-freed")                                                                    \
	X("undo.blobs-freed")                                                                      \
	X("undo.record-gone")                                                                      \
	X("undo.record-freed")                                                                     \
	X("stop.marked")                                                                           \
	X("stopped.moved")                                                                         \
	X("exited.noted")                                                                          \
	X("exited.moved")                                                                          \
	X("update.blob-filled")                                                                    \
	X("update.checked")                                                                        \
	X("update.swapped")                                                                        \
	X("adopt.owned")                                                                           \
	X("adopt.slot-claimed")                                                                    \
	X("adopt.moved")                                                                           \
	X("adopt.placed")                                                                          \
	X("row.taken")                                                                             \
	X("row.filled")                                                                            \
	X("row.committed")                                                                         \
	X("agent.capacity-set")                                                                    \
	X("agent.removed")                                                                         \
	X("cold.filled")                                                                           \
	X("cold.published")                                                                        \
	X("cold.retired")                                                                          \
	X("images.listed")                                                                         \
	X("images.bit-set")                                                                        \
	X("images.bit-cleared")                                                                    \
	X("retire.named")                                                                          \
	X("retire.timed")                                                                          \
	X("retire.claimed")                                                                        \
	X("retire.poisoned")                                                                       \
	X("retire.reclaimed")                                                                      \
	X("sweep.retiring")                                                                        \
	X("sweep.retired")                                                                         \
	X("reap.role-taken")                                                                       \
	X("reap.record-taken")                                                                     \
	X("reap.records-done")                                                                     \
	X("reap.slots-done")

#endif
