/* links: godwit_storage godwit_proto */
/* with: test/storage/harness.c test/storage/cut_vfs.c test/lib/tmpdir.c */

/* Power cuts. A store lives; at random file calls an image of the disk is made
 * as a cut might leave it, opened by the real recovery and checked against a
 * ledger that knows what was confirmed. Planted bugs show that the check sees. */
#include "test/lib/tmpdir.h"
#include "test/storage/cut_vfs.h"
#include "test/storage/harness.h"

#include "proto/check.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { TOPICS = 3, GROUP = 4, STEPS = 40, BODY_LEN = 700 };

struct ledger {
    uint64_t tried[TOPICS + 1];
    uint64_t confirmed[TOPICS + 1];
    uint64_t acked_tried;
    uint64_t acked;
};

struct trial {
    struct harness h;
    struct cut_vfs cut;
    struct ledger ledger;
    uint64_t state;
    char keydir[512]; /* as of the last checkpoint; "" before the first */
    unsigned images;
    unsigned violations;
    unsigned one_in;    /* an image at one in so many calls */
    bool confirm_early; /* a planted bug: before the sync */
    char what[256];     /* the first violation */
};

/* ---- the check ---- */

static void body_of(uint32_t topic, uint64_t seq, char body[BODY_LEN])
{
    size_t len = 20 + (seq * 37 + topic * 11) % (BODY_LEN - 21);

    memset(body, 'a' + (char)((seq + topic) % 26), len);
    body[len] = '\0';
    len = (size_t)snprintf(body, BODY_LEN, "%u/%llu", topic,
                           (unsigned long long)seq);
    body[len] = ' ';
}

static void violated(struct trial *t, const char *what, uint32_t topic,
                     uint64_t seq, const char *detail)
{
    if (t->violations++ == 0) {
        snprintf(t->what, sizeof t->what, "%s: topic %u seq %llu: %.150s", what,
                 topic, (unsigned long long)seq, detail);
    }
}

static void check_topic(struct trial *t, struct harness *image, uint32_t topic)
{
    uint64_t last = last_seq(image, topic);

    if (last < t->ledger.confirmed[topic]) {
        violated(t, "confirmed and gone", topic, last + 1, "");
    }
    if (last > t->ledger.tried[topic]) {
        violated(t, "invented", topic, last, "");
    }
    for (uint64_t seq = 1; seq <= last; seq++) {
        char body[BODY_LEN];
        const char *text = message_text(image, topic, seq);
        body_of(topic, seq, body);
        if (strcmp(text, body) != 0) {
            violated(t, "not as it was written", topic, seq, text);
        }
    }
}

static void check_lane(struct trial *t, struct harness *image)
{
    const char *text = lane_text(image, GROUP, 1);
    uint64_t last = text[0] == '1' ? strtoull(text + 2, NULL, 10) : 0;

    if (last < t->ledger.acked || last > t->ledger.acked_tried
        || (text[0] != '\0' && (text[0] != '1' || strchr(text, ',') != NULL))) {
        violated(t, "acks", 1, last, text);
    }
}

static void check_store(struct trial *t, struct harness *image)
{
    for (uint32_t topic = 1; topic <= TOPICS; topic++) {
        check_topic(t, image, topic);
    }
    check_lane(t, image);
    if (image->recovery.damaged_batches != 0
        || image->recovery.damaged_bytes != 0) {
        violated(t, "a cut taken for damage", 0, 0, "");
    }
}

/* ---- images ---- */

static void check_image(struct trial *t, struct harness *image);

/* A second cut, while the image of the first is being recovered. */
struct second {
    struct trial *t;
    struct cut_vfs cut;
    const char *keydir;
};

static void make_image(struct trial *t, const struct cut_vfs *cut,
                       const char *keydir, struct harness *image)
{
    harness_init(image);
    image->config.segment_len = t->h.config.segment_len;
    cut_vfs_image(cut, image->dir, &t->state);
    if (keydir[0] != '\0' && random_next(&t->state) % 4 != 0) {
        char path[600];
        snprintf(path, sizeof path, "%s/keydir", image->dir);
        CHECK(mkdir(path, 0700) == 0);
        tmpdir_copy(keydir, path);
    }
    t->images++;
}

