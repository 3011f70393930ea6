/* Until the language is here, every filter is refused. */
#include "broker/router/filter.h"

enum status filter_compile(struct filter **out, struct slice text,
                           struct refusal *refusal)
{
    (void)out;
    (void)text;
    return refuse(refusal, STATUS_UNSUPPORTED, "filter",
                  "filters are not offered here yet");
}

void filter_free(struct filter *filter)
{
    (void)filter;
}

bool filter_match(const struct filter *filter,
                  const struct wire_message *message)
{
    (void)filter;
    (void)message;
    return false;
}
