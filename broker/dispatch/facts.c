/* What is asked of a stored message before it is given to a group. */
#include "broker/dispatch/dispatch.h"

#include "broker/delivery/digest.h"
#include "broker/dispatch/inside.h"
#include "proto/codec.h"

bool dispatch_facts(const struct dispatch *d, const struct group_run *run,
                    const struct record *record, uint64_t now_us,
                    struct message_facts *out, size_t *filter_cost)
{
    const struct group_fact *fact = run->fact;
    struct wire_message m;
    struct refusal refusal;

    *filter_cost = 0;
    out->bytes = record->body.len;
    /* It was looked at before it was stored: what does not read was stored by
     * another version, and is given as it is. */
    if (codec_message_check(record->body, &m, &refusal) != STATUS_OK) {
        return false;
    }
    if ((record->flags & RECORD_TIMED) != 0) {
        dispatch_times(d, record, &m, now_us, out);
    }
    if (fact->options.mode == MODE_ORDERED && m.key.len > 0) {
        out->key_hash = digest_key(m.key, d->config.seed);
    }
    out->filtered = fact->filter != NULL
                    && !filter_match_cost(fact->filter, &m, filter_cost);
    return true;
}
