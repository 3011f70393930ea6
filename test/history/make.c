/* history-make DIR EVENTS [SEED [plain]]
 *
 * Write the ledgers of a made-up good run into DIR, to time the checker with. */
#include "test/history/generate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILES_MAX = 8192 };

struct folder {
    const char *path;
    FILE *files[FILES_MAX];
    size_t count;
};

static FILE *open_file(void *arg, const char *name)
{
    struct folder *folder = arg;
    char path[4096];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s.ledger", folder->path, name);
    file = fopen(path, "we");
    if (file == NULL || folder->count == FILES_MAX) {
        (void)fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(2);
    }
    folder->files[folder->count++] = file;
    return file;
}

int main(int argc, char **argv)
{
    struct generate_options options = { .seed = 1, .open = open_file };
    struct folder *folder = calloc(1, sizeof *folder);
    int failed = 0;

    if (argc < 3 || folder == NULL) {
        (void)fprintf(stderr,
                      "usage: history-make DIR EVENTS [SEED [plain]]\n");
        free(folder);
        return 2;
    }
    folder->path = argv[1];
    options.arg = folder;
    options.events = strtoull(argv[2], NULL, 10);
    if (argc > 3) {
        options.seed = strtoull(argv[3], NULL, 10);
    }
    options.plain = argc > 4;
    if (mkdir(argv[1], 0777) != 0 && errno != EEXIST) {
        (void)fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
        free(folder);
        return 2;
    }
    generate(&options);
    for (size_t i = 0; i < folder->count; i++) {
        failed |= fclose(folder->files[i]) != 0;
    }
    free(folder);
    return failed ? 2 : 0;
}
