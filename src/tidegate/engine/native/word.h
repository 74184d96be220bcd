/* One bucket's word: read by anybody at any time, changed whole by one compare-and-swap. */
#ifndef TIDEGATE_WORD_H
#define TIDEGATE_WORD_H

#include "gcra.h"

#define TG_PENDING 1u           /* of a time: somebody is making this bucket (table.c) */

typedef unsigned __int128 tg_pair;

static inline bool tg_swap(struct tg_word *at, struct tg_word from, struct tg_word to)
{
    tg_pair a = (tg_pair)from.tat << 64 | from.tag;
    tg_pair b = (tg_pair)to.tat << 64 | to.tag;
    return __sync_bool_compare_and_swap((tg_pair *)(void *)at, a, b);
}

static inline uint64_t tg_load(const uint64_t *at) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }

#endif
