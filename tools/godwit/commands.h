/* The commands; each in the file of its name. */
#ifndef GODWIT_TOOLS_COMMANDS_H
#define GODWIT_TOOLS_COMMANDS_H

#include "tools/godwit/command.h"

int cmd_pub(int argc, char **argv);
int cmd_sub(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_dead(int argc, char **argv);
int cmd_seek(int argc, char **argv); /* of group */
int cmd_peek(int argc, char **argv);
int cmd_search(int argc, char **argv);
int cmd_tail(int argc, char **argv);
int cmd_topic(int argc, char **argv);
int cmd_group(int argc, char **argv);
int cmd_app(int argc, char **argv);
int cmd_health(int argc, char **argv);
int cmd_store(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_dump(int argc, char **argv);
int cmd_backup(int argc, char **argv);
int cmd_restore(int argc, char **argv);

#endif
