/* Reading a topic without a group: for people who look at messages, and to find
 * where a time begins. */
#include "broker/dispatch/dispatch.h"

#include "broker/dispatch/inside.h"

/* Damaged messages in a row before one of them is taken for late enough. */
enum { SEQ_AT_LOOKS = 64 };

enum status dispatch_read(struct dispatch *d, struct store_cursor *cursor,
                          const struct topic *topic, uint64_t seq,
                          struct record *out, uint64_t *next_seq)
{
    return store_view_message(d->view, cursor, topic->id, seq, out, next_seq);
}

/* The first one that can be read in seq..end-1 and its time; end: none. */
static uint64_t first_readable(struct dispatch *d, struct store_cursor *cursor,
                               const struct topic *topic, uint64_t seq,
                               uint64_t end, uint64_t *time_us)
{
    for (int looks = 0; looks < SEQ_AT_LOOKS && seq < end; looks++) {
        struct record record;
        uint64_t next_seq = 0;
        enum status status =
            dispatch_read(d, cursor, topic, seq, &record, &next_seq);

        if (status == STATUS_OK) {
            *time_us = record.time_us;
            return seq;
        }
        if (status != STATUS_NOT_FOUND) {
            seq++;
        } else {
            seq = next_seq > seq ? next_seq : end;
        }
    }
    return end;
}

/* Times rise with the seqs, unless the wall clock was set back: then it is one
 * of the places where they pass this time. What cannot be read is taken for too
 * late, so that a search rather begins too early. */
uint64_t dispatch_seq_at(struct dispatch *d, const struct topic *topic,
                         uint64_t time_us)
{
    struct store_cursor cursor = { 0 };
    uint64_t low = dispatch_first_seq(topic);
    uint64_t high = dispatch_last_seq(topic) + 1;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        uint64_t found_us = 0;
        uint64_t seq =
            first_readable(d, &cursor, topic, middle, high, &found_us);

        if (seq < high && found_us < time_us) {
            low = seq + 1;
        } else {
            high = middle;
        }
    }
    return low;
}