static void on_second_change(void *arg)
{
    struct second *second = arg;

    if (random_next(&second->t->state) % 6 == 0) {
        struct harness image;
        make_image(second->t, &second->cut, second->keydir, &image);
        check_image(second->t, &image);
        harness_fini(&image);
    }
}

static void check_image(struct trial *t, struct harness *image)
{
    enum status status = harness_open(image);
    char body[BODY_LEN];

    if (status != STATUS_OK) {
        violated(t, "does not open", 0, 0, image->err.text);
        return;
    }
    check_store(t, image);
    /* It goes on, and what it has now survives a kill. */
    body_of(1, last_seq(image, 1) + 1, body);
    add_message(image, 1, body);
    if (harness_commit(image) != STATUS_OK) {
        violated(t, "does not go on", 0, 0, image->err.text);
    }
    harness_kill(image);
    t->ledger.tried[1]++;
    if (harness_open(image) != STATUS_OK) {
        violated(t, "does not open again", 0, 0, image->err.text);
    } else {
        check_store(t, image);
    }
    t->ledger.tried[1]--;
}

static void cut_in_recovery(struct trial *t, struct harness *image)
{
    static struct second second;
    char keydir[600];
    char doubt[600];
    struct stat st;

    snprintf(keydir, sizeof keydir, "%s/keydir", image->dir);
    second.t = t;
    second.keydir = "";
    snprintf(doubt, sizeof doubt, "%s/keydir.doubt", image->dir);
    /* With the mark of doubt the recovery begins by deleting it. */
    if (stat(keydir, &st) == 0 && stat(doubt, &st) != 0) {
        second.keydir = t->keydir;
    }
    cut_vfs_init(&second.cut, image->dir);
    second.cut.hook = on_second_change;
    second.cut.hook_arg = &second;
    image->config.vfs = &second.cut.vfs;
    if (harness_open(image) != STATUS_OK) {
        violated(t, "does not open", 0, 0, image->err.text);
    }
    second.cut.hook = NULL;
    harness_close(image);
    image->config.vfs = NULL;
    cut_vfs_fini(&second.cut);
}

static void on_change(void *arg)
{
    struct trial *t = arg;
    struct harness image;

    if (random_next(&t->state) % t->one_in != 0) {
        return;
    }
    make_image(t, &t->cut, t->keydir, &image);
    if (random_next(&t->state) % 8 == 0) {
        cut_in_recovery(t, &image);
    } else {
        check_image(t, &image);
    }
    harness_fini(&image);
}

/* ---- the life ---- */

static void save_keydir(struct trial *t)
{
    char path[600];

    if (t->keydir[0] != '\0') {
        tmpdir_remove(t->keydir);
    }
    tmpdir_make(t->keydir, sizeof t->keydir);
    snprintf(path, sizeof path, "%s/keydir", t->h.dir);
    tmpdir_copy(path, t->keydir);
}

enum { COMMITS_MAX = 64 };

/* Append the buffer in as many batches as it takes. */
static size_t append_all(struct trial *t, struct store_commit *commits,
                         size_t count)
{
    while (t->h.len > 0) {
        struct store_span span = { .at = t->h.buffer, .len = t->h.len };
        CHECK(count < COMMITS_MAX);
        CHECK(store_append(t->h.store, &span, 1, 1, &commits[count], &t->h.err)
              == STATUS_OK);
        memmove(t->h.buffer, t->h.buffer + span.taken, t->h.len - span.taken);
        t->h.len -= span.taken;
        count++;
    }
    return count;
}

static void add_some(struct trial *t)
{
    unsigned count = 1 + (unsigned)(random_next(&t->state) % 6);

    for (unsigned i = 0; i < count; i++) {
        uint32_t topic = 1 + (uint32_t)(random_next(&t->state) % TOPICS);
        char body[BODY_LEN];
        body_of(topic, ++t->ledger.tried[topic], body);
        add_message(&t->h, topic, body);
    }
    if (t->ledger.acked_tried < t->ledger.confirmed[1]) {
        t->ledger.acked_tried++;
        add_ack(&t->h, GROUP, 1, t->ledger.acked_tried, t->ledger.acked_tried);
    }
}

