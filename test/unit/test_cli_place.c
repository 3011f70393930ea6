/* links: godwit_tool godwit_proto */
#include "tools/godwit/place.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

TestSuite(place, .timeout = 10);

static void cr_shown(const char *text, uint64_t column, const char *want)
{
    char *shown = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&shown, &len);

    place_show(out, text, column);
    fclose(out);
    cr_assert_str_eq(shown, want, "have\n%swant\n%s", shown, want);
    free(shown);
}

Test(place, the_column_is_below_its_character)
{
    cr_shown("a = 1", 3, "  a = 1\n    ^\n");
    cr_shown("", 1, "  \n  ^\n");
    cr_shown("a ==", 5, "  a ==\n      ^\n");
    cr_shown("\xc3\xa9\xe2\x82\xac = 1", 4,
             "  \xc3\xa9\xe2\x82\xac = 1\n     ^\n");
    cr_shown("a\n\t= 1", 4, "  a  = 1\n     ^\n");
}

/* The character that is shown above the ^. */
Test(place, of_a_long_text_its_surroundings_are_shown)
{
    char text[1001];

    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (char)('a' + i % 26);
    }
    text[1000] = '\0';
    for (uint64_t column = 1; column <= 1000; column++) {
        char *shown = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&shown, &len);
        const char *caret;
        const char *line;

        place_show(out, text, column);
        fclose(out);
        caret = strchr(shown, '^');
        line = strchr(shown, '\n') + 1;
        cr_assert_lt(len, 200);
        cr_assert_eq(shown[caret - line], text[column - 1], "%s", shown);
        free(shown);
    }
}
