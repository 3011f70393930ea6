/* links: godwit_delivery godwit_offline godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */

/* Stores that released builds left behind: this one finds exactly what each is
 * said to hold, keeps it when it writes to the store, and can make the keydir
 * again from its log. test/data/golden/make.py says what the lines mean. */
#include "broker/delivery/digest.h"
#include "test/lib/tmpdir.h"
#include "test/storage/harness.h"

#include "proto/check.h"
#include "proto/codec.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NAMES_MAX = 64, WORDS_MAX = 12, SEGMENT_LEN = 16 * 1024 * 1024 };

struct name {
    enum catalog_class class;
    uint32_t id;
    char text[64];
};

static struct harness h;
static struct name names[NAMES_MAX];
static size_t name_count;
static char data_dir[512];
static char complaint[1024]; /* the first thing that was not as told */
static size_t plant_at;      /* number of a line to be misread, 0 none */

extern char **environ;

/* ---- the files ---- */

static void find_data(void)
{
    const char *end = strstr(__FILE__, "test/storage/");

    CHECK(end != NULL);
    snprintf(data_dir, sizeof data_dir, "%.*stest/data/golden",
             (int)(end - __FILE__), __FILE__);
}

static void unpack(const char *golden)
{
    char archive[700];
    char *argv[] = { "tar", "-xJf", archive, "-C", h.dir, NULL };
    pid_t pid;
    int state = 0;

    snprintf(archive, sizeof archive, "%s/%s.tar.xz", data_dir, golden);
    CHECK(posix_spawnp(&pid, "tar", NULL, NULL, argv, environ) == 0);
    CHECK(waitpid(pid, &state, 0) == pid);
    cr_assert(eq(int, state, 0), "unpack %s", archive);
}

static void expect(bool right, const char *what, char **words)
{
    if (!right && complaint[0] == '\0') {
        snprintf(complaint, sizeof complaint, "%s of %s %.200s %.200s", what,
                 words[0], words[1], words[2] != NULL ? words[2] : "");
    }
}

/* A line that says something else than the manifest. */
static void plant(char **words)
{
    static char word[256];
    size_t last = 1;

    while (last + 1 < WORDS_MAX && words[last + 1] != NULL) {
        last++;
    }
    snprintf(word, sizeof word, "1%s", words[last]);
    words[last] = word;
}

/* Calls back with the words of each line; how many begin with `word`. */
static size_t each_line(const char *golden, const char *word,
                        void (*fn)(char **words))
{
    char path[700];
    char *line = NULL;
    size_t room = 0;
    size_t count = 0;
    size_t number = 0;
    FILE *file;

    snprintf(path, sizeof path, "%s/%s.txt", data_dir, golden);
    file = fopen(path, "r");
    cr_assert(ne(ptr, file, NULL), "%s", path);
    while (getline(&line, &room, file) > 0) {
        char *words[WORDS_MAX] = { NULL };
        char *rest = line;
        number++;
        line[strcspn(line, "\n")] = '\0';
        for (size_t i = 0; i < WORDS_MAX && rest != NULL; i++) {
            words[i] = strsep(&rest, "\t");
        }
        if (strcmp(words[0], word) == 0) {
            count++;
            if (number == plant_at) {
                plant(words);
            }
            fn(words);
        }
    }
    free(line);
    (void)fclose(file);
    return count;
}

/* ---- what is in the store ---- */

static void on_name(void *arg, const struct record_fact *fact)
{
    struct name *n = &names[name_count++];

    (void)arg;
    CHECK(name_count <= NAMES_MAX && fact->name.len < sizeof n->text);
    n->class = fact->class;
    n->id = fact->id;
    memcpy(n->text, fact->name.at, fact->name.len);
    n->text[fact->name.len] = '\0';
}

/* 0: there is none of this name. */
static uint32_t id_of(enum catalog_class class, const char *name)
{
    for (size_t i = 0; i < name_count; i++) {
        if (names[i].class == class && strcmp(names[i].text, name) == 0) {
            return names[i].id;
        }
    }
    return 0;
}

static void is_app(char **words)
{
    expect(id_of(CATALOG_APP, words[1]) != 0, "app", words);
}

