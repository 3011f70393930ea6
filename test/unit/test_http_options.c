/* links: godwit_door godwit_router godwit_storage godwit_proto */
/* with: test/lib/fake_session.c */
#include "test/lib/http_bed.h"

#include <criterion/criterion.h>

/* A message's options over HTTP: in headers, and in a batch. */

TestSuite(http_options, .init = set_up, .fini = tear_down, .timeout = 30);

static void answer_confirm(void)
{
    const struct wire_confirm confirm = { .id = 1, .count = 1, .seq = 41 };

    session->door->confirm(session, &confirm);
    cr_answer(200, "{\"seq\":\"41\",\"duplicate\":false}");
}

Test(http_options, stand_in_headers)
{
    ask_with("POST /v1/topics/orders/messages",
             AUTH "Godwit-Tag: r%C3%A4d\r\ngodwit-message-id: o-7\r\n"
                  "Godwit-Delay-Ms: 1500\r\nGODWIT-TTL-MS: 60000\r\n",
             "x", 1);
    cr_calls("producer 0\npublish id=1 topic=orders seq=0 count=1 "
             "(tag=r\xc3\xa4"
             "d id=o-7 delay=1500 ttl=60000 x)\n");
    answer_confirm();
    ask_with("POST /v1/topics/orders/messages",
             AUTH "Godwit-Deliver-At-Ms: 1790000000000\r\n", "x", 1);
    cr_calls("producer 0\npublish id=1 topic=orders seq=0 count=1 "
             "(at=1790000000000 x)\n");
    answer_confirm();
}

Test(http_options, are_refused_by_name)
{
    static const struct {
        const char *header, *more;
    } table[] = {
        { "Godwit-Delay: 5", "Godwit-Delay: there is no such header" },
        { "Godwit-Id: 5", "Godwit-Id: there is no such header" },
        { "Godwit-Delay-Ms: x", "Godwit-Delay-Ms: one number from 1" },
        { "Godwit-Delay-Ms: 0", "Godwit-Delay-Ms: one number from 1" },
        { "Godwit-Deliver-At-Ms: -1", "Godwit-Deliver-At-Ms: one number" },
        { "Godwit-Ttl-Ms: 1\r\nGodwit-Ttl-Ms: 1", "Godwit-Ttl-Ms: one number" },
        { "Godwit-Ttl-Ms: 18446744073709551616", "Godwit-Ttl-Ms: one number" },
        { "Godwit-Tag: a\r\nGodwit-Tag: b", "Godwit-Tag: more than once" },
        { "Godwit-Message-Id: 5%", "hexadecimal" },
    };
    char headers[256];

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        snprintf(headers, sizeof headers, AUTH "%s\r\n", table[i].header);
        ask_with("POST /v1/topics/orders/messages", headers, "x", 1);
        cr_refused(400, "invalid", table[i].more);
        cr_calls("");
    }
}

Test(http_options, stand_in_each_message_of_a_batch)
{
    ask("POST /v1/topics/orders/batch",
        "{\"atomic\":true,\"messages\":[{\"tag\":\"a\"},{\"id\":\"i\"}]}");
    cr_calls("producer 0\npublish id=1 topic=orders seq=0 count=2 atomic "
             "(tag=a ) (id=i )\n");
}

Test(http_options, do_not_stand_in_the_headers_of_a_batch)
{
    static const char *const headers[] = {
        "Godwit-Tag: a", "Godwit-Message-Id: a", "Godwit-Delay-Ms: 1",
        "Godwit-Deliver-At-Ms: 1", "Godwit-Ttl-Ms: 1"
    };
    char text[256];

    for (size_t i = 0; i < COUNT_OF(headers); i++) {
        snprintf(text, sizeof text, AUTH "%s\r\n", headers[i]);
        ask_with("POST /v1/topics/orders/batch", text, "{\"messages\":[{}]}",
                 17);
        cr_refused(400, "invalid", "in a batch each message has its own");
        cr_calls("");
    }
}

/* One bad one refuses all: that is the request's own refusal. */
Test(http_options, an_atomic_batch_is_refused_as_a_whole)
{
    ask("POST /v1/topics/orders/batch",
        "{\"atomic\":true,\"messages\":[{},{}]}");
    refuse_now(STATUS_TOO_LARGE, "key_len", 2);
    cr_refused(413, "too_large", "key_len");
}
