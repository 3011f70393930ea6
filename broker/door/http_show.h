/* What the HTTP door shows of the catalog, as JSON. */
#ifndef GODWIT_BROKER_DOOR_HTTP_SHOW_H
#define GODWIT_BROKER_DOOR_HTTP_SHOW_H

#include "broker/door/json.h"
#include "broker/session/session.h"

/* May the session's app see it? An admin everything; others the topics they may
 * publish or subscribe to and those they made, and their own groups. */
bool may_see_topic(const struct session *session, const struct topic *topic);
bool may_see_group(const struct session *session,
                   const struct group_fact *group);

/* Whole documents, appended. */
MUST_CHECK enum status show_topics(struct session *session, struct bytes *to);
MUST_CHECK enum status show_topic(struct session *session,
                                  const struct topic *topic, struct bytes *to);
MUST_CHECK enum status show_groups(struct session *session, struct bytes *to);
/* On the group's worker, with members, figures and lanes.
 * STATUS_NOT_FOUND: it has gone. */
MUST_CHECK enum status show_group(struct session *session, const char *name,
                                  struct bytes *to);
/* Never a secret. */
MUST_CHECK enum status show_apps(struct session *session, struct bytes *to);
MUST_CHECK enum status show_app(const struct app *app, struct bytes *to);

/* Figures of the store, and the last places of damage. http_store.c. */
struct broker_metrics;
MUST_CHECK enum status show_store(const struct session *session,
                                  const struct broker_metrics *metrics,
                                  struct bytes *to);

#endif
