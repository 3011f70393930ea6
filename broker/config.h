/* What an operator may set, by file (YAML), then command line. Read once at
 * start, then never changed. The only user of libcyaml. */
#ifndef GODWIT_BROKER_CONFIG_H
#define GODWIT_BROKER_CONFIG_H

#include "broker/log.h"
#include "proto/error.h"

#include <stdint.h>

/* free_bytes_min: 64 MiB, but no more than a sixteenth of a small disk. */
#define FREE_BYTES_BY_DISK UINT64_MAX

struct config {
    char data_dir[1024];
    char host[256];
    uint16_t port;
    char certificate[1024]; /* PEM files; both or neither */
    char key[1024];
    enum log_level log_level;
    uint32_t workers; /* 1..WORKER_COUNT_MAX */
    uint64_t segment_len;
    uint64_t in_flight_bytes; /* heap tier of each worker, ... */
    uint64_t
        in_flight_direct_bytes;    /* its memory outside of the heap, 0: none */
    uint64_t in_flight_file_bytes; /* its file, 0: none */
    uint32_t connections;          /* of the whole broker */
    uint64_t output_len_max; /* a connection that reads slower is cut off */
    uint64_t head_ms;        /* to send a request head, handshakes included */
    uint64_t body_ms;        /* to send a body or a frame */
    uint64_t idle_ms;        /* HTTP keep-alive; WebSocket without an answer */
    uint64_t ping_ms;        /* WebSocket silence before a ping */
    uint64_t checkpoint_ms;  /* keydir commits, and so the replay at a start */
    uint64_t scrub_mib_s;    /* read and verified in the background; 0: none */
    uint64_t scrub_hours;    /* from one whole pass to the next */
    uint64_t free_bytes_min; /* on the disk; below, publishes are refused */
    uint64_t drain_ms;       /* longest orderly stop */
};

/* The defaults. */
void config_init(struct config *config);

/* Read a file over what is there. Unknown keys, wrong types and values out of
 * range are refused with file, line, key and what is allowed. */
MUST_CHECK enum status config_read(struct config *config, const char *path,
                                   struct error *err);

/* "HOST:PORT", "[::1]:PORT", ":PORT" or "PORT". */
MUST_CHECK enum status config_set_listen(struct config *config,
                                         const char *text, struct error *err);
MUST_CHECK enum status config_set_data_dir(struct config *config,
                                           const char *path, struct error *err);
/* Is the whole of it sensible? */
MUST_CHECK enum status config_check(const struct config *config,
                                    struct error *err);

#endif
