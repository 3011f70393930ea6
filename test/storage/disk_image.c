#include "test/storage/disk_image.h"

#include "proto/check.h"
#include "test/storage/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECTOR_LEN = 512, PAGE_LEN = 4096 };

/* ---- what is synced ---- */

static void list_add(struct disk_list *list, size_t op)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 16 : list->capacity * 2;
        list->ops = realloc(list->ops, list->capacity * sizeof *list->ops);
        CHECK(list->ops != NULL);
    }
    list->ops[list->count++] = op;
}

static void copy_bytes(struct disk_bytes *to, const struct disk_bytes *from)
{
    to->at = NULL;
    to->capacity = to->data_len = 0;
    to->len = from->len;
    if (from->data_len > 0) {
        disk_bytes_put(to, 0, from->at, from->data_len);
    }
}

void disk_init(struct disk *disk, const struct disk_trace *trace)
{
    size_t count = (size_t)trace->file_count + 1;

    *disk = (struct disk) { .trace = trace, .file_count = trace->file_count };
    disk->files = calloc(count, sizeof *disk->files);
    disk->dirty = calloc(count, sizeof *disk->dirty);
    CHECK(disk->files != NULL && disk->dirty != NULL);
    for (int i = 0; i < trace->first_count; i++) {
        copy_bytes(&disk->files[i], &trace->first[i]);
    }
    memcpy(disk->names, trace->first_names, sizeof disk->names);
}

void disk_fini(struct disk *disk)
{
    for (int i = 0; i < disk->file_count; i++) {
        free(disk->files[i].at);
        free(disk->dirty[i].ops);
    }
    free(disk->files);
    free(disk->dirty);
    free(disk->changes.ops);
    *disk = (struct disk) { 0 };
}

static size_t len_after(const struct disk_op *op)
{
    if (op->kind == DISK_LEN) {
        return op->len;
    }
    return op->at + op->len > op->len_before ? op->at + op->len
                                             : op->len_before;
}

/* The bytes from..stop of what a write or a cut did. */
static void apply_part(struct disk_bytes *bytes, const struct disk_op *op,
                       uint64_t from, uint64_t stop)
{
    if (op->kind == DISK_LEN) {
        uint64_t at = from > op->len ? from : op->len;
        disk_bytes_zero(bytes, at, stop);
        return;
    }
    from = from > op->at ? from : op->at;
    stop = stop < op->at + op->len ? stop : op->at + op->len;
    if (from < stop) {
        disk_bytes_put(bytes, from, op->data + (from - op->at),
                       (size_t)(stop - from));
    }
}

static void sync_file(struct disk *disk, int file)
{
    struct disk_list *dirty = &disk->dirty[file];

    for (size_t i = 0; i < dirty->count; i++) {
        const struct disk_op *op = &disk->trace->ops[dirty->ops[i]];
        apply_part(&disk->files[file], op, 0, UINT64_MAX);
        disk->files[file].len = len_after(op);
    }
    dirty->count = 0;
}

/* With O_DSYNC the write itself is synced when it returns, and with it what
 * else is dirty in its sectors. */
static void sync_write(struct disk *disk, const struct disk_op *op)
{
    struct disk_list *dirty = &disk->dirty[op->file];
    uint64_t from = op->at & ~(uint64_t)(SECTOR_LEN - 1);
    uint64_t stop =
        (op->at + op->len + SECTOR_LEN - 1) & ~(uint64_t)(SECTOR_LEN - 1);

    for (size_t i = 0; i < dirty->count; i++) {
        apply_part(&disk->files[op->file], &disk->trace->ops[dirty->ops[i]],
                   from, stop);
    }
    apply_part(&disk->files[op->file], op, 0, UINT64_MAX);
    if (len_after(op) > disk->files[op->file].len) {
        disk->files[op->file].len = len_after(op);
    }
}

static bool lies_in(const char *name, const char *folder)
{
    const char *slash = strchr(name, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - name);

    return strlen(folder) == len && strncmp(name, folder, len) == 0;
}

static void sync_names(struct disk *disk, const char *folder)
{
    size_t kept = 0;

    for (size_t i = 0; i < disk->changes.count; i++) {
        size_t at = disk->changes.ops[i];
        if (lies_in(disk->trace->ops[at].name, folder)) {
            disk_change(disk->names, &disk->trace->ops[at]);
        } else {
            disk->changes.ops[kept++] = at;
        }
    }
    disk->changes.count = kept;
}

