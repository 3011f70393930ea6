#include "broker/config.h"

#include "proto/limits.h"

#include <cyaml/cyaml.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The file as libcyaml loads it; NULL: not there. */
struct file_tls {
    char *certificate;
    char *key;
};

struct file_limits {
    uint64_t *connections;
    uint64_t *in_flight_mib;
    uint64_t *in_flight_direct_mib;
    uint64_t *in_flight_file_mib;
    uint64_t *output_kib;
    uint64_t *head_ms;
    uint64_t *body_ms;
    uint64_t *idle_ms;
    uint64_t *ping_ms;
};

struct file_store {
    uint64_t *segment_mib;
    uint64_t *checkpoint_ms;
    uint64_t *scrub_mib_s;
    uint64_t *scrub_hours;
    uint64_t *free_mib_min;
};

struct file {
    char *listen;
    char *data_dir;
    char *log_level;
    uint64_t *workers;
    uint64_t *drain_ms;
    struct file_tls *tls;
    struct file_limits *limits;
    struct file_store *store;
};

#define OPTIONAL_PTR (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define TEXT(key, type, member)                                                \
    CYAML_FIELD_STRING_PTR(key, OPTIONAL_PTR, type, member, 1, 1000)
#define NUMBER(key, type, member)                                              \
    CYAML_FIELD_UINT_PTR(key, OPTIONAL_PTR, type, member)

