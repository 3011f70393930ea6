/* A session layer of paper under the JSON and HTTP doors: each call of
 * session.h is written down as a line of text, and what the door sends is kept.
 * The test answers through struct door itself. */
#ifndef GODWIT_TEST_LIB_FAKE_SESSION_H
#define GODWIT_TEST_LIB_FAKE_SESSION_H

#include "broker/door/doors.h"
#include "broker/session/explain.h"
#include "broker/session/operate.h"

struct session {
    const struct door *door;
    void *door_state;
    struct catalog *catalog;
    struct codec *codec;
    const struct app *app;
    /* what was called */
    char calls[16384];
    size_t call_count;
    /* what the next call does */
    bool authorized;  /* session_authorize() says yes */
    bool arrives;     /* session_go_to_group() arrives from within */
    bool known_group; /* session_group_view() finds it */
    /* what session_explain(), session_dead() and session_redrive_state() say */
    struct dispatch_explanation explanation;
    const struct dispatch_dead *dead;
    size_t dead_count;
    bool redriven;
    struct redrive_state redrive;
    struct refusal look_refusal; /* of the first two, if its status is set */
    struct standing held;        /* session_held_by() */
    struct refusal refusal; /* of session_authorize(), if its status is set */
    void (*on_call)(struct session *session); /* after noting one; or NULL */
    /* what was sent */
    struct bytes out; /* a WebSocket's frames */
    int code;         /* an HTTP answer, 0: none */
    size_t answer_count;
    char type[128];
    char extra[512];
    struct bytes body;
    unsigned closed; /* close code */
};

struct session *fake_session_new(const struct door *door);
void fake_session_free(struct session *session);
/* Add an app, a topic or a group to its catalog. */
void fake_session_add(struct session *session, enum catalog_class class,
                      const char *name, uint32_t owner, const char *patterns,
                      bool admin);
/* The next WebSocket frame's payload, as text; NULL: none. */
char *fake_session_frame(struct session *session);

#endif
