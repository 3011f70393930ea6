/* godwit app: identities with a secret and grants. */
#include "tools/godwit/commands.h"
#include "tools/godwit/resource.h"

#include <unistd.h>

static const struct resource_column columns[] = {
    { { "APP", ALIGN_LEFT }, "name", AS_TEXT },
    { { "ADMIN", ALIGN_LEFT }, "admin", AS_TEXT },
    { { "PUBLISH", ALIGN_LEFT }, "publish", AS_TEXT },
    { { "SUBSCRIBE", ALIGN_LEFT }, "subscribe", AS_TEXT },
};

static const struct resource apps = { "app",  "APP",   "/v1/apps",
                                      "apps", columns, COUNT_OF(columns) };

/* A credentials file on stdout, so that it can be sent straight into one. */
static void print_credentials(const char *url, const char *name,
                              const char *secret)
{
    printf("url=%s\napp=%s\nsecret=%s\n", url, name, secret);
    fprintf(stderr, "app %s created; its secret is shown this once\n", name);
}

static int post_app(const char *name, bool admin, const char *publish,
                    const char *subscribe, struct session_options *so)
{
    struct json_writer w = { 0 };
    struct json *answer = NULL;
    int code;

    json_begin(&w, NULL, '{');
    json_put_text(&w, "name", slice_text(name));
    json_put_bool(&w, "admin", admin);
    json_put_split(&w, "publish", publish != NULL ? publish : "");
    json_put_split(&w, "subscribe", subscribe != NULL ? subscribe : "");
    json_end(&w, '}');
    code = resource_post(&apps, so, json_done(&w), &answer);
    json_writer_fini(&w);
    if (code == EXIT_OK) {
        print_credentials(so->url, name,
                          json_text(json_get(answer, "secret"), ""));
    }
    json_free(answer);
    return code;
}

static int create(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit app create APP [options]",
        .text =
            "Creates an app: a name, a secret and what it may do. Prints a\n"
            "credentials file for --credentials; the broker shows the secret "
            "this\n"
            "once and never again.\n",
        .examples =
            "  godwit app create shop --publish orders > shop.credentials\n"
            "  godwit app create books --subscribe 'orders,trade.*'\n",
    };
    struct session_options so;
    bool admin = false;
    const char *publish = NULL;
    const char *subscribe = NULL;
    const struct arg table[] = {
        { "admin", ARG_FLAG, &admin, NULL,
          "may do everything, topics, groups and apps too", 0, 0 },
        { "publish", ARG_TEXT, &publish, "PATTERNS",
          "topics it may publish to, with commas between", 0, 0 },
        { "subscribe", ARG_TEXT, &subscribe, "PATTERNS",
          "topics it may have groups of, with commas between", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct parsed parsed;

    if (!command_parse(&parsed, &help, table, session_args(&so), 1, 1, argc,
                       argv)) {
        return parsed.code;
    }
    if (!check_name("app", parsed.operands.at[0])
        || (publish != NULL && !check_patterns("publish", publish))
        || (subscribe != NULL && !check_patterns("subscribe", subscribe))) {
        return EXIT_USAGE;
    }
    if (!admin && publish == NULL && subscribe == NULL) {
        return fail(EXIT_USAGE, "this app could do nothing: give --publish, "
                                "--subscribe or --admin");
    }
    return post_app(parsed.operands.at[0], admin, publish, subscribe, &so);
}

static int list(int argc, char **argv)
{
    return resource_list(&apps, argc, argv);
}

static int show(int argc, char **argv)
{
    return resource_show(&apps, argc, argv);
}

static int delete (int argc, char **argv)
{
    return resource_delete(&apps, argc, argv);
}

int cmd_app(int argc, char **argv)
{
    static const struct command commands[] = {
        { "create", "make a new app and print its credentials", create },
        { "list", "all apps with their grants", list },
        { "show", "one app", show },
        { "delete", "delete an app; its secret is worth nothing then", delete },
        { NULL, NULL, NULL },
    };

    return command_dispatch(commands, "godwit app",
                            "An app is an identity: a secret, and patterns of "
                            "the topics it may use.\n",
                            NULL, argc, argv);
}
