#include "proto/utf8.h"

enum { WORD_LEN = 8 };

/* How many bytes at the front are plain ASCII, a word at a time. */
static size_t ascii_len(const uint8_t *at, size_t len)
{
    size_t i = 0;

    while (len - i >= WORD_LEN
           && (get_u64(at + i) & 0x8080808080808080u) == 0) {
        i += WORD_LEN;
    }
    while (i < len && at[i] < 0x80) {
        i++;
    }
    return i;
}

static bool continues(uint8_t byte)
{
    return (byte & 0xC0) == 0x80;
}

/* The length of the valid sequence of more than one byte at `at`, else 0. The
 * second byte's range is what rules out overlong forms (E0, F0), surrogates
 * (ED) and what lies past U+10FFFF (F4). */
static size_t sequence_len(const uint8_t *at, size_t len)
{
    uint8_t low = 0x80;
    uint8_t high = 0xBF;
    size_t need;

    if (at[0] >= 0xC2 && at[0] <= 0xDF) {
        need = 2;
    } else if (at[0] >= 0xE0 && at[0] <= 0xEF) {
        need = 3;
        low = at[0] == 0xE0 ? 0xA0 : low;
        high = at[0] == 0xED ? 0x9F : high;
    } else if (at[0] >= 0xF0 && at[0] <= 0xF4) {
        need = 4;
        low = at[0] == 0xF0 ? 0x90 : low;
        high = at[0] == 0xF4 ? 0x8F : high;
    } else {
        return 0;
    }
    if (len < need || at[1] < low || at[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < need; i++) {
        if (!continues(at[i])) {
            return 0;
        }
    }
    return need;
}

bool utf8_valid(struct slice text)
{
    size_t at = 0;

    while (at < text.len) {
        size_t len;

        at += ascii_len(text.at + at, text.len - at);
        if (at == text.len) {
            break;
        }
        len = sequence_len(text.at + at, text.len - at);
        if (len == 0) {
            return false;
        }
        at += len;
    }
    return true;
}
