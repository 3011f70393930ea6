/* godwit health: does the broker take messages? */
#include "tools/godwit/commands.h"
#include "tools/godwit/session.h"

#include <stdlib.h>

int cmd_health(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit health [options]",
        .text =
            "Asks the broker how it is and prints its answer. Exits with 0\n"
            "only if it is healthy.\n",
        .examples = "  godwit health && echo all is well\n",
    };
    struct session_options so;
    struct session session = { 0 };
    struct json *answer = NULL;
    struct parsed parsed;
    char *text;
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
        code = session_call(&session, "GET", "/health", NULL, &answer);
    }
    if (code == EXIT_OK) {
        text = json_display(answer);
        puts(text != NULL ? text : "");
        free(text);
    }
    json_free(answer);
    session_close(&session);
    return code;
}
