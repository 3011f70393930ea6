/* links: godwit_delivery godwit_proto */
#include "broker/delivery/hash.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdbool.h>

Test(hash, an_empty_one_has_nothing)
{
    struct hash hash = { 0 };
    size_t at = 0;

    cr_assert(hash_get(&hash, 1, 2) == NULL);
    cr_assert(hash_next(&hash, &at) == NULL);
    hash_fini(&hash);
}

/* Many keys in and out in no order, against a plain array. */
Test(hash, has_exactly_what_was_put)
{
    enum { KEYS = 700 };
    static int values[KEYS];
    static bool in[KEYS];
    struct hash hash = { 0 };
    size_t count = 0;
    size_t at = 0;
    uint64_t x = 3;

    for (int i = 0; i < 50000; i++) {
        size_t key;
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        key = (size_t)(x >> 33) % KEYS;
        cr_assert(hash_get(&hash, key % 7, key)
                  == (in[key] ? &values[key] : NULL));
        if (in[key]) {
            hash_remove(&hash, key % 7, key);
            count--;
        } else {
            cr_assert(hash_reserve(&hash) == STATUS_OK);
            hash_put(&hash, key % 7, key, &values[key]);
            count++;
        }
        in[key] = !in[key];
        cr_assert_eq(hash.count, count);
    }
    for (const int *value; (value = hash_next(&hash, &at)) != NULL; count--) {
        cr_assert(in[value - values]);
    }
    cr_assert_eq(count, 0);
    hash_fini(&hash);
}

Test(hash, both_halves_of_a_key_count)
{
    struct hash hash = { 0 };
    int value;

    cr_assert(hash_reserve(&hash) == STATUS_OK);
    hash_put(&hash, 1, 2, &value);
    cr_assert(hash_get(&hash, 2, 1) == NULL);
    cr_assert(hash_get(&hash, 1, 1) == NULL);
    cr_assert(hash_get(&hash, 1, 2) == &value);
    hash_fini(&hash);
}

Test(hash, a_key_is_put_once, .signal = SIGABRT)
{
    struct hash hash = { 0 };
    int value;

    cr_assert(hash_reserve(&hash) == STATUS_OK);
    hash_put(&hash, 1, 2, &value);
    hash_put(&hash, 1, 2, &value);
}

Test(hash, what_is_not_in_cannot_be_removed, .signal = SIGABRT)
{
    struct hash hash = { 0 };
    int value;

    cr_assert(hash_reserve(&hash) == STATUS_OK);
    hash_put(&hash, 1, 2, &value);
    hash_remove(&hash, 1, 3);
}
