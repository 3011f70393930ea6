/* links: godwit_delivery godwit_proto */
#include "broker/delivery/digest.h"

#include <criterion/criterion.h>

Test(digest, keys_differ_by_text_and_seed)
{
    uint64_t a = digest_key(slice_text("a"), 1);

    cr_assert_eq(a, digest_key(slice_text("a"), 1));
    cr_assert_neq(a, digest_key(slice_text("b"), 1));
    cr_assert_neq(a, digest_key(slice_text("a"), 2));
    cr_assert_neq(digest_key(slice_text(""), 0), 0);
}

/* These numbers are in logs: they may never change. */
Test(digest, an_id_has_the_same_digest_for_ever)
{
    struct digest_id d = digest_id(7, slice_text("order-1"));

    cr_assert_eq(d.high, UINT64_C(0x9f983e6f78ec4f03));
    cr_assert_eq(d.low, UINT64_C(0x050cffa88bf17681));
}

Test(digest, ids_differ_by_text_and_topic)
{
    struct digest_id a = digest_id(1, slice_text("x"));
    struct digest_id b = digest_id(2, slice_text("x"));
    struct digest_id c = digest_id(1, slice_text("y"));

    cr_assert(a.high != b.high || a.low != b.low);
    cr_assert(a.high != c.high || a.low != c.low);
}

Test(digest, halves_are_what_a_producer_and_its_number_may_be)
{
    for (uint32_t topic = 0; topic < 1000; topic++) {
        struct digest_id d = digest_id(topic, slice_text("id"));

        cr_assert(d.high != 0 && d.low != 0 && d.low < UINT64_C(1) << 63);
    }
}
