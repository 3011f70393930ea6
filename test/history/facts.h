/* What is true of a line of a book, as the mutations need it. */
#ifndef GODWIT_TEST_HISTORY_FACTS_H
#define GODWIT_TEST_HISTORY_FACTS_H

#include "test/history/book.h"

bool orderly(const struct book *book, struct spot at);
bool same(const struct line *a, size_t i, const struct line *b, size_t k);
const char *group_of(const struct book *book, struct spot at);
bool covers(const struct line *line, const struct line *got);
unsigned in_group(const struct book *book, struct spot at, const char *kind);
bool once(const struct book *book, struct spot at);
bool settles(const struct line *line, const struct line *got);
bool answers(const struct line *line, const struct line *got);
bool once_and_settled(const struct book *book, struct spot at);
bool limited(const struct book *book, struct spot at);
bool once_and_acked(const struct book *book, struct spot at);
bool about_message(const struct line *line, const struct line *send);
bool answered(const struct book *book, struct spot at);
bool arrived(const struct book *book, struct spot at);
bool arrived_with_seq(const struct book *book, struct spot at);
bool same_session(const struct line *line, const struct line *attach);
bool pushed(const struct book *book, struct spot at);
bool gave_something(const struct book *book, struct spot at);
bool not_first(const struct book *book, struct spot at);
bool one_settlement(const struct book *book, struct spot at);

#endif
