/* SPDX-License-Identifier: Apache-2.0 */
/* One file descriptor per packet over a SOCK_SEQPACKET pair (SCM_RIGHTS). Non-blocking. */
#ifndef FASTPATH_FDPASS_H
#define FASTPATH_FDPASS_H

/* 0; -EAGAIN: the other side has not taken the earlier ones; -EPIPE and others: it is gone. fd
 * stays the caller's. */
int fp_fd_send(int sock, int fd);
/* 0 and *ret (gives, close-on-exec); -EAGAIN: none is waiting; -EPIPE: the other side is gone;
 * -EBADMSG: no fd in the packet. */
int fp_fd_recv(int sock, int *ret);

#endif
