/* godwit store: how the store of a broker is. */
#include "tools/godwit/commands.h"
#include "tools/godwit/resource.h"

int cmd_store(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit store [options]",
        .text = "Shows the figures of a broker's store, and the last places\n"
                "where stored bytes were found damaged. For admins.\n",
    };

    return resource_document("/v1/store", &help, argc, argv);
}
