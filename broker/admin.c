#include "broker/admin.h"

#include "broker/clock.h"
#include "broker/log.h"
#include "broker/router/authenticate.h"
#include "broker/router/catalog.h"
#include "proto/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CREDENTIALS_FILE "admin.credentials"
enum { PATH_LEN = 1200, TEXT_LEN = 1024 };

static void count_app(void *arg, const struct record_fact *fact)
{
    size_t *apps = arg;

    *apps += fact->class == CATALOG_APP;
}

/* Whole or not at all: a temporary file, synced, then renamed. */
static enum status write_file(const char *dir, const char *text,
                              struct error *err)
{
    char path[PATH_LEN];
    char temporary[PATH_LEN];
    size_t len = strlen(text);
    int fd;
    bool good;

    snprintf(path, sizeof path, "%s/" CREDENTIALS_FILE, dir);
    snprintf(temporary, sizeof temporary, "%s/" CREDENTIALS_FILE ".new", dir);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return error_set(err, STATUS_IO, errno, "%s", temporary);
    }
    good = write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
    if (!good) {
        enum status status = error_set(err, STATUS_IO, errno, "%s", temporary);
        close(fd);
        unlink(temporary);
        return status;
    }
    close(fd);
    if (rename(temporary, path) != 0) {
        return error_set(err, STATUS_IO, errno, "%s", path);
    }
    return STATUS_OK;
}

static void url_line(char *line, size_t len, const char *host, uint16_t port,
                     bool tls)
{
    bool v6 = strchr(host, ':') != NULL;
    bool any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;

    snprintf(line, len, "url=%s://%s%s%s:%u\n", tls ? "wss" : "ws",
             v6 && !any ? "[" : "", any ? "127.0.0.1" : host,
             v6 && !any ? "]" : "", port);
}

static enum status append_fact(struct store *store, struct bytes *body,
                               struct error *err)
{
    size_t len = record_size(bytes_len(body));
    uint8_t *at = malloc(len);
    const struct record record = { .kind = RECORD_CATALOG,
                                   .body = slice_of(bytes_begin(body),
                                                    bytes_len(body)) };
    struct store_span span = { .at = at, .len = len };
    struct store_commit commit;
    enum status status;

    if (at == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "admin app");
    }
    memcpy(at + RECORD_HEADER_LEN, record.body.at, record.body.len);
    record_finish(at, &record);
    status = store_append(store, &span, 1, clock_wall_us(), &commit, err);
    if (status == STATUS_OK) {
        status = store_sync(store, err);
    }
    if (status == STATUS_OK) {
        status = store_apply(store, &commit);
    }
    if (status == STATUS_OK) {
        status = store_checkpoint(store, err);
    }
    free(at);
    return status;
}

static enum status decide(struct bytes *body, char *secret, struct error *err)
{
    struct catalog *catalog = catalog_new();
    struct catalog_request request = { .op = CATALOG_CREATE,
                                       .class = CATALOG_APP,
                                       .name = "admin",
                                       .admin = true };
    uint8_t random[SECRET_RANDOM_LEN];
    const struct catalog_context context = { .now_us = clock_wall_us(),
                                             .random = random };
    struct refusal r = { .text = "out of memory" };
    enum status status = catalog == NULL ? STATUS_NOMEM : STATUS_OK;

    if (status == STATUS_OK) {
        status = random_bytes(random, sizeof random);
    }
    if (status == STATUS_OK) {
        status = patterns_add(&request.publish, slice_text("*"), &r);
    }
    if (status == STATUS_OK) {
        status = patterns_add(&request.subscribe, slice_text("*"), &r);
    }
    if (status == STATUS_OK) {
        status = catalog_decide(catalog, &request, &context, body, secret, &r);
    }
    if (status != STATUS_OK) {
        error_set(err, status, 0, "admin app: %s", r.text);
    }
    catalog_request_fini(&request);
    catalog_free(catalog);
    return status;
}

/* The file first: an app whose secret nobody knows would be no use, a secret
 * without its app is written over at the next start. */
static enum status make(struct store *store, const char *dir, struct error *err)
{
    struct bytes body = { 0 };
    char secret[SECRET_LEN_MAX + 1];
    char text[TEXT_LEN];
    enum status status = decide(&body, secret, err);

    if (status == STATUS_OK) {
        snprintf(text, sizeof text, "app=admin\nsecret=%s\n", secret);
        status = write_file(dir, text, err);
        explicit_bzero(text, sizeof text);
    }
    if (status == STATUS_OK) {
        status = append_fact(store, &body, err);
    }
    if (status == STATUS_OK) {
        log_info("app made app=admin credentials=%s/" CREDENTIALS_FILE, dir);
    }
    explicit_bzero(secret, sizeof secret);
    bytes_fini(&body);
    return status;
}

enum status admin_make_if_none(struct store *store, const char *dir,
                               struct error *err)
{
    size_t apps = 0;
    enum status status = store_each_fact(store, count_app, &apps);

    if (status != STATUS_OK) {
        return error_set(err, status, 0, "reading the catalog");
    }
    return apps > 0 ? STATUS_OK : make(store, dir, err);
}

enum status admin_write_url(const char *dir, const char *host, uint16_t port,
                            bool tls, struct error *err)
{
    char path[PATH_LEN];
    char text[TEXT_LEN];
    char line[TEXT_LEN / 2];
    size_t used;
    FILE *file;
    bool same = false;
    enum status status = STATUS_OK;

    snprintf(path, sizeof path, "%s/" CREDENTIALS_FILE, dir);
    file = fopen(path, "re");
    if (file == NULL) {
        return STATUS_OK; /* somebody keeps it elsewhere */
    }
    url_line(text, sizeof text, host, port, tls);
    used = strlen(text);
    while (fgets(line, sizeof line, file) != NULL) {
        same |= strcmp(line, text) == 0; /* it begins the file */
        if (strncmp(line, "url=", 4) != 0
            && used + strlen(line) < sizeof text) {
            memcpy(text + used, line, strlen(line) + 1);
            used += strlen(line);
        }
    }
    fclose(file);
    if (!same) {
        status = write_file(dir, text, err);
    }
    explicit_bzero(text, sizeof text);
    explicit_bzero(line, sizeof line);
    return status;
}
