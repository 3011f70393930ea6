/* A net with a door that writes down what it sees, and clients on the loopback,
 * all in one thread: whatever a client waits for, the loop is run meanwhile. */
#ifndef GODWIT_TEST_LIB_NET_BED_H
#define GODWIT_TEST_LIB_NET_BED_H

#include "broker/net/conn.h"

#include <ev.h>

struct bed {
    struct ev_loop *loop;
    struct net *net;
    uint16_t port;
    ev_prepare flush;
    struct net_config config;
    /* the door's: NULL: the answer below */
    void (*on_request)(struct bed *bed, struct conn *conn,
                       const struct http_request *request);
    void (*on_message)(struct bed *bed, struct conn *conn, bool text,
                       uint8_t *payload, size_t len);
    bool (*on_accepted)(struct bed *bed, struct conn *conn);
    bool refuse_upgrade;
    /* what it saw: "GET /path body\n" and, for messages, "T:...\n", "B:...\n" */
    struct bytes log;
    int requests, messages, drained, closed;
    char reason[64];   /* of the last that closed */
    struct conn *conn; /* the last accepted */
};

/* A config with nothing that ends by itself within a test. */
struct net_config bed_config(void);
void bed_open(struct bed *bed, const struct net_config *config);
void bed_close(struct bed *bed);

/* Run the loop for what is there now. */
void bed_run(struct bed *bed);
/* Run it until done(bed), at most `ms`: false: it did not come. */
bool bed_run_until(struct bed *bed, bool (*done)(struct bed *bed), int ms);
bool bed_all_closed(struct bed *bed);
const char *bed_log(struct bed *bed); /* as text */
uint64_t bed_open_count(struct bed *bed);

/* A client's socket, non-blocking. */
int client_connect(uint16_t port);
/* All of it, running the loop while the socket is full. */
bool client_send(struct bed *bed, int fd, const void *from, size_t len);
bool client_send_text(struct bed *bed, int fd, const char *text);
/* Receive until `needle` is there (NULL: until the end), at most 5 s. */
bool client_receive(struct bed *bed, int fd, struct bytes *into,
                    const char *needle);
/* The same into a new text, which must hold `needle`. Free it. */
char *client_reply(struct bed *bed, int fd, const char *needle);

/* Upgrade, and read the answer to its end. */
int client_upgrade(struct bed *bed);
extern const char upgrade_request[];
/* A masked frame at the end of `to`; `first` is its whole first byte. */
void put_frame(struct bytes *to, unsigned first, const void *payload,
               size_t len);

#endif