void disk_seek(struct disk *disk, size_t at)
{
    CHECK(at >= disk->at && at <= disk->trace->count);
    for (; disk->at < at; disk->at++) {
        const struct disk_op *op = &disk->trace->ops[disk->at];
        switch (op->kind) {
        case DISK_WRITE:
            if (op->each_synced) {
                sync_write(disk, op);
                break;
            }
            list_add(&disk->dirty[op->file], disk->at);
            break;
        case DISK_LEN:
            list_add(&disk->dirty[op->file], disk->at);
            break;
        case DISK_SYNC:
            sync_file(disk, op->file);
            break;
        case DISK_SYNC_DIR:
            sync_names(disk, op->name);
            break;
        case DISK_MAKE:
        case DISK_MAKE_DIR:
        case DISK_RENAME:
        case DISK_UNLINK:
            list_add(&disk->changes, disk->at);
            break;
        }
    }
}

/* ---- which units differ ---- */

/* One file with something unsynced, while an image is made. */
struct mix {
    int file;
    struct disk_list list; /* of its changes, the one under way too */
    struct disk_op torn;   /* that one, as far as it came */
    size_t torn_at;        /* its place in the trace; SIZE_MAX: none */
    size_t unit;
    size_t units;
    uint32_t *touches; /* changes of each unit */
    uint32_t *wanted;  /* so many of them reach the disk */
    size_t *last;      /* place of the last change of each */
    bool *differs;
};

struct mixing {
    const struct disk *disk;
    const struct disk_cut *cut;
    uint64_t state;
    size_t under_way; /* place of the call that counts as begun; else SIZE_MAX */
    struct disk_op torn;
    struct mix *mixes;
    size_t count;
    size_t differ; /* units, in all files */
};

static const struct disk_op *op_of(const struct mix *mix,
                                   const struct disk *disk, size_t at)
{
    return at == mix->torn_at ? &mix->torn : &disk->trace->ops[at];
}

static void touch(struct mix *mix, const struct disk_op *op, size_t at)
{
    uint64_t from = op->kind == DISK_LEN ? op->len : op->at;
    uint64_t stop = op->kind == DISK_LEN ? op->len_before : op->at + op->len;

    if (from >= stop) {
        return;
    }
    for (size_t i = from / mix->unit; i <= (stop - 1) / mix->unit; i++) {
        mix->touches[i]++;
        mix->last[i] = at;
    }
}

static size_t count_units(const struct mix *mix, const struct disk *disk)
{
    size_t len = disk->files[mix->file].data_len;

    for (size_t i = 0; i < mix->list.count; i++) {
        const struct disk_op *op = op_of(mix, disk, mix->list.ops[i]);
        size_t stop = len_after(op);
        stop = stop > op->len_before ? stop : op->len_before;
        len = stop > len ? stop : len;
    }
    return len / mix->unit + 1;
}

static bool same(const struct disk_bytes *a, const struct disk_bytes *b,
                 size_t at, size_t len)
{
    for (size_t i = at; i < at + len; i++) {
        uint8_t x = i < a->data_len ? a->at[i] : 0;
        uint8_t y = i < b->data_len ? b->at[i] : 0;
        if (x != y) {
            return false;
        }
    }
    return true;
}

static void find_differences(struct mix *mix, const struct disk *disk)
{
    const struct disk_bytes *old = &disk->files[mix->file];
    struct disk_bytes all;

    copy_bytes(&all, old);
    for (size_t i = 0; i < mix->list.count; i++) {
        apply_part(&all, op_of(mix, disk, mix->list.ops[i]), 0, UINT64_MAX);
    }
    for (size_t i = 0; i < mix->units; i++) {
        mix->differs[i] =
            mix->touches[i] > 0 && !same(old, &all, i * mix->unit, mix->unit);
    }
    free(all.at);
}

static void begin_mix(struct mixing *m, int file)
{
    const struct disk *disk = m->disk;
    struct mix *mix = &m->mixes[m->count++];

    *mix = (struct mix) { .file = file,
                          .unit = m->cut->unit,
                          .torn_at = SIZE_MAX };
    for (size_t i = 0; i < disk->dirty[file].count; i++) {
        list_add(&mix->list, disk->dirty[file].ops[i]);
    }
    if (m->under_way != SIZE_MAX && m->torn.file == file) {
        mix->torn = m->torn;
        mix->torn_at = m->under_way;
        list_add(&mix->list, m->under_way);
    }
    mix->units = count_units(mix, disk);
    mix->touches = calloc(mix->units, sizeof *mix->touches);
    mix->wanted = calloc(mix->units, sizeof *mix->wanted);
    mix->last = calloc(mix->units, sizeof *mix->last);
    mix->differs = calloc(mix->units, sizeof *mix->differs);
    CHECK(mix->touches != NULL && mix->wanted != NULL && mix->last != NULL
          && mix->differs != NULL);
    for (size_t i = 0; i < mix->list.count; i++) {
        touch(mix, op_of(mix, disk, mix->list.ops[i]), mix->list.ops[i]);
    }
    find_differences(mix, disk);
    for (size_t i = 0; i < mix->units; i++) {
        m->differ += mix->differs[i];
    }
}