static const cyaml_schema_field_t tls_fields[] = {
    TEXT("certificate", struct file_tls, certificate),
    TEXT("key", struct file_tls, key),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t limits_fields[] = {
    NUMBER("connections", struct file_limits, connections),
    NUMBER("in_flight_mib", struct file_limits, in_flight_mib),
    NUMBER("in_flight_direct_mib", struct file_limits, in_flight_direct_mib),
    NUMBER("in_flight_file_mib", struct file_limits, in_flight_file_mib),
    NUMBER("output_kib", struct file_limits, output_kib),
    NUMBER("head_ms", struct file_limits, head_ms),
    NUMBER("body_ms", struct file_limits, body_ms),
    NUMBER("idle_ms", struct file_limits, idle_ms),
    NUMBER("ping_ms", struct file_limits, ping_ms),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t store_fields[] = {
    NUMBER("segment_mib", struct file_store, segment_mib),
    NUMBER("checkpoint_ms", struct file_store, checkpoint_ms),
    NUMBER("scrub_mib_s", struct file_store, scrub_mib_s),
    NUMBER("scrub_hours", struct file_store, scrub_hours),
    NUMBER("free_mib_min", struct file_store, free_mib_min),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t file_fields[] = {
    TEXT("listen", struct file, listen),
    TEXT("data_dir", struct file, data_dir),
    TEXT("log_level", struct file, log_level),
    NUMBER("workers", struct file, workers),
    NUMBER("drain_ms", struct file, drain_ms),
    CYAML_FIELD_MAPPING_PTR("tls", OPTIONAL_PTR, struct file, tls, tls_fields),
    CYAML_FIELD_MAPPING_PTR("limits", OPTIONAL_PTR, struct file, limits,
                            limits_fields),
    CYAML_FIELD_MAPPING_PTR("store", OPTIONAL_PTR, struct file, store,
                            store_fields),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t file_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct file, file_fields),
};

static uint32_t default_workers(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    /* The journal needs a core too; two workers on two cores cost more than
     * they bring. */
    if (cores <= 2) {
        return 1;
    }
    return cores - 1 > WORKER_COUNT_MAX ? WORKER_COUNT_MAX
                                        : (uint32_t)(cores - 1);
}

void config_init(struct config *config)
{
    *config = (struct config) {
        .data_dir = "godwit-data",
        .host = "127.0.0.1",
        .port = 7654,
        .log_level = LOG_INFO,
        .workers = default_workers(),
        .segment_len = UINT64_C(256) << 20,
        .in_flight_bytes = UINT64_C(64) << 20,
        .in_flight_direct_bytes = UINT64_C(256) << 20,
        .in_flight_file_bytes = UINT64_C(1024) << 20,
        .connections = 10000,
        .output_len_max = UINT64_C(16) << 20,
        .head_ms = 10 * 1000,
        .body_ms = 30 * 1000,
        .idle_ms = 120 * 1000,
        .ping_ms = 30 * 1000,
        .checkpoint_ms = 5 * 1000,
        .scrub_mib_s = 8,
        .scrub_hours = 24,
        .free_bytes_min = FREE_BYTES_BY_DISK,
        .drain_ms = 10 * 1000,
    };
}

/* libcyaml says several lines about one fault, innermost last. They are joined,
 * so that the operator sees the key's whole path. */
PRINTF_LIKE(3, 0)
static void keep_message(cyaml_log_t level, void *arg, const char *format,
                         va_list args)
{
    struct error *err = arg;
    size_t used = strlen(err->text);
    char line[256];
    const char *said = line;

    if (level < CYAML_LOG_ERROR) {
        return;
    }
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(said, "Load: ", 6) == 0) {
        said += 6;
    }
    said += strspn(said, " ");
    if (strcmp(said, "Backtrace:") != 0) {
        snprintf(err->text + used, sizeof err->text - used, "%s%s",
                 used > 0 ? ", " : "", said);
    }
}

struct number {
    const char *key;
    const uint64_t *value; /* NULL: not in the file */
    uint64_t min;
    uint64_t max;
};

static enum status take_number(const struct number *n, uint64_t unit,
                               uint64_t *to, struct error *err)
{
    if (n->value == NULL) {
        return STATUS_OK;
    }
    if (*n->value < n->min || *n->value > n->max) {
        return error_set(err, STATUS_INVALID, 0,
                         "%s: %llu is out of range, allowed are %llu to %llu",
                         n->key, (unsigned long long)*n->value,
                         (unsigned long long)n->min,
                         (unsigned long long)n->max);
    }
    *to = *n->value * unit;
    return STATUS_OK;
}

static enum status take_numbers(struct config *config, const struct file *file,
                                struct error *err)
{
    static const struct file_limits no_limits;
    static const struct file_store no_store;
    const struct file_limits *l = file->limits ? file->limits : &no_limits;
    const struct file_store *s = file->store ? file->store : &no_store;
    uint64_t workers = config->workers;
    uint64_t connections = config->connections;
    const struct {
        struct number number;
        uint64_t unit;
        uint64_t *to;
    } table[] = {
        { { "workers", file->workers, 1, WORKER_COUNT_MAX }, 1, &workers },
        { { "drain_ms", file->drain_ms, 0, 600000 }, 1, &config->drain_ms },
        { { "limits.connections", l->connections, 1, 1000000 },
          1,
          &connections },
        { { "limits.in_flight_mib", l->in_flight_mib, 1, 1 << 20 },
          1 << 20,
          &config->in_flight_bytes },
        { { "limits.in_flight_direct_mib", l->in_flight_direct_mib, 0,
            1 << 20 },
          1 << 20,
          &config->in_flight_direct_bytes },
        { { "limits.in_flight_file_mib", l->in_flight_file_mib, 0, 1 << 20 },
          1 << 20,
          &config->in_flight_file_bytes },
        { { "limits.output_kib", l->output_kib, 64, 1 << 20 },
          1 << 10,
          &config->output_len_max },
        { { "limits.head_ms", l->head_ms, 100, 600000 }, 1, &config->head_ms },
        { { "limits.body_ms", l->body_ms, 100, 600000 }, 1, &config->body_ms },
        { { "limits.idle_ms", l->idle_ms, 100, 86400000 }, 1, &config->idle_ms },
        { { "limits.ping_ms", l->ping_ms, 100, 86400000 }, 1, &config->ping_ms },
        { { "store.segment_mib", s->segment_mib, SEGMENT_MIB_MIN,
            SEGMENT_MIB_MAX },
          1 << 20,
          &config->segment_len },
        { { "store.checkpoint_ms", s->checkpoint_ms, 10, 600000 },
          1,
          &config->checkpoint_ms },
        { { "store.scrub_mib_s", s->scrub_mib_s, 0, 10000 },
          1,
          &config->scrub_mib_s },
        { { "store.scrub_hours", s->scrub_hours, 1, 24 * 365 },
          1,
          &config->scrub_hours },
        { { "store.free_mib_min", s->free_mib_min, 0, 1 << 20 },
          1 << 20,
          &config->free_bytes_min },
    };

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        enum status status =
            take_number(&table[i].number, table[i].unit, table[i].to, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    config->workers = (uint32_t)workers;
    config->connections = (uint32_t)connections;
    return STATUS_OK;
}

static void copy_text(char *to, size_t len, const char *from)
{
    if (from != NULL) {
        snprintf(to, len, "%s", from);
    }
}

static enum status take_file(struct config *config, const struct file *file,
                             struct error *err)
{
    enum status status = take_numbers(config, file, err);

    if (status == STATUS_OK && file->listen != NULL) {
        status = config_set_listen(config, file->listen, err);
    }
    if (status == STATUS_OK && file->data_dir != NULL) {
        status = config_set_data_dir(config, file->data_dir, err);
    }
    if (status == STATUS_OK && file->log_level != NULL
        && !log_level_parse(file->log_level, &config->log_level)) {
        status = error_set(err, STATUS_INVALID, 0,
                           "log_level: \"%s\" is none of error, warn, info, "
                           "debug",
                           file->log_level);
    }
    if (file->tls != NULL) {
        copy_text(config->certificate, sizeof config->certificate,
                  file->tls->certificate);
        copy_text(config->key, sizeof config->key, file->tls->key);
    }
    return status;
}

enum status config_read(struct config *config, const char *path,
                        struct error *err)
{
    struct error detail = { 0 };
    const cyaml_config_t cyaml = {
        .log_fn = keep_message,
        .log_ctx = &detail,
        .log_level = CYAML_LOG_ERROR,
        .mem_fn = cyaml_mem,
        .flags = CYAML_CFG_NO_ALIAS,
    };
    struct file *file = NULL;
    enum status status;
    cyaml_err_t failed;

    if (access(path, R_OK) != 0) {
        return error_set(err, STATUS_IO, errno, "config %s", path);
    }
    failed = cyaml_load_file(path, &cyaml, &file_schema, (cyaml_data_t **)&file,
                             NULL);
    if (failed != CYAML_OK) {
        return error_set(err, STATUS_INVALID, 0, "config %s: %s%s%s", path,
                         cyaml_strerror(failed),
                         detail.text[0] == '\0' ? "" : ": ", detail.text);
    }
    if (file == NULL) { /* an empty file says nothing */
        return STATUS_OK;
    }
    status = take_file(config, file, err);
    cyaml_free(&cyaml, &file_schema, file, 0);
    return status == STATUS_OK ? status
                               : error_prefix(err, status, "config %s", path);
}

static enum status parse_port(const char *text, uint16_t *port,
                              struct error *err)
{
    char *end = NULL;
    unsigned long value;

    errno = 0;
    value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0
        || value > 65535) {
        return error_set(err, STATUS_INVALID, 0,
                         "listen: \"%s\" is no port, allowed are 0 to 65535",
                         text);
    }
    *port = (uint16_t)value;
    return STATUS_OK;
}

enum status config_set_listen(struct config *config, const char *text,
                              struct error *err)
{
    const char *colon = strrchr(text, ':');
    const char *port = colon == NULL ? text : colon + 1;
    const char *host = text;
    size_t host_len = colon == NULL ? 0 : (size_t)(colon - text);
    enum status status;

    if (host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']') {
        host++;
        host_len -= 2;
    } else if (memchr(host, ':', host_len) != NULL) {
        return error_set(err, STATUS_INVALID, 0,
                         "listen: \"%s\": write an IPv6 address in brackets, "
                         "such as [::1]:7654",
                         text);
    }
    if (host_len >= sizeof config->host) {
        return error_set(err, STATUS_INVALID, 0, "listen: host too long");
    }
    status = parse_port(port, &config->port, err);
    if (status == STATUS_OK && host_len > 0) {
        memcpy(config->host, host, host_len);
        config->host[host_len] = '\0';
    }
    return status;
}

enum status config_set_data_dir(struct config *config, const char *path,
                                struct error *err)
{
    if (path[0] == '\0' || strlen(path) >= sizeof config->data_dir - 64) {
        return error_set(err, STATUS_INVALID, 0,
                         "data_dir: empty or longer than %zu bytes",
                         sizeof config->data_dir - 65);
    }
    snprintf(config->data_dir, sizeof config->data_dir, "%s", path);
    return STATUS_OK;
}

enum status config_check(const struct config *config, struct error *err)
{
    bool certificate = config->certificate[0] != '\0';
    bool key = config->key[0] != '\0';

    if (certificate != key) {
        return error_set(err, STATUS_INVALID, 0,
                         "tls: %s is missing: certificate and key go together",
                         certificate ? "key" : "certificate");
    }
    return STATUS_OK;
}
