/* One client and one fake broker, for the client's test suites. */
#ifndef TEST_CLIENT_FIXTURE_H
#define TEST_CLIENT_FIXTURE_H

#include "client/client.h"
#include "test/lib/fake_broker.h"

struct confirm_seen {
    struct godwit_receipt receipt; /* segment 0: there was none */
    int calls;
    enum godwit_status status;
    uint64_t seq;
    bool duplicate;
    char text[128];
};

extern struct fake_broker broker;
extern struct godwit *client;
extern struct godwit_options options;  /* change it before open_client() */
extern struct confirm_seen seen[1001]; /* by the number given to publish_one */

void fixture_set_up(void);
void fixture_tear_down(void);

void open_client(void);
/* And be welcomed. */
void connect_client(void);
enum godwit_status publish_one(const char *topic, int number);
/* Waits until seen[number] was called. */
bool was_called(int number);
/* Waits until the client says that it is in this state. */
bool wait_state(enum godwit_state state);
/* What the client says went wrong. */
const char *last_error(void);
/* Waits until that has these words in it. */
bool error_says(const char *words);

#endif
