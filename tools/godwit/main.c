/* godwit: the command line of the Godwit message broker. */
#include "tools/godwit/commands.h"
#include "tools/godwit/interrupt.h"

#include <string.h>

static const struct command commands[] = {
    { "pub", "publish lines, CSV rows or JSON documents", cmd_pub },
    { "sub", "print what is pushed to a group (WebSocket), and ack it",
      cmd_sub },
    { "pull", "fetch messages of a group (HTTP), and ack them", cmd_pull },
    { "tail", "print the last messages of a topic, and those that come",
      cmd_tail },
    { "search", "print the messages of a topic that match", cmd_search },
    { "peek", "show one message of a topic", cmd_peek },
    { "explain", "say why a message is, or is not, delivered", cmd_explain },
    { "dead", "list, show, redrive, discard dead messages of a group",
      cmd_dead },
    { "topic", "create, update, list, show, delete topics", cmd_topic },
    { "group", "create, update, pause, seek, list, show, delete groups",
      cmd_group },
    { "app", "create, list, show, delete apps and their grants", cmd_app },
    { "bench",
      "measure: publish endtoend latency fanout mixed idle restart disk",
      cmd_bench },
    { "health", "ask the broker how it is", cmd_health },
    { "store", "figures of a broker's store, and damage found", cmd_store },
    { "verify", "read a data folder or backup and check all of it",
      cmd_verify },
    { "dump", "print the records of a data folder as JSON lines", cmd_dump },
    { "backup", "copy a data folder, also while its broker serves",
      cmd_backup },
    { "restore", "make a data folder out of a backup", cmd_restore },
    { NULL, NULL, NULL },
};

static const char intro[] =
    "Talks to a Godwit broker. A topic is a durable sequence of messages; a "
    "group\n"
    "gets every message of its topics and remembers which are done.\n"
    "\n"
    "  godwit topic create orders\n"
    "  godwit group create billing --topics orders\n"
    "  echo 'hello' | godwit pub orders\n"
    "  godwit sub billing --count 1\n";

static const char outro[] =
    "What a command is about comes first: TOPIC, TOPIC SEQ, GROUP, GROUP "
    "TOPIC.\nWHERE, a place in a topic, is earliest, latest, a seq, an age "
    "(2h) or a time.\n"
    "\n"
    "Where and who: --url --app --secret, or --credentials FILE, or "
    "GODWIT_URL,\n"
    "GODWIT_APP and GODWIT_SECRET, or GODWIT_CREDENTIALS (a file). The broker\n"
    "writes the credentials of its first app to DATA-DIR/admin.credentials.\n"
    "\n"
    "verify, dump, backup and restore need no broker: they read its data "
    "folder\n"
    "themselves, and their --help says what their exit codes mean.\n"
    "\n"
    "Messages and tables go to stdout, all else to stderr.\n"
    "\n"
    "Exit codes:\n"
    "  0    all of it was done\n"
    "  1    refused or failed, or not all of it was done\n"
    "  2    the command line or the input makes no sense\n"
    "  3    no connection to the broker, or none any more\n"
    "  4    unknown app, wrong secret, or not allowed\n"
    "  5    no such topic, group or app\n"
    "  6    exists already\n"
    "  130  stopped by Ctrl-C before it was done\n";

int main(int argc, char **argv)
{
    if (argc == 2
        && (strcmp(argv[1], "--version") == 0
            || strcmp(argv[1], "version") == 0)) {
        puts("godwit " GODWIT_VERSION);
        return EXIT_OK;
    }
    interrupt_init();
    return command_dispatch(commands, "godwit", intro, outro, argc, argv);
}
