/* godwit dead redrive, status, stop and undo. */
#ifndef GODWIT_TOOLS_REDRIVE_H
#define GODWIT_TOOLS_REDRIVE_H

int redrive_start(int argc, char **argv);
int redrive_status(int argc, char **argv);
int redrive_stop(int argc, char **argv);
int redrive_undo(int argc, char **argv);

#endif
