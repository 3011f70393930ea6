#include "tools/godwit/session.h"

#include "proto/name.h"
#include "tools/godwit/human.h"
#include "tools/godwit/place.h"

#include <errno.h>
#include <stdlib.h>

static const char url_default[] = "ws://127.0.0.1:7654";

enum { CALL_TIMEOUT_MS = 30 * 1000 };

const struct arg *session_args(struct session_options *o)
{
    const struct arg table[SESSION_ARG_COUNT] = {
        { "url", ARG_TEXT, &o->url, "URL",
          "broker (or GODWIT_URL); default ws://127.0.0.1:7654", 0, 0 },
        { "app", ARG_TEXT, &o->app, "NAME", "app (or GODWIT_APP)", 0, 0 },
        { "secret", ARG_TEXT, &o->secret, "SECRET",
          "its secret (better: GODWIT_SECRET or a file; other users of the "
          "machine can read a command line)",
          0, 0 },
        { "credentials", ARG_TEXT, &o->credentials, "FILE",
          "lines url=..., app=..., secret=... (or GODWIT_CREDENTIALS); the "
          "broker writes DATA-DIR/admin.credentials",
          0, 0 },
        { "ca", ARG_TEXT, &o->ca, "FILE",
          "wss: trust this certificate instead of the system's", 0, 0 },
        { "connect-timeout", ARG_SECONDS, &o->connect_ms, "SECONDS",
          "wait so long for the first connection; default 5", 100,
          24 * 3600 * 1000 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };

    *o = (struct session_options) { .connect_ms = 5000 };
    memcpy(o->table, table, sizeof table);
    return o->table;
}

/* One "name=value" line of a credentials file. */
static bool take_line(struct session_options *o, const char *line)
{
    const struct {
        const char *prefix;
        char *to;
    } fields[] = { { "url=", o->file_url },
                   { "app=", o->file_app },
                   { "secret=", o->file_secret } };

    if (line[0] == '\0' || line[0] == '#') {
        return true;
    }
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        size_t len = strlen(fields[i].prefix);

        if (strncmp(line, fields[i].prefix, len) == 0) {
            return snprintf(fields[i].to, SESSION_FIELD_LEN, "%s", line + len)
                   < SESSION_FIELD_LEN;
        }
    }
    return false;
}

static int read_credentials(struct session_options *o, const char *path)
{
    char line[SESSION_FIELD_LEN + 16];
    FILE *file = fopen(path, "re");
    int number = 0;

    if (file == NULL) {
        return fail(EXIT_USAGE, "credentials file %s: %s%s", path,
                    strerror(errno),
                    errno == ENOENT ? "; a broker writes "
                                      "DATA-DIR/admin.credentials at its first "
                                      "start"
                                    : "");
    }
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        number++;
        if (!take_line(o, line)) {
            fclose(file);
            return fail(EXIT_USAGE,
                        "credentials file %s, line %d: expected url=, app= or "
                        "secret=",
                        path, number);
        }
    }
    fclose(file);
    return EXIT_OK;
}

static const char *first_of(const char *option, const char *file,
                            const char *variable)
{
    const char *value = option != NULL ? option : file;

    if (value == NULL || value[0] == '\0') {
        value = getenv(variable);
    }
    return value != NULL && value[0] != '\0' ? value : NULL;
}

int session_resolve(struct session_options *o)
{
    const char *path =
        o->credentials != NULL ? o->credentials : getenv("GODWIT_CREDENTIALS");

    if (path != NULL && path[0] != '\0') {
        int code = read_credentials(o, path);

        if (code != EXIT_OK) {
            return code;
        }
    }
    o->url = first_of(o->url, o->file_url, "GODWIT_URL");
    o->app = first_of(o->app, o->file_app, "GODWIT_APP");
    o->secret = first_of(o->secret, o->file_secret, "GODWIT_SECRET");
    if (o->url == NULL) {
        o->url = url_default;
    }
    if (o->app == NULL || o->secret == NULL) {
        return fail(EXIT_USAGE,
                    "%s is not set: give --credentials FILE, --app and "
                    "--secret, or GODWIT_APP and GODWIT_SECRET",
                    o->app == NULL ? "the app" : "the secret");
    }
    return EXIT_OK;
}