static void end_mix(struct mix *mix)
{
    free(mix->list.ops);
    free(mix->touches);
    free(mix->wanted);
    free(mix->last);
    free(mix->differs);
}

static bool is_content(const struct disk_op *op)
{
    return op->kind == DISK_WRITE || op->kind == DISK_LEN;
}

static bool is_name(const struct disk_op *op)
{
    return op->kind == DISK_MAKE || op->kind == DISK_MAKE_DIR
           || op->kind == DISK_RENAME || op->kind == DISK_UNLINK;
}

/* The call that the cut interrupts: not begun, done, or done in part. */
static void take_under_way(struct mixing *m)
{
    const struct disk *disk = m->disk;
    uint64_t chance = random_next(&m->state);

    m->under_way = SIZE_MAX;
    if (disk->at == disk->trace->count || m->cut->policy == DISK_NOTHING
        || (m->cut->policy != DISK_EVERYTHING && chance % 4 == 0)) {
        return;
    }
    m->torn = disk->trace->ops[disk->at];
    if (!is_content(&m->torn) && !is_name(&m->torn)) {
        return;
    }
    m->under_way = disk->at;
    if (m->torn.kind == DISK_WRITE && m->cut->policy != DISK_EVERYTHING
        && m->cut->policy != DISK_CHOSEN && chance % 2 == 0) {
        m->torn.len = (chance >> 8) % (m->torn.len + 1);
    }
}

static void begin(struct mixing *m, const struct disk *disk,
                  const struct disk_cut *cut)
{
    *m = (struct mixing) { .disk = disk, .cut = cut, .state = cut->seed };
    m->mixes = calloc((size_t)disk->file_count + 1, sizeof *m->mixes);
    CHECK(m->mixes != NULL);
    take_under_way(m);
    for (int i = 0; i < disk->file_count; i++) {
        bool begun = m->under_way != SIZE_MAX && is_content(&m->torn)
                     && m->torn.file == i;
        if (disk->dirty[i].count > 0 || begun) {
            begin_mix(m, i);
        }
    }
}

static void end(struct mixing *m)
{
    for (size_t i = 0; i < m->count; i++) {
        end_mix(&m->mixes[i]);
    }
    free(m->mixes);
}

/* ---- which of them survive ---- */

/* Place of the first change that survives DISK_LATER. */
static size_t pivot(const struct mixing *m)
{
    size_t total = 0;
    size_t nth;

    for (size_t i = 0; i < m->count; i++) {
        total += m->mixes[i].list.count;
    }
    nth = total == 0 ? 0 : m->cut->pick % total;
    for (size_t i = 0; i < m->count; i++) {
        if (nth < m->mixes[i].list.count) {
            return m->mixes[i].list.ops[nth];
        }
        nth -= m->mixes[i].list.count;
    }
    return 0;
}

/* How many of its changes this unit shows; `number` counts those that differ. */
static uint32_t draw_unit(struct mixing *m, const struct mix *mix, size_t i,
                          size_t number, size_t first)
{
    const struct disk_cut *cut = m->cut;
    uint32_t all = mix->touches[i];
    bool picked = m->differ > 0 && number == cut->pick % m->differ;

    switch (cut->policy) {
    case DISK_NOTHING:
        return 0;
    case DISK_EVERYTHING:
        return all;
    case DISK_SOME:
        if (random_next(&m->state) % 100 >= cut->percent) {
            return 0;
        }
        return random_next(&m->state) % 2 == 0
                   ? all
                   : 1 + (uint32_t)(random_next(&m->state) % all);
    case DISK_LATER:
        return mix->last[i] >= first ? all : 0;
    case DISK_ALL_BUT_ONE:
        return picked ? 0 : all;
    case DISK_ONLY_ONE:
        return picked ? all : 0;
    case DISK_CHOSEN:
        return (cut->bits >> number & 1) != 0 ? all : 0;
    }
    return 0;
}

