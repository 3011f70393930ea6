/* The connection of a command: where to, who, and what to say when it fails. */
#ifndef GODWIT_TOOLS_SESSION_H
#define GODWIT_TOOLS_SESSION_H

#include "client/godwit.h"
#include "tools/godwit/command.h"
#include "tools/godwit/json.h"

#include <stdatomic.h>

enum { SESSION_ARG_COUNT = 7, SESSION_FIELD_LEN = 512 };

/* Precedence: options, then --credentials FILE, then the environment. */
struct session_options {
    const char *url;
    const char *app;
    const char *secret;
    const char *credentials;
    const char *ca;
    uint64_t connect_ms;
    const char *filter; /* in the request, to show where it is wrong; NULL */
    struct arg table[SESSION_ARG_COUNT]; /* points into this struct */
    char file_url[SESSION_FIELD_LEN];
    char file_app[SESSION_FIELD_LEN];
    char file_secret[SESSION_FIELD_LEN];
};

/* Sets the defaults and builds the table for command_parse(). The struct must
 * not move afterwards. */
const struct arg *session_args(struct session_options *o);

/* After parsing: read the credentials file and the environment. Returns an exit
 * code; says on stderr what is missing. */
int session_resolve(struct session_options *o);

struct session {
    const char *url;
    const char *filter; /* the options' */
    struct godwit *client;
    atomic_bool ended; /* a refusal or the time limit ended it */
    _Atomic enum status end_status;
    atomic_bool was_connected; /* the client's thread sets it */
    bool was_answered;         /* a request was, whatever came */
    bool told; /* client's thread only: the present outage was mentioned */
    bool http;
    uint32_t connect_ms;
};

/* For requests over HTTP only. Returns an exit code. `o` must outlive it. */
int session_open_http(struct session *s, struct session_options *o);

/* A stream with its own thread; waits until it is connected. With `give_up_ms`
 * it ends when a later outage lasts longer. Returns an exit code. */
int session_open_stream(struct session *s, struct session_options *o,
                        uint32_t window, uint32_t give_up_ms);

void session_close(struct session *s); /* accepts a zeroed one */

/* One request. Returns an exit code; a failure has been reported. *answer (may
 * be NULL) is the document that came, for json_free(). */
int session_call(struct session *s, const char *method, const char *path,
                 const char *body, struct json **answer);

/* A GET whose answer counts whatever its code is, if it has this member; else
 * it is a refusal, and reported. */
int session_report(struct session *s, const char *path, const char *member,
                   struct json **answer);

/* The same, quietly, for a plain text answer such as /metrics; the caller frees
 * it. NULL: it failed. */
char *session_fetch(struct session *s, const char *path);

/* A GET of somebody who waits for a broker that is away for a while: *lost, and
 * nothing was said, when there is no connection or the broker is being stopped.
 * Otherwise as session_call(). */
int session_try(struct session *s, const char *path, struct json **answer,
                bool *lost);

/* Say on stderr why a call on the client failed. Returns the exit code. */
int session_failed(struct session *s, const char *what,
                   enum godwit_status status);

/* Fill in what a client needs to connect as `o` says. */
void session_client_options(const struct session_options *o,
                            struct godwit_options *out);

/* Names go into paths and need no escaping. False: said on stderr. */
bool check_name(const char *word, const char *name);

#endif