void session_client_options(const struct session_options *o,
                            struct godwit_options *out)
{
    godwit_options_init(out);
    out->url = o->url;
    out->app = o->app;
    out->secret = o->secret;
    out->ca_file = o->ca;
}

/* On the client's thread. Outages are mentioned once each. */
static void on_state(void *arg, enum godwit_state state, enum godwit_status why,
                     const char *text)
{
    struct session *s = arg;

    switch (state) {
    case GODWIT_CONNECTED:
        if (s->told) {
            fprintf(stderr, "godwit: connected to %s%s\n", s->url,
                    s->was_connected ? " again" : "");
        }
        s->was_connected = true;
        s->told = false;
        break;
    case GODWIT_CONNECTING:
        if (text[0] != '\0' && !s->told) {
            fprintf(stderr, "godwit: %s; trying again\n", text);
            s->told = true;
        }
        break;
    case GODWIT_ENDED:
        atomic_store(&s->end_status, (enum status)why);
        atomic_store(&s->ended, why != GODWIT_OK);
        break;
    }
}

/* The client speaks of its options, we of those of the command line. */
static int open_failed(const struct session_options *o,
                       enum godwit_status status, const char *problem)
{
    static const char ca[] = "ca_file: ";
    int code = status == GODWIT_INVALID ? EXIT_USAGE : EXIT_FAILED;

    if (problem == NULL || problem[0] == '\0') {
        return fail(code, "%s", godwit_status_text(status));
    }
    if (o->ca != NULL && strncmp(problem, ca, strlen(ca)) == 0) {
        return fail(code, "--ca %s: %s", o->ca, problem + strlen(ca));
    }
    return fail(code, "%s", problem);
}

static int open_client(struct session *s, struct session_options *o,
                       struct godwit_options *options)
{
    const char *problem = "";
    enum godwit_status status;

    s->url = o->url;
    s->filter = o->filter;
    s->connect_ms = (uint32_t)o->connect_ms;
    options->on_state = on_state;
    options->state_arg = s;
    status = godwit_open(&s->client, options, &problem);
    if (status != GODWIT_OK) {
        s->client = NULL;
        return open_failed(o, status, problem);
    }
    return EXIT_OK;
}

int session_open_http(struct session *s, struct session_options *o)
{
    struct godwit_options options;

    *s = (struct session) { .http = true };
    session_client_options(o, &options);
    options.own_thread = false; /* nobody steps it: no stream is opened */
    options.connect_timeout_ms = (uint32_t)o->connect_ms;
    return open_client(s, o, &options);
}

int session_open_stream(struct session *s, struct session_options *o,
                        uint32_t window, uint32_t give_up_ms)
{
    struct godwit_options options;
    enum godwit_status status;
    int code;

    *s = (struct session) { 0 };
    session_client_options(o, &options);
    options.window = window;
    options.give_up_ms = give_up_ms;
    code = open_client(s, o, &options);
    if (code != EXIT_OK) {
        return code;
    }
    status = godwit_wait_connected(s->client, s->connect_ms);
    if (status == GODWIT_OK) {
        return EXIT_OK;
    }
    code = session_failed(s, "cannot connect", status);
    session_close(s);
    return code;
}

void session_close(struct session *s)
{
    godwit_close(s->client);
    s->client = NULL;
}