static void draw_units(struct mixing *m)
{
    size_t first = pivot(m);
    size_t number = 0;

    for (size_t k = 0; k < m->count; k++) {
        struct mix *mix = &m->mixes[k];
        for (size_t i = 0; i < mix->units; i++) {
            if (mix->touches[i] == 0) {
                continue;
            }
            /* one that does not differ in the end may have on the way */
            mix->wanted[i] = mix->differs[i] || m->cut->policy == DISK_SOME
                                 ? draw_unit(m, mix, i, number, first)
                                 : 0;
            number += mix->differs[i];
        }
    }
}

/* The last change that a unit shows may have got only so far into it. */
static uint64_t tear(struct mixing *m, const struct mix *mix, size_t i)
{
    uint64_t chance = random_next(&m->state);

    if (m->cut->policy != DISK_SOME || chance % 20 != 0) {
        return (i + 1) * mix->unit;
    }
    return i * mix->unit + (chance >> 8) % mix->unit;
}

static void mix_bytes(struct mixing *m, struct mix *mix, struct disk_bytes *out)
{
    for (size_t k = 0; k < mix->list.count; k++) {
        const struct disk_op *op = op_of(mix, m->disk, mix->list.ops[k]);
        uint64_t from = op->kind == DISK_LEN ? op->len : op->at;
        uint64_t stop =
            op->kind == DISK_LEN ? op->len_before : op->at + op->len;
        if (from >= stop) {
            continue;
        }
        for (size_t i = from / mix->unit; i <= (stop - 1) / mix->unit; i++) {
            if (mix->wanted[i] > 0) {
                uint64_t limit = --mix->wanted[i] == 0 ? tear(m, mix, i)
                                                       : (i + 1) * mix->unit;
                apply_part(out, op, i * mix->unit, limit);
            }
        }
    }
}

/* One of the lengths that it had since the last sync. */
static size_t draw_len(struct mixing *m, const struct mix *mix)
{
    size_t old = m->disk->files[mix->file].len;
    size_t count = mix->list.count;
    size_t newest = len_after(op_of(mix, m->disk, mix->list.ops[count - 1]));
    uint64_t chance = random_next(&m->state);

    switch (m->cut->policy) {
    case DISK_NOTHING:
        return old;
    case DISK_EVERYTHING:
    case DISK_CHOSEN:
        return newest;
    case DISK_SOME:
    case DISK_LATER:
    case DISK_ALL_BUT_ONE:
    case DISK_ONLY_ONE:
        if (chance % 2 == 0) {
            return newest;
        }
        chance = (chance >> 8) % (count + 1);
        return chance == 0
                   ? old
                   : len_after(op_of(mix, m->disk, mix->list.ops[chance - 1]));
    }
    return old;
}

/* ---- names ---- */

static bool share_a_name(const struct disk_op *a, const struct disk_op *b)
{
    const char *names[] = { b->name, b->to };

    for (int i = 0; i < 2; i++) {
        if (names[i][0] != '\0'
            && (strcmp(a->name, names[i]) == 0
                || strcmp(a->to, names[i]) == 0)) {
            return true;
        }
    }
    return false;
}

/* Of the changes of names: which reach the disk. In order: up to one of them.
 * Reordered: each by itself, but none before an earlier one of the same name. */
static void draw_names(struct mixing *m, const struct disk_list *changes,
                       bool *keep)
{
    size_t stop = (size_t)(random_next(&m->state) % (changes->count + 1));

    for (size_t i = 0; i < changes->count; i++) {
        const struct disk_op *op = &m->disk->trace->ops[changes->ops[i]];
        keep[i] = m->cut->reorder ? random_next(&m->state) % 2 == 0 : i < stop;
        if (m->cut->policy == DISK_NOTHING
            || m->cut->policy == DISK_EVERYTHING) {
            keep[i] = m->cut->policy == DISK_EVERYTHING;
        } else if (m->cut->policy == DISK_CHOSEN) {
            keep[i] = (m->cut->bits >> (m->differ + i) & 1) != 0;
        }
        for (size_t k = 0; k < i && keep[i]; k++) {
            keep[i] =
                keep[k]
                || !share_a_name(op, &m->disk->trace->ops[changes->ops[k]]);
        }
    }
}

static void mix_names(struct mixing *m, struct disk_name *names)
{
    struct disk_list changes = { 0 };
    bool *keep;

    memcpy(names, m->disk->names, sizeof m->disk->names);
    for (size_t i = 0; i < m->disk->changes.count; i++) {
        list_add(&changes, m->disk->changes.ops[i]);
    }
    if (m->under_way != SIZE_MAX && is_name(&m->torn)) {
        list_add(&changes, m->under_way);
    }
    keep = calloc(changes.count + 1, sizeof *keep);
    CHECK(keep != NULL);
    draw_names(m, &changes, keep);
    for (size_t i = 0; i < changes.count; i++) {
        if (keep[i]) {
            disk_change(names, &m->disk->trace->ops[changes.ops[i]]);
        }
    }
    free(keep);
    free(changes.ops);
}

