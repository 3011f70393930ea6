#include "tools/godwit/copying.h"

#include "tools/godwit/command.h"
#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/json.h"

#include <inttypes.h>
#include <string.h>

enum { DAMAGES_SHOWN_MAX = 20, STORE_ID_LEN = 17 };

static bool on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct copying *c = arg;

    c->progress.total = total;
    progress_show(&c->progress, done < total ? done : total);
    c->stopped = interrupted();
    return !c->stopped;
}

static void on_damage(void *arg, const struct backup_damage *damage)
{
    struct copying *c = arg;
    char len[HUMAN_LEN];

    c->damages++;
    progress_clear(&c->progress);
    if (c->damages == DAMAGES_SHOWN_MAX + 1) {
        fputs("damage: and more\n", stderr);
    }
    if (c->damages > DAMAGES_SHOWN_MAX) {
        return;
    }
    fprintf(stderr, "damage: %s", damage->file);
    if (damage->offset > 0) {
        fprintf(stderr, " at %" PRIu64, damage->offset);
    }
    fprintf(stderr, ", %s: %s", human_bytes(len, (double)damage->len),
            damage->text);
    if (damage->topic != 0) {
        fprintf(stderr, ", topic #%u seq %" PRIu64, damage->topic, damage->seq);
    }
    fputc('\n', stderr);
}

void copying_begin(struct copying *c, struct backup_job *job, const char *what)
{
    *c = (struct copying) { .begun_ns = now_ns() };
    progress_begin_bytes(&c->progress, what, 0);
    job->progress = on_progress;
    job->damage = on_damage;
    job->arg = c;
}

void copying_end(struct copying *c)
{
    progress_end(&c->progress);
}

static uint64_t bytes_of(const struct manifest *m, uint64_t *segments)
{
    uint64_t bytes = 0;

    *segments = 0;
    for (size_t i = 0; i < m->file_count; i++) {
        bytes += m->files[i].len;
        *segments += strncmp(m->files[i].name.text, "log/", 4) == 0;
    }
    return bytes;
}

void copying_show(const struct copying *c, const struct manifest *m)
{
    char text[HUMAN_LEN];
    char more[HUMAN_LEN];
    uint64_t segments;
    uint64_t bytes = bytes_of(m, &segments);

    printf("  store     %016" PRIx64 ", format %" PRIu64 "\n", m->store_id,
           m->format);
    printf("  made      %s\n", human_time(text, m->made_us));
    printf("  files     %zu, %s; ", m->file_count,
           human_bytes(text, (double)bytes));
    printf("%s %s, up to segment %" PRIu64 " offset %" PRIu64 "\n",
           human_count(text, segments), plural(segments, "segment", "segments"),
           m->segment, m->offset);
    printf("  records   %s", human_count(text, m->records));
    printf(", %s of them messages, in %s batches\n",
           human_count(text, m->messages), human_count(more, m->batches));
    printf("  verified  %s\n",
           m->damages == 0 && c->damages == 0
               ? "every checksum, nothing is damaged"
               : "every checksum; see the damage named above");
    printf("  took      %s\n", human_duration(text, now_ns() - c->begun_ns));
}

int copying_show_json(const struct copying *c, const struct manifest *m,
                      const char *dir)
{
    struct json_writer w = { 0 };
    char id[STORE_ID_LEN];
    uint64_t segments;
    const char *text;

    snprintf(id, sizeof id, "%016" PRIx64, m->store_id);
    json_begin(&w, NULL, '{');
    json_put_text(&w, "folder", slice_text(dir));
    json_put_text(&w, "store", slice_text(id));
    json_put_number(&w, "format", m->format);
    json_put_number(&w, "made_us", m->made_us);
    json_put_number(&w, "bytes", bytes_of(m, &segments));
    json_put_number(&w, "files", m->file_count);
    json_put_number(&w, "segments", segments);
    json_put_number(&w, "end_segment", m->segment);
    json_put_number(&w, "end_offset", m->offset);
    json_put_number(&w, "batches", m->batches);
    json_put_number(&w, "records", m->records);
    json_put_number(&w, "messages", m->messages);
    json_put_number(&w, "source_damages", m->damages);
    json_put_number(&w, "source_damaged_bytes", m->damaged_bytes);
    json_put_number(&w, "damages", c->damages);
    json_end(&w, '}');
    text = json_done(&w);
    if (text != NULL) {
        puts(text);
    }
    json_writer_fini(&w);
    return text != NULL ? EXIT_OK : fail(EXIT_FAILED, "out of memory");
}
