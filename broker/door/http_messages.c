/* Looking at the messages of a topic over HTTP: one of them, a search, the
 * newest, and what comes (long poll). What is found is encoded as it comes, as
 * in a pull. */
#include "broker/door/http_exchange.h"

#include "broker/session/look.h"

/* ---- what is asked for ---- */

/* The texts of a search's query, decoded. */
struct texts {
    char key[KEY_LEN_MAX + 1];
    char tag[TAG_LEN_MAX + 1];
    char filter[FILTER_LEN_MAX + 1];
    struct slice filter_text;
};

static enum status read_numbers(const struct http_request *request,
                                struct search_order *order,
                                struct refusal *refusal)
{
    uint64_t newest = 0;
    uint64_t max = 0;
    const struct {
        const char *name;
        uint64_t most;
        uint64_t *to;
    } numbers[] = {
        { "from", UINT64_MAX, &order->from },
        { "to", UINT64_MAX - 1, &order->to },
        { "since", INT64_MAX, &order->since_us },
        { "until", INT64_MAX, &order->until_us },
        { "max", PULL_COUNT_MAX, &max },
        { "newest", PULL_COUNT_MAX, &newest },
    };

    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        enum status status =
            http_query_number(request, numbers[i].name, 1, numbers[i].most,
                              numbers[i].to, refusal);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (newest > 0 && max > 0) {
        return refuse(refusal, STATUS_INVALID, "newest",
                      "newest says how many, so there is no max");
    }
    order->newest = newest > 0;
    order->count_max = newest > 0 ? newest : max > 0 ? max : PULL_COUNT_DEFAULT;
    return STATUS_OK;
}

static enum status read_texts(const struct http_request *request,
                              struct texts *texts, struct search_order *order,
                              struct refusal *refusal)
{
    enum status status = http_query_text(
        request, "key", texts->key, sizeof texts->key, &order->key, refusal);

    if (status == STATUS_OK) {
        status = http_query_text(request, "tag", texts->tag, sizeof texts->tag,
                                 &order->tag, refusal);
    }
    if (status == STATUS_OK) {
        status =
            http_query_text(request, "filter", texts->filter,
                            sizeof texts->filter, &texts->filter_text, refusal);
    }
    return status;
}

static enum status check_order(const struct search_order *order,
                               uint64_t wait_ms, struct refusal *refusal)
{
    if (order->to > 0 && order->from > order->to) {
        return refuse(refusal, STATUS_INVALID, "to",
                      "to is before from: nothing is between them");
    }
    if (order->until_us > 0 && order->since_us > order->until_us) {
        return refuse(refusal, STATUS_INVALID, "until",
                      "until is before since: nothing is between them");
    }
    if (wait_ms > 0
        && (order->newest || order->to > 0 || order->until_us > 0)) {
        return refuse(refusal, STATUS_INVALID, "wait",
                      "wait is for what comes, so there is no newest, to or "
                      "until");
    }
    return STATUS_OK;
}

/* On STATUS_OK the filter, if there is one, is the order's. */
static enum status read_order(const struct http_request *request,
                              struct texts *texts, struct search_order *order,
                              uint64_t *wait_ms, struct refusal *refusal)
{
    static const char *const known[] = { "from", "to",     "since",  "until",
                                         "key",  "tag",    "filter", "max",
                                         "wait", "newest", NULL };
    enum status status = http_query_check(request, known, refusal);

    if (status == STATUS_OK) {
        status = read_numbers(request, order, refusal);
    }
    if (status == STATUS_OK) {
        status = read_texts(request, texts, order, refusal);
    }
    if (status == STATUS_OK) {
        status = http_query_wait(request, wait_ms, refusal);
    }
    if (status == STATUS_OK) {
        status = check_order(order, *wait_ms, refusal);
    }
    if (status == STATUS_OK && texts->filter_text.at != NULL) {
        status = filter_compile(&order->filter, texts->filter_text, refusal);
    }
    return status;
}

void http_search_begin(struct session *session, struct exchange *exchange,
                       const struct http_request *request)
{
    struct http_route route = exchange->route;
    struct search_order order = { 0 };
    struct texts texts;
    struct refusal refusal;
    uint64_t wait_ms = 0;

    if (read_order(request, &texts, &order, &wait_ms, &refusal) != STATUS_OK) {
        http_respond_refusal(session, &refusal);
        return;
    }
    session_search(session, CALL_ID, slice_text(route.name), &order, wait_ms);
}

void http_peek_begin(struct session *session, struct exchange *exchange)
{
    struct http_route route = exchange->route;

    session_peek(session, CALL_ID, slice_text(route.name), route.seq);
}

/* ---- the answers ---- */

static void put_range(struct json *json, const char *key,
                      struct seq_range range)
{
    json_begin_object(json, key);
    json_u64(json, "first", range.first);
    json_u64(json, "last", range.last);
    json_end_object(json);
}

static enum status write_search(const struct exchange *exchange,
                                const struct search_result *result,
                                struct bytes *body)
{
    struct json json = json_to(body);

    json_begin_object(&json, NULL);
    json_begin_array(&json, "messages");
    json_raw(&json, NULL, http_content(&exchange->messages));
    json_end_array(&json);
    json_begin_array(&json, "gaps");
    json_raw(&json, NULL, http_content(&exchange->gaps));
    json_end_array(&json);
    if (result->deleted.first > 0) {
        put_range(&json, "deleted", result->deleted);
    }
    json_u64(&json, "next_seq", result->next_seq);
    json_bool(&json, "done", result->done);
    json_number(&json, "scanned", result->scanned);
    json_u64(&json, "first_seq", result->first_seq);
    json_u64(&json, "last_seq", result->last_seq);
    json_end_object(&json);
    return json.status;
}

/* The message itself, or that it is lost. */
static enum status write_peek(const struct exchange *exchange,
                              struct bytes *body)
{
    struct slice message = http_content(&exchange->messages);
    struct json json = json_to(body);

    if (message.len > 0) {
        return bytes_append(body, message.at, message.len);
    }
    json_begin_object(&json, NULL);
    json_word(&json, "topic", exchange->route.name);
    json_u64(&json, "seq", exchange->route.seq);
    json_bool(&json, "gap", true);
    json_end_object(&json);
    return json.status;
}

void http_looked(struct session *session, uint64_t id,
                 const struct search_result *result)
{
    struct exchange *exchange = http_exchange_of(session);
    struct bytes body = { 0 };

    (void)id;
    if (exchange == NULL) {
        return;
    }
    if (exchange->status == STATUS_OK) {
        exchange->status = exchange->route.target == TARGET_MESSAGE
                               ? write_peek(exchange, &body)
                               : write_search(exchange, result, &body);
    }
    http_respond_json(session, 200, exchange->status, &body);
}
