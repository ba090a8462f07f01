/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logfmt lines on stderr: ts=… level=… comp=… pid=… event="…" key=value …. Programs log a failure
 * once, at the outermost place that knows the request; libraries do not log. Safe from several
 * threads: one write(2) per line. Level from $FSB_LOG (debug, info, warn, error; default info).
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* comp: "fastpath", "registryd", …: keeps the pointer. Reads $FSB_LOG. */
void log_init(const char *comp);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/*
 * event: a constant phrase. fmt: a printf format of key=value pairs, e.g. "sandbox=%s agent=%s
 * err=%s"; values that hold a space, quote or control character are quoted and escaped by the
 * logger when printed with %s, which log_event finds by scanning the format itself (only %s %d %u
 * %x with ll, l or z, %c and %% are known; the text from an unknown one on is printed as it
 * stands). fmt "" means no pairs. Lines are cut at 4 KiB.
 */
void log_event(enum log_level level, const char *event, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define log_debug(event, ...)                                                                      \
	do {                                                                                       \
		if (log_get_level() <= LOG_DEBUG)                                                  \
			log_event(LOG_DEBUG, event, __VA_ARGS__);                                  \
	} while (0)
#define log_info(event, ...)  log_event(LOG_INFO, event, __VA_ARGS__)
#define log_warn(event, ...)  log_event(LOG_WARN, event, __VA_ARGS__)
#define log_error(event, ...) log_event(LOG_ERROR, event, __VA_ARGS__)

#endif
