#include "client/url.h"

#include <stdio.h>

static enum status fail(const char **why, const char *text)
{
    *why = text;
    return STATUS_INVALID;
}

static bool scheme_read(const char **text, bool *tls)
{
    static const struct {
        const char *name;
        bool tls;
    } schemes[] = { { "ws://", false },
                    { "wss://", true },
                    { "http://", false },
                    { "https://", true } };

    for (size_t i = 0; i < COUNT_OF(schemes); i++) {
        size_t len = strlen(schemes[i].name);
        if (strncmp(*text, schemes[i].name, len) == 0) {
            *text += len;
            *tls = schemes[i].tls;
            return true;
        }
    }
    return false;
}

static bool host_byte_valid(char c, bool bracketed)
{
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
                 || (c >= '0' && c <= '9') || c == '.';

    return plain || (bracketed ? c == ':' || c == '%' : c == '-' || c == '_');
}

/* Copies the host and moves *text behind it. */
static bool host_read(const char **text, char host[HOST_LEN_MAX + 1],
                      bool *bracketed)
{
    const char *at = *text;
    size_t len = 0;

    *bracketed = *at == '[';
    at += *bracketed;
    while (host_byte_valid(at[len], *bracketed)) {
        len++;
    }
    if (len == 0 || len > HOST_LEN_MAX || (*bracketed && at[len] != ']')) {
        return false;
    }
    memcpy(host, at, len);
    host[len] = '\0';
    *text = at + len + *bracketed;
    return true;
}

static bool port_read(const char **text, unsigned *port)
{
    unsigned value = 0;

    if (**text != ':') {
        return true;
    }
    for ((*text)++; **text >= '0' && **text <= '9'; (*text)++) {
        value = value * 10 + (unsigned)(**text - '0');
        if (value > UINT16_MAX) {
            return false;
        }
    }
    *port = value;
    return value > 0;
}

enum status url_read(struct url *out, const char *text, const char **why)
{
    struct url url = { .tls = false };
    unsigned port = PORT_DEFAULT;
    bool bracketed;

    if (!scheme_read(&text, &url.tls)) {
        return fail(why, "url: must begin with ws://, wss://, http:// or "
                         "https://");
    }
    if (!host_read(&text, url.host, &bracketed)) {
        return fail(why, "url: no valid host");
    }
    if (!port_read(&text, &port)) {
        return fail(why, "url: the port must be 1 to 65535");
    }
    if (strcmp(text, "") != 0 && strcmp(text, "/") != 0) {
        return fail(why, "url: nothing may follow host and port");
    }
    (void)snprintf(url.port, sizeof url.port, "%u", port);
    (void)snprintf(url.authority, sizeof url.authority,
                   bracketed ? "[%s]:%s" : "%s:%s", url.host, url.port);
    *out = url;
    return STATUS_OK;
}