/* "(body_len of topic orders: 1,048,577 used, 1,048,576 allowed)" */
static void numbers_of(const struct json *refused, char *text, size_t len)
{
    const char *limit = json_text(json_get(refused, "limit"), "");
    const char *scope = json_text(json_get(refused, "scope"), "");
    uint64_t used = json_number(json_get(refused, "used"), 0);
    uint64_t allowed = json_number(json_get(refused, "allowed"), 0);
    uint64_t retry = json_number(json_get(refused, "retry_after_ms"), 0);
    char a[HUMAN_LEN];
    char b[HUMAN_LEN];
    size_t at = 0;

    text[0] = '\0';
    if (allowed != 0) {
        at = (size_t)snprintf(text, len, " (%s%s%s", limit,
                              scope[0] != '\0' ? " of " : "", scope);
        if (at < len) {
            at +=
                (size_t)snprintf(text + at, len - at, ": %s used, %s allowed",
                                 human_count(a, used), human_count(b, allowed));
        }
        if (at < len) {
            snprintf(text + at, len - at, ")");
        }
    }
    if (retry > 0) {
        at = strlen(text);
        snprintf(text + at, len - at, "; try again in %s",
                 human_duration(a, retry * 1000000));
    }
}

/* Of an answer without a refusal in JSON. */
static enum status status_of_code(int http_code)
{
    switch (http_code) {
    case 401:
        return STATUS_UNAUTHENTICATED;
    case 403:
        return STATUS_FORBIDDEN;
    case 404:
        return STATUS_NOT_FOUND;
    case 409:
        return STATUS_EXISTS;
    default:
        return STATUS_INTERNAL;
    }
}

/* Where in the filter it is. */
static void show_place(const struct session *s, const struct json *refused)
{
    uint64_t column = json_number(json_get(refused, "used"), 0);

    if (s->filter != NULL && column > 0
        && strcmp(json_text(json_get(refused, "limit"), ""), "filter") == 0) {
        place_show(stderr, s->filter, column);
    }
}

static int report_refusal(const struct session *s,
                          const struct godwit_response *response,
                          const struct json *document)
{
    const struct json *refused = json_get(document, "refused");
    const char *word = json_text(json_get(refused, "status"), "");
    enum status status =
        status_from_word(word, strlen(word), status_of_code(response->code));
    char numbers[512];

    if (refused == NULL) {
        return fail(exit_code_of(status), "the broker answered %d: %.200s",
                    response->code,
                    response->body != NULL ? response->body : "");
    }
    numbers_of(refused, numbers, sizeof numbers);
    fail(exit_code_of(status), "%s%s",
         json_text(json_get(refused, "text"), status_text(status)), numbers);
    show_place(s, refused);
    return exit_code_of(status);
}

/* What a person may have overlooked who reaches no broker at all; "" if
 * nothing comes to mind. */
static const char *hint_of(const struct session *s, const char *text)
{
    if (s->was_connected || s->was_answered) {
        return "";
    }
    if (strstr(text, "Connection refused") != NULL) {
        return "; is a broker running there?";
    }
    if (strstr(text, "TLS certificate") != NULL) {
        return "; --ca FILE names one to trust";
    }
    if (strncmp(s->url, "ws://", 5) == 0 && strstr(text, "closed by") != NULL) {
        return "; does it speak TLS? then the URL begins with wss://";
    }
    return "";
}

int session_failed(struct session *s, const char *what,
                   enum godwit_status status)
{
    char text[512] = "";
    int code = exit_code_of((enum status)status);

    if (s->client != NULL) {
        godwit_last_error(s->client, text, sizeof text);
    }
    if (status
        == GODWIT_IO) { /* of the socket: the broker's come as refusals */
        code = EXIT_UNREACHABLE;
    }
    if (text[0] == '\0') {
        snprintf(text, sizeof text, "%s", godwit_status_text(status));
    }
    return code == EXIT_UNREACHABLE ? fail(code, "%s (%s): %s%s", what, s->url,
                                           text, hint_of(s, text))
                                    : fail(code, "%s: %s", what, text);
}

/* *document is NULL when what came is no JSON. Returns an exit code: what is no
 * JSON is a failure only of what should have been done. */