/* One to five batches, then one sync for all of them. */
static void step(struct trial *t)
{
    struct store_commit commits[COMMITS_MAX];
    unsigned batches = 1 + (unsigned)(random_next(&t->state) % 5);
    size_t count = 0;

    while (batches-- > 0) {
        add_some(t);
        count = append_all(t, commits, count);
    }
    if (t->confirm_early) {
        memcpy(t->ledger.confirmed, t->ledger.tried, sizeof t->ledger.tried);
    }
    CHECK(store_sync(t->h.store, &t->h.err) == STATUS_OK);
    memcpy(t->ledger.confirmed, t->ledger.tried, sizeof t->ledger.tried);
    t->ledger.acked = t->ledger.acked_tried;
    for (size_t i = 0; i < count; i++) {
        CHECK(store_view_commit(t->h.view, &commits[i], NULL) == STATUS_OK);
        CHECK(store_apply(t->h.store, &commits[i]) == STATUS_OK);
    }
}

static void keep(struct trial *t)
{
    if (random_next(&t->state) % 4 == 0) {
        CHECK(store_prepare(t->h.store, &t->h.err) == STATUS_OK);
    }
    if (random_next(&t->state) % 9 == 0) {
        CHECK(store_checkpoint(t->h.store, &t->h.err) == STATUS_OK);
        save_keydir(t);
    }
    if (random_next(&t->state) % 25 == 0) {
        harness_close(&t->h);
        save_keydir(t);
        CHECK(harness_open(&t->h) == STATUS_OK);
        save_keydir(t);
    }
}

static void trial(struct trial *t, uint64_t seed)
{
    t->state = seed;
    harness_init(&t->h);
    t->h.config.segment_len = 32 * 1024;
    t->h.config.vfs = &t->cut.vfs;
    (void)snprintf(t->cut.dir, sizeof t->cut.dir, "%s", t->h.dir);
    t->cut.hook = on_change;
    t->cut.hook_arg = t;
    CHECK(harness_open(&t->h) == STATUS_OK);
    save_keydir(t);
    for (int i = 0; i < STEPS; i++) {
        step(t);
        keep(t);
    }
    t->cut.hook = NULL;
    harness_fini(&t->h);
    cut_vfs_fini(&t->cut);
    tmpdir_remove(t->keydir);
}

static struct trial *new_trial(unsigned one_in)
{
    struct trial *t = calloc(1, sizeof *t);

    CHECK(t != NULL);
    cut_vfs_init(&t->cut, "/nowhere");
    t->one_in = one_in;
    return t;
}

/* The folder is known only once the harness has made it. */
static void run(struct trial *t, uint64_t seed)
{
    fprintf(stderr, "GODWIT_SEED=%llu\n", (unsigned long long)seed);
    trial(t, seed);
    fprintf(stderr, "%u images, %u violations %s\n", t->images, t->violations,
            t->what);
}

TestSuite(power, .timeout = 280);

Test(power, nothing_confirmed_is_lost_in_a_cut)
{
    uint64_t seed = random_seed();
    const char *rounds = getenv("GODWIT_ROUNDS");
    int count = rounds != NULL ? (int)strtol(rounds, NULL, 10) : 4;

    for (int i = 0; i < count; i++) {
        struct trial *t = new_trial(4);
        run(t, seed + (uint64_t)i);
        cr_assert(gt(u32, t->images, 10));
        cr_assert(eq(u32, t->violations, 0), "GODWIT_SEED=%llu: %s",
                  (unsigned long long)seed + (unsigned)i, t->what);
        free(t);
    }
}

/* ---- the same with a planted bug must be caught ---- */

Test(power, a_store_that_does_not_sync_is_caught)
{
    struct trial *t = new_trial(4);

    t->cut.no_sync = true;
    run(t, 1);
    cr_assert(gt(u32, t->violations, 0));
    free(t);
}

Test(power, a_store_that_does_not_sync_its_folder_is_caught)
{
    struct trial *t = new_trial(4);

    t->cut.no_dir_sync = true;
    run(t, 1);
    cr_assert(gt(u32, t->violations, 0));
    free(t);
}

Test(power, a_store_that_confirms_before_the_sync_is_caught)
{
    struct trial *t = new_trial(2);

    t->confirm_early = true;
    run(t, 1);
    cr_assert(gt(u32, t->violations, 0));
    free(t);
}
