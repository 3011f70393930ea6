/* What can hold a message back from a group, in the words of `explain`. */
#ifndef GODWIT_BROKER_DELIVERY_GATE_H
#define GODWIT_BROKER_DELIVERY_GATE_H

/* name, word, what releases it (a sentence's end) */
#define GATE_MAP(X)                                                            \
    X(GATE_NONE, "ready", "its turn: nothing holds it")                        \
    X(GATE_BEHIND, "behind", "those before it in its topic")                   \
    X(GATE_NOT_TAKEN, "not_taken",                                             \
      "a seek, if the group begins behind it; else nothing")                   \
    X(GATE_NOT_DURABLE, "not_durable", "its publication")                      \
    X(GATE_NOT_DUE, "not_due", "its delivery time")                            \
    X(GATE_EXPIRED, "expired", "nothing: its time to live is over")            \
    X(GATE_FILTERED, "filtered", "nothing: the filter does not want it")       \
    X(GATE_PAUSED, "paused", "resuming the group")                             \
    X(GATE_NO_SUBSCRIBER, "no_subscriber", "a member that attaches or pulls")  \
    X(GATE_NO_CREDIT, "no_credit", "a member that settles or reads")           \
    X(GATE_KEY_BUSY, "key_busy", "the one before it with the same key")        \
    X(GATE_BACKOFF, "backoff", "the end of its delay after a failure")         \
    X(GATE_LEASED, "leased", "its holder, or the end of the lease")            \
    X(GATE_QUOTA, "quota", "room: some in flight settled, or the log written") \
    X(GATE_BREAKER, "breaker",                                                 \
      "the breaker's next try; it closes when some of these are acked")        \
    X(GATE_DEAD, "dead", "a redrive")                                          \
    X(GATE_ACKED, "acked", "nothing: it is done")                              \
    X(GATE_SETTLED, "settled", "nothing: it is done")                          \
    X(GATE_DELETED, "deleted", "nothing: it is not kept any more")             \
    X(GATE_GAP, "gap", "nothing: it was damaged on disk")

enum gate {
#define X(name, word, releases) name,
    GATE_MAP(X)
#undef X
};
enum { GATES = GATE_GAP + 1 };

const char *gate_word(enum gate gate);
const char *gate_releases(enum gate gate);

#endif