static int ask(struct session *s, const char *method, const char *path,
               const char *body, struct godwit_response *response,
               struct json **document)
{
    struct error err = { 0 };
    enum godwit_status status =
        godwit_call(s->client, method, path, body, response, CALL_TIMEOUT_MS);

    *document = NULL;
    if (status != GODWIT_OK) {
        return session_failed(s, "the request failed", status);
    }
    s->was_answered = true;
    if (response->body_len > 0
        && json_parse(slice_of(response->body, response->body_len), document,
                      &err)
               != STATUS_OK
        && response->code < 400) {
        return fail(EXIT_FAILED, "the broker's answer to %s %s: %s", method,
                    path, err.text);
    }
    return EXIT_OK;
}

int session_call(struct session *s, const char *method, const char *path,
                 const char *body, struct json **answer)
{
    struct godwit_response response = { 0 };
    struct json *document;
    int code = ask(s, method, path, body, &response, &document);

    if (code == EXIT_OK && response.code >= 400) {
        code = report_refusal(s, &response, document);
    }
    godwit_response_fini(&response);
    if (code == EXIT_OK && answer != NULL) {
        *answer = document;
    } else {
        json_free(document);
    }
    return code;
}

int session_report(struct session *s, const char *path, const char *member,
                   struct json **answer)
{
    struct godwit_response response = { 0 };
    struct json *document;
    int code = ask(s, "GET", path, NULL, &response, &document);

    if (code == EXIT_OK && json_get(document, member) == NULL) {
        code = report_refusal(s, &response, document);
    }
    godwit_response_fini(&response);
    if (code == EXIT_OK) {
        *answer = document;
    } else {
        json_free(document);
    }
    return code;
}

static bool is_stopping(const struct json *document)
{
    const struct json *refused = json_get(document, "refused");
    const char *word = json_text(json_get(refused, "status"), "");

    return strcmp(word, status_word(STATUS_CLOSED)) == 0;
}

int session_try(struct session *s, const char *path, struct json **answer,
                bool *lost)
{
    struct godwit_response response = { 0 };
    struct json *document = NULL;
    struct error err = { 0 };
    enum godwit_status status =
        godwit_call(s->client, "GET", path, NULL, &response, CALL_TIMEOUT_MS);
    int code = EXIT_OK;

    if (status == GODWIT_OK && response.body_len > 0
        && json_parse(slice_of(response.body, response.body_len), &document,
                      &err)
               != STATUS_OK) {
        document = NULL;
    }
    *lost = status == GODWIT_IO || status == GODWIT_CLOSED
            || status == GODWIT_TIMEOUT || is_stopping(document);
    if (*lost) {
        code = EXIT_UNREACHABLE;
    } else if (status != GODWIT_OK) {
        code = session_failed(s, "the request failed", status);
    } else if (response.code >= 400) {
        code = report_refusal(s, &response, document);
    } else if (document == NULL) {
        code = fail(EXIT_FAILED, "the broker's answer to GET %s: %s", path,
                    err.text);
    }
    godwit_response_fini(&response);
    if (code == EXIT_OK) {
        *answer = document;
    } else {
        json_free(document);
    }
    return code;
}

char *session_fetch(struct session *s, const char *path)
{
    struct godwit_response response = { 0 };
    char *text = NULL;

    if (godwit_call(s->client, "GET", path, NULL, &response, CALL_TIMEOUT_MS)
            == GODWIT_OK
        && response.code == 200 && response.body != NULL) {
        text = strdup(response.body);
    }
    godwit_response_fini(&response);
    return text;
}

bool check_name(const char *word, const char *name)
{
    if (name_valid(slice_text(name))) {
        return true;
    }
    fail(EXIT_USAGE,
         "\"%s\" is no %s name: 1 to 128 of A-Z a-z 0-9 . _ -, not beginning "
         "with . or -",
         name, word);
    return false;
}