static void is_group(char **words)
{
    expect(id_of(CATALOG_GROUP, words[1]) != 0, "group", words);
}

struct first {
    uint32_t topic;
    uint64_t seq;
};

static void on_topic(void *arg, const struct store_topic *topic)
{
    struct first *first = arg;

    if (topic->topic == first->topic) {
        first->seq = topic->first_seq;
    }
}

static void begins_at(uint32_t topic, uint64_t wanted, char **words)
{
    struct first first = { .topic = topic, .seq = 1 };

    expect(store_each_topic(h.store, on_topic, &first) == STATUS_OK
               && first.seq == wanted,
           "first seq", words);
}

static void is_topic(char **words)
{
    uint32_t id = id_of(CATALOG_TOPIC, words[1]);
    uint64_t last = strtoull(words[2], NULL, 10);
    struct record record;

    expect(id != 0, "topic", words);
    expect(last_seq(&h, id) == last, "last seq", words);
    expect(message_at(&h, id, last + 1, &record, NULL) == STATUS_NOT_FOUND,
           "end", words);
    begins_at(id, words[3] != NULL ? strtoull(words[3], NULL, 10) : 1, words);
}

static void is_deleted(char **words)
{
    for (int class = CATALOG_APP; class <= CATALOG_GROUP; class ++) {
        expect(id_of((enum catalog_class) class, words[2]) == 0, "deleted",
               words);
    }
}

/* "COUNT*TEXT" */
static bool is_repeated(struct slice body, const char *words)
{
    char *star;
    size_t count = strtoull(words, &star, 10);
    size_t len = strlen(star + 1);

    if (body.len != count * len) {
        return false;
    }
    for (size_t i = 0; i < count && len > 0; i++) {
        if (memcmp(body.at + i * len, star + 1, len) != 0) {
            return false;
        }
    }
    return true;
}

/* "-" or "NAME=VALUE;..." in whatever order. */
static bool has_headers(const struct wire_message *message, const char *words)
{
    size_t len = 0;

    for (size_t i = 0; i < message->header_count; i++) {
        const struct wire_header *header = &message->headers[i];
        char text[256];
        snprintf(text, sizeof text, "%.*s=%.*s", (int)header->name.len,
                 (const char *)header->name.at, (int)header->value.len,
                 (const char *)header->value.at);
        if (strstr(words, text) == NULL) {
            return false;
        }
        len += strlen(text) + 1;
    }
    return message->header_count == 0 ? strcmp(words, "-") == 0
                                      : len == strlen(words) + 1;
}

static void is_message(char **words)
{
    uint32_t topic = id_of(CATALOG_TOPIC, words[1]);
    uint64_t seq = strtoull(words[2], NULL, 10);
    struct wire_message message;
    struct refusal refusal;
    struct record record;

    if (message_at(&h, topic, seq, &record, NULL) != STATUS_OK
        || codec_message_check(record.body, &message, &refusal) != STATUS_OK) {
        expect(false, "message", words);
        return;
    }
    expect(record.seq == seq, "seq", words);
    expect(slice_is(message.key, strcmp(words[3], "-") == 0 ? "" : words[3]),
           "key", words);
    expect(has_headers(&message, words[4]), "headers", words);
    expect(is_repeated(message.body, words[5]), "body", words);
}

/* ---- lanes ---- */

struct lane_wanted {
    uint32_t group, topic;
    char settled[512];
    char retries[512];
    char dead[512];
    char expired[512];
    char filtered[24];
    char discarded[24];
    char after[24];
};

static void print_range(char *to, size_t room, struct seq_range r)
{
    size_t len = strlen(to);

    snprintf(to + len, room - len, r.first == r.last ? "%s%d" : "%s%d-%d",
             len == 0 ? "" : ",", (int)r.first, (int)r.last);
}

static void print_set(char *to, size_t room, const struct seqset *set)
{
    for (size_t i = 0; i < seqset_range_count(set); i++) {
        print_range(to, room, seqset_ranges(set)[i]);
    }
}

