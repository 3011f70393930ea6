/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */

/* How a message was settled: by an ack, or because it was lost or its time was
 * over; as of the last checkpoint. */
#include "storage/internal.h"
#include "test/storage/harness.h"

#include <criterion/criterion.h>

enum { GROUP = 3, TOPIC = 4 };

static struct harness h;

static void set_up(void)
{
    harness_init(&h);
    cr_assert_eq(harness_open(&h), STATUS_OK, "%s", h.err.text);
    for (int i = 0; i < 9; i++) {
        add_message(&h, TOPIC, "text");
    }
    cr_assert_eq(harness_commit(&h), STATUS_OK);
}

static void tear_down(void)
{
    harness_fini(&h);
}

TestSuite(settled, .init = set_up, .fini = tear_down, .timeout = 60);

static enum store_settled how(uint32_t group, uint32_t topic, uint64_t seq)
{
    enum store_settled settled = SETTLED_AS_GAP;

    cr_assert_eq(store_view_settled(h.view, group, topic, seq, &settled),
                 STATUS_OK);
    return settled;
}

Test(settled, each_in_its_way)
{
    add_ack(&h, GROUP, TOPIC, 1, 2);
    add_gap(&h, GROUP, TOPIC, 3, 4);
    add_lane(&h, RECORD_EXPIRED, GROUP, TOPIC, 5, 6);
    cr_assert_eq(harness_commit(&h), STATUS_OK);
    cr_assert_eq(how(GROUP, TOPIC, 3), SETTLED_SINCE, "not known yet");
    cr_assert_eq(harness_checkpoint(&h), STATUS_OK);
    for (int round = 0; round < 2; round++) {
        static const enum store_settled want[] = {
            SETTLED_PLAINLY, SETTLED_PLAINLY,    SETTLED_AS_GAP,
            SETTLED_AS_GAP,  SETTLED_AS_EXPIRED, SETTLED_AS_EXPIRED,
            SETTLED_SINCE
        };

        for (uint64_t seq = 1; seq <= COUNT_OF(want); seq++) {
            cr_assert_eq(how(GROUP, TOPIC, seq), want[seq - 1], "%lu",
                         (unsigned long)seq);
        }
        harness_reopen(&h);
    }
    cr_assert_eq(how(GROUP + 1, TOPIC, 3), SETTLED_SINCE, "another group");
    cr_assert_eq(how(GROUP, TOPIC + 1, 3), SETTLED_SINCE, "another topic");
}
