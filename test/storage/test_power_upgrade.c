/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c test/lib/calls.c */
/* with: test/storage/disk_trace.c test/storage/disk_image.c */
/* with: test/storage/power_model.c */
/* wraps: calls */

/* The power goes while a store of version 1 is opened for the first time by
 * this build: whatever is left, the next start finds all that was in it. */
#include "test/lib/calls.h"
#include "test/lib/tmpdir.h"
#include "test/storage/disk_image.h"
#include "test/storage/power_model.h"

#include "proto/check.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { TOPIC_IDS = 64, IMAGES_A_CUT = 2 };
/* Without $GODWIT_LONG every second cut only. Other images are the same code
 * for a sanitizer: the release build makes them. */
#ifdef __SANITIZE_ADDRESS__
enum { STRIDE = 4 };
#else
enum { STRIDE = 2 };
#endif

extern char **environ;

static void unpack(const char *golden, const char *to)
{
    const char *end = strstr(__FILE__, "test/storage/");
    char archive[700];
    char *argv[] = { "tar", "-xJf", archive, "-C", (char *)to, NULL };
    pid_t pid;
    int state = 0;

    CHECK(end != NULL);
    snprintf(archive, sizeof archive, "%.*stest/data/golden/%s.tar.xz",
             (int)(end - __FILE__), __FILE__, golden);
    CHECK(posix_spawnp(&pid, "tar", NULL, NULL, argv, environ) == 0);
    CHECK(waitpid(pid, &state, 0) == pid);
    cr_assert(eq(int, state, 0), "unpack %s", archive);
}

static uint64_t fold(uint64_t sum, const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        sum = (sum ^ at[i]) * UINT64_C(0x100000001b3);
    }
    return sum;
}

/* Everything that it says, bodies as one sum. */
static void describe(struct harness *h, char text[MODEL_TEXT_LEN])
{
    uint64_t sum = 1;
    uint64_t count = 0;
    size_t len;

    store_text(h, text);
    for (uint32_t topic = 1; topic < TOPIC_IDS; topic++) {
        uint64_t last = last_seq(h, topic);
        for (uint64_t seq = 1; seq <= last; seq++) {
            struct record record;
            if (message_at(h, topic, seq, &record, NULL) == STATUS_OK) {
                sum = fold(sum, record.body.at, record.body.len);
                count++;
            }
        }
    }
    len = strlen(text);
    snprintf(text + len, MODEL_TEXT_LEN - len, "%llu messages, %llx\n",
             (unsigned long long)count, (unsigned long long)sum);
}

static void must_open(struct harness *h, const char *when)
{
    cr_assert(eq(int, harness_open(h), STATUS_OK), "%s: %s", when, h->err.text);
}

/* An image of the disk in the midst of the upgrade, opened twice. */
static void check_image(const struct disk *disk, const struct disk_cut *cut,
                        const char *expected)
{
    static char has[MODEL_TEXT_LEN];
    struct harness h;

    harness_init(&h);
    disk_image(disk, cut, h.dir);
    for (int start = 0; start < 2; start++) {
        must_open(&h, "an image");
        describe(&h, has);
        cr_assert(eq(str, has, (char *)expected), "cut at %d", (int)disk->at);
        cr_assert(eq(u64, h.recovery.damaged_bytes, 0));
        harness_close(&h);
    }
    harness_fini(&h);
}

static size_t stride(void)
{
    return getenv("GODWIT_LONG") == NULL ? STRIDE : 1;
}

static void upgrade(const char *golden)
{
    static char expected[MODEL_TEXT_LEN];
    static struct disk_trace trace;
    struct harness h;
    struct disk disk;
    uint64_t state = 9;
    unsigned images = 0;

    calls_be_cheap(true);
    harness_init(&h);
    unpack(golden, h.dir);
    disk_trace_start(&trace, h.dir);
    must_open(&h, golden);
    describe(&h, expected);
    harness_close(&h);
    disk_trace_stop(&trace);
    harness_fini(&h);
    disk_init(&disk, &trace);
    for (size_t cut = 0; cut <= trace.count; cut += stride()) {
        disk_seek(&disk, cut);
        for (int i = 0; i < IMAGES_A_CUT; i++, images++) {
            struct disk_cut drawn = disk_draw(&state);
            check_image(&disk, &drawn, expected);
        }
    }
    fprintf(stderr, "%s: %u images\n", golden, images);
    cr_assert(gt(u32, images, 20));
    disk_fini(&disk);
    disk_trace_fini(&trace);
}

Test(power_upgrade, of_a_store_that_was_closed)
{
    upgrade("v1-clean");
    upgrade("v2-clean");
}

Test(power_upgrade, of_a_store_that_was_killed)
{
    upgrade("v1-killed");
    upgrade("v2-killed");
}