static void on_lane(void *arg, const struct store_lane *lane)
{
    struct lane_wanted *w = arg;

    if (lane->group != w->group || lane->topic != w->topic) {
        return;
    }
    print_set(w->settled, sizeof w->settled, lane->acked);
    print_set(w->dead, sizeof w->dead, lane->dead);
    print_set(w->expired, sizeof w->expired, lane->expired);
    snprintf(w->filtered, sizeof w->filtered, "%d", (int)lane->filtered);
    snprintf(w->discarded, sizeof w->discarded, "%d", (int)lane->discarded);
    if (lane->sought) {
        snprintf(w->after, sizeof w->after, "%d", (int)lane->after);
    }
    for (size_t i = 0; i < lane->retry_count; i++) {
        size_t len = strlen(w->retries);
        snprintf(w->retries + len, sizeof w->retries - len, "%s%dx%u",
                 len == 0 ? "" : ",", (int)lane->retries[i].seq,
                 lane->retries[i].attempts);
    }
}

static void expect_word(const char *has, const char *what, char **words,
                        size_t at)
{
    expect(strcmp(has, strcmp(words[at], "-") == 0 ? "" : words[at]) == 0, what,
           words);
}

static void is_lane(char **words)
{
    struct lane_wanted w = { .group = id_of(CATALOG_GROUP, words[1]),
                             .topic = id_of(CATALOG_TOPIC, words[2]) };

    expect(store_each_lane(h.store, on_lane, &w) == STATUS_OK, "lanes", words);
    expect_word(w.settled, "settled", words, 3);
    expect_word(w.retries, "retries", words, 4);
    if (words[5] != NULL) {
        expect_word(w.dead, "dead", words, 5);
        expect_word(w.expired, "expired", words, 6);
        expect_word(w.filtered, "filtered", words, 7);
        expect_word(w.discarded, "discarded", words, 8);
        expect_word(w.after, "after", words, 9);
    }
}

/* ---- histories and ids, since version 3 ---- */

static void is_history(char **words)
{
    struct store_failure failures[HISTORY_MAX];
    char text[1024] = "";
    size_t count = 0;
    size_t len = 0;

    expect(store_view_history(h.view, id_of(CATALOG_GROUP, words[1]),
                              id_of(CATALOG_TOPIC, words[2]),
                              strtoull(words[3], NULL, 10), failures,
                              HISTORY_MAX, &count)
               == STATUS_OK,
           "history", words);
    for (size_t i = 0; i < count && len < sizeof text; i++) {
        len += (size_t)snprintf(
            text + len, sizeof text - len, "%s%u:%d:%.*s", i == 0 ? "" : ";",
            failures[i].attempts, (int)failures[i].cause,
            (int)failures[i].reason_len, failures[i].reason);
    }
    expect_word(text, "history", words, 4);
}

static void is_id_remembered(char **words)
{
    uint32_t topic = id_of(CATALOG_TOPIC, words[1]);
    struct digest_id id = digest_id(topic, slice_text(words[2]));
    struct record record = { .kind = RECORD_MESSAGE,
                             .flags = RECORD_ID,
                             .topic = topic,
                             .producer = id.high,
                             .producer_seq = id.low };
    struct store_commit commit;

    record_finish(h.buffer, &record);
    h.len = record_size(0);
    expect(harness_append(&h, &commit) == STATUS_OK && commit.record_count == 0,
           "id", words);
    expect(record_seq_at(h.buffer) == strtoull(words[3], NULL, 10), "its seq",
           words);
}

/* The same number again is dropped, and the first one's seq is known or 0. */
static void is_remembered(char **words)
{
    uint32_t topic = id_of(CATALOG_TOPIC, words[4]);
    struct record record = { .kind = RECORD_MESSAGE,
                             .topic = topic,
                             .app = id_of(CATALOG_APP, words[1]),
                             .producer = strtoull(words[2], NULL, 10),
                             .producer_seq = strtoull(words[3], NULL, 10) };
    uint64_t last = last_seq(&h, topic);
    struct store_commit commit;

    record_finish(h.buffer, &record);
    h.len = record_size(0);
    expect(harness_append(&h, &commit) == STATUS_OK && commit.record_count == 0,
           "duplicate", words);
    expect((record_flags_at(h.buffer) & RECORD_DUPLICATE) != 0, "flag", words);
    expect(record_seq_at(h.buffer) == 0
               || record_seq_at(h.buffer) == strtoull(words[5], NULL, 10),
           "its seq", words);
    expect(last_seq(&h, topic) == last, "last seq", words);
}