/* ---- writing it ---- */

static bool all_zero(const uint8_t *at, size_t len)
{
    return at[0] == 0 && memcmp(at, at + 1, len - 1) == 0;
}

static void write_file(const char *path, const struct disk_bytes *bytes,
                       size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t stop = bytes->data_len < len ? bytes->data_len : len;

    CHECK(fd >= 0 && ftruncate(fd, (off_t)len) == 0);
    for (size_t at = 0; at < stop; at += PAGE_LEN) {
        size_t part = stop - at < PAGE_LEN ? stop - at : PAGE_LEN;
        if (!all_zero(bytes->at + at, part)) {
            CHECK(pwrite(fd, bytes->at + at, part, (off_t)at) == (ssize_t)part);
        }
    }
    close(fd);
}

static void write_one(struct mixing *m, int file, const char *path)
{
    for (size_t i = 0; i < m->count; i++) {
        if (m->mixes[i].file == file) {
            struct disk_bytes bytes;
            size_t len = draw_len(m, &m->mixes[i]);
            copy_bytes(&bytes, &m->disk->files[file]);
            mix_bytes(m, &m->mixes[i], &bytes);
            write_file(path, &bytes, len);
            free(bytes.at);
            return;
        }
    }
    write_file(path, &m->disk->files[file], m->disk->files[file].len);
}

static bool has_parent(struct disk_name *names, const char *name)
{
    char parent[DISK_NAME_LEN];
    const char *slash = strchr(name, '/');

    if (slash == NULL) {
        return true;
    }
    snprintf(parent, sizeof parent, "%.*s", (int)(slash - name), name);
    return disk_find(names, parent) != NULL;
}

static void write_all(struct mixing *m, struct disk_name *names, const char *to)
{
    char path[1200];

    for (int i = 0; i < DISK_NAMES_MAX; i++) {
        if (names[i].name[0] != '\0' && names[i].file < 0) {
            snprintf(path, sizeof path, "%s/%.*s", to, DISK_NAME_LEN - 1,
                     names[i].name);
            CHECK(mkdir(path, 0700) == 0);
        }
    }
    for (int i = 0; i < DISK_NAMES_MAX; i++) {
        if (names[i].name[0] != '\0' && names[i].file >= 0
            && has_parent(names, names[i].name)) {
            snprintf(path, sizeof path, "%s/%.*s", to, DISK_NAME_LEN - 1,
                     names[i].name);
            write_one(m, names[i].file, path);
        }
    }
}

void disk_image(const struct disk *disk, const struct disk_cut *cut,
                const char *to)
{
    struct disk_name names[DISK_NAMES_MAX];
    struct mixing m;

    begin(&m, disk, cut);
    draw_units(&m);
    mix_names(&m, names);
    write_all(&m, names, to);
    end(&m);
}

size_t disk_choices(const struct disk *disk, size_t unit)
{
    struct disk_cut cut = { .policy = DISK_EVERYTHING, .unit = unit };
    struct mixing m;
    size_t count;

    begin(&m, disk, &cut);
    count = m.differ + disk->changes.count;
    if (m.under_way != SIZE_MAX && is_name(&m.torn)) {
        count++;
    }
    end(&m);
    return count;
}

/* ---- chance ---- */

struct disk_cut disk_draw(uint64_t *state)
{
    static const unsigned percents[] = { 5, 10, 30, 50, 70, 90, 95 };
    static const enum disk_policy policies[] = {
        DISK_SOME,       DISK_SOME,   DISK_SOME,        DISK_SOME,
        DISK_LATER,      DISK_LATER,  DISK_ALL_BUT_ONE, DISK_ONLY_ONE,
        DISK_EVERYTHING, DISK_NOTHING
    };
    struct disk_cut cut = { 0 };

    cut.policy = policies[random_next(state) % COUNT_OF(policies)];
    cut.unit = random_next(state) % 2 == 0 ? SECTOR_LEN : PAGE_LEN;
    cut.percent = percents[random_next(state) % COUNT_OF(percents)];
    cut.pick = random_next(state);
    cut.reorder = random_next(state) % 2 == 0;
    cut.seed = random_next(state);
    return cut;
}
