/* godwit health: does the broker take messages? */
#include "tools/godwit/commands.h"
#include "tools/godwit/session.h"

#include <stdlib.h>
#include <string.h>

/* Returns an exit code. */
static int show(const struct json *answer)
{
    const char *colour = json_text(json_get(answer, "status"), "");
    char *text = json_display(answer);

    puts(text != NULL ? text : colour);
    free(text);
    return strcmp(colour, "green") == 0 ? EXIT_OK : EXIT_FAILED;
}

int cmd_health(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit health [options]",
        .text =
            "Asks the broker how it is and prints its answer. Exits with 0 if\n"
            "it is green, and with 1 if it is yellow (somebody should look at\n"
            "it) or red (it confirms nothing any more).\n",
        .examples = "  godwit health && echo all is well\n",
    };
    struct session_options so;
    struct session session = { 0 };
    struct json *answer = NULL;
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, NULL, session_args(&so), 0, 0, argc,
                       argv)) {
        return parsed.code;
    }
    code = session_resolve(&so);
    if (code == EXIT_OK) {
        code = session_open_http(&session, &so);
    }
    if (code == EXIT_OK) {
        code = session_report(&session, "/health", "status", &answer);
    }
    if (code == EXIT_OK) {
        code = show(answer);
    }
    json_free(answer);
    session_close(&session);
    return code;
}