/* ---- the tests ---- */

/* What is not as the manifest says; "" when all is. */
static const char *wrong_in(const char *golden)
{
    static char *counts[] = { "counts", "all", NULL };
    size_t count;

    complaint[0] = '\0';
    name_count = 0;
    CHECK(store_each_fact(h.store, on_name, NULL) == STATUS_OK);
    count = each_line(golden, "app", is_app);
    count += each_line(golden, "group", is_group);
    count += each_line(golden, "topic", is_topic);
    expect(count == name_count, "number of names", counts);
    expect(each_line(golden, "message", is_message) >= 50, "messages", counts);
    expect(each_line(golden, "lane", is_lane) >= 1, "lanes", counts);
    expect(each_line(golden, "deleted", is_deleted) >= 1, "deleted", counts);
    (void)each_line(golden, "history", is_history);
    return complaint;
}

static const char *forgotten_in(const char *golden)
{
    complaint[0] = '\0';
    CHECK(each_line(golden, "producer", is_remembered) >= 10);
    (void)each_line(golden, "id", is_id_remembered);
    return complaint;
}

static void begin(const char *golden)
{
    find_data();
    harness_init(&h);
    h.config.segment_len = SEGMENT_LEN;
    unpack(golden);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
}

/* Open it, three times: as it was left; after this build wrote to it; and
 * without its keydir. */
static void survives(const char *golden)
{
    uint32_t topic;

    begin(golden);
    cr_assert(eq(u64, h.recovery.damaged_batches, 0));
    cr_assert(eq(u64, h.recovery.missing_segments, 0));
    cr_assert(not(h.recovery.fresh));
    cr_assert(eq(str, (char *)wrong_in(golden), ""));
    cr_assert(eq(str, (char *)forgotten_in(golden), ""));
    topic = id_of(CATALOG_TOPIC, "trade.us") + 1000;
    add_message(&h, topic, "written by a later build");
    cr_assert(eq(int, harness_commit(&h), STATUS_OK));
    harness_reopen(&h);
    cr_assert(eq(str, (char *)wrong_in(golden), ""));
    harness_close(&h);
    harness_delete_keydir(&h);
    cr_assert(eq(int, harness_open(&h), STATUS_OK), "%s", h.err.text);
    cr_assert(h.recovery.keydir_rebuilt);
    cr_assert(eq(u64, h.recovery.damaged_batches, 0));
    cr_assert(eq(str, (char *)wrong_in(golden), ""));
    cr_assert(eq(str, (char *)forgotten_in(golden), ""));
    cr_assert(eq(str, (char *)message_text(&h, topic, 1),
                 "written by a later build"));
    harness_fini(&h);
}

TestSuite(golden, .timeout = 120);

Test(golden, version_1_that_ended_cleanly)
{
    survives("v1-clean");
}

Test(golden, version_1_that_was_killed)
{
    survives("v1-killed");
}

static void none(char **words)
{
    (void)words;
}

Test(golden, version_2_that_ended_cleanly)
{
    survives("v2-clean");
}

Test(golden, version_2_that_was_killed)
{
    survives("v2-killed");
}

Test(golden, version_3_that_ended_cleanly)
{
    survives("v3-clean");
}

Test(golden, version_3_that_was_killed)
{
    survives("v3-killed");
}

/* The check itself: each line that says something else is found to be wrong. */
Test(golden, a_manifest_that_lies_is_noticed)
{
    static const char *const kinds[] = { "app",     "topic", "group",
                                         "message", "lane",  "history" };
    size_t lines = 0;

    begin("v3-killed");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        lines += each_line("v3-killed", kinds[i], none);
    }
    for (plant_at = 1; plant_at < 1000; plant_at++) {
        lines -= wrong_in("v3-killed")[0] != '\0';
    }
    cr_assert(eq(sz, lines, 0));
    harness_fini(&h);
}
