/* Buckets in shared memory. A bucket is one 16-byte word, its tag (limit and hash of the key) and its theoretical
 * arrival time, and every change is one compare-and-swap of both: a charge cannot land in a word that has become
 * another key's meanwhile.
 *
 * A key has two neighbourhoods of eight words (two cache lines each), chosen by two parts of its hash. It lives in any
 * of the sixteen, and is sought and made first in that line of the first neighbourhood which a third part names. A word
 * whose time has passed is a full budget, the same as none, and only such a word is ever given to another key: nobody can push out a budget that is in debt, so rotating keys refunds nothing.
 *
 * A key must never have two words, or it would have two budgets. So a new one is made in two steps: the word is claimed
 * (tag, and a time with its lowest bit set: pending), then all sixteen are read again. Whoever sees the same tag in another
 * word gives his own up and starts over. Of two who claim at once at least one sees the other, as each claims before
 * he reads. A claim whose owner has died, or lost the processor, is taken over in place; its owner then fails to
 * make it live. (A lock per neighbourhood was rejected: kill -9 would leave it held.)
 *
 * Cost: one cache miss for nearly every key while the table is not crowded; up to four for a new one.
 */
#include "hash.h"
#include "word.h"

#define WAYS 8u
#define TRIES 1000              /* each failure is another process's success; beyond it a refusal, which is false but safe */
#define SPINS 64                /* looks at a pending word before it is taken over */
#define STALE 100               /* coarse units (about a millisecond) after which nobody is still making a bucket */

static void breathe(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

struct tg_key tg_key_make(uint32_t slot, uint64_t hash)
{
    /* Tag and neighbourhoods come from different bits: 48 of the tag, and more than 15 that the place adds. */
    return (struct tg_key){(uint64_t)(slot + 1) << 48 | hash >> 16, tg_mix(hash, slot)};
}

/* Where a key may be: four lines of four words, in the order in which they are looked at. */
struct places { struct tg_word *line[4]; };

static struct places places_of(const struct tg_table *table, struct tg_key key)
{
    struct tg_word *first = table->words + (key.hash & table->mask & ~(uint64_t)(WAYS - 1));
    struct tg_word *second = table->words + (key.hash >> 32 & table->mask & ~(uint64_t)(WAYS - 1));
    uint64_t half = key.hash & 4; /* a bit that chose no neighbourhood */
    return (struct places){{first + half, first + (half ^ 4), second + half, second + (half ^ 4)}};
}

static struct tg_word *place(const struct places *places, unsigned i) { return places->line[i / 4] + i % 4; }

void tg_prefetch(const struct tg_table *table, struct tg_key key)
{
    __builtin_prefetch(places_of(table, key).line[0], 1);
}

static uint64_t claim(const struct tg_table *table, uint64_t now)
{
    uint64_t coarse = now / TG_TICKS >> 20;
    return coarse << 32 | (uint64_t)(table->nonce & 0x7fffffff) << 1 | TG_PENDING;
}

static bool stale(uint64_t tat, uint64_t now)
{
    int32_t age = (int32_t)((uint32_t)(now / TG_TICKS >> 20) - (uint32_t)(tat >> 32));
    return age > STALE || age < -STALE;
}

/* Whether a word may be given to another key. A time beyond the horizon is damage: no policy takes one so far. */
static bool is_free(const struct tg_table *table, struct tg_word word, uint64_t now)
{
    if (word.tag == 0) return true;
    if (word.tat & TG_PENDING) return stale(word.tat, now);
    int64_t ahead = tg_ahead(word.tat, now);
    return ahead <= 0 || (uint64_t)ahead > table->horizon;
}

/* One try at a word that has the key's tag: an outcome, or -1 when it has changed meanwhile. */
static inline int charge_once(struct tg_word *at, struct tg_word seen, struct tg_cost cost, uint64_t now, bool commit,
                       uint64_t *wait, struct tg_word **where)
{
    struct tg_word next = seen;
    if (!tg_gcra(&next.tat, cost, now, wait)) {
        if (next.tat != seen.tat) tg_swap(at, seen, next); /* it was too far ahead */
        return TG_OVER;
    }
    if (commit && !tg_swap(at, seen, next)) return -1;
    *where = at;
    return TG_CHARGED;
}

static int give_up(uint64_t *wait)
{
    *wait = tg_ticks(1000000);
    return TG_OVER;
}

int tg_charge(const struct tg_table *table, struct tg_key key, struct tg_cost cost, uint64_t now, bool commit,
              uint64_t *wait, struct tg_word **where)
{
    const struct places places = places_of(table, key);
    *where = NULL;
    for (int tries = 0; tries < TRIES; tries++) {
        struct tg_word *found = NULL;
        for (unsigned i = 0; i < 2 * WAYS && found == NULL; i++) {
            struct tg_word *at = place(&places, i);
            if (tg_load(&at->tag) == key.tag) found = at;
        }
        if (found == NULL) return TG_ABSENT;
        struct tg_word seen = {key.tag, tg_load(&found->tat)};
        if (tg_load(&found->tag) != key.tag) continue;
        if (seen.tat & TG_PENDING) return TG_ABSENT; /* tg_charge_new settles who makes it */
        int outcome = charge_once(found, seen, cost, now, commit, wait, where);
        if (outcome >= 0) return outcome;
        breathe();
    }
    return give_up(wait);
}

int tg_charge_new(const struct tg_table *table, struct tg_key key, struct tg_cost cost, uint64_t now, bool commit,
                  uint64_t *wait, struct tg_word **where)
{
    const struct places places = places_of(table, key);
    const struct tg_word mine = {key.tag, claim(table, now)};
    int spins = 0;
    *where = NULL;
    for (int tries = 0; tries < TRIES; tries++) {
        struct tg_word *found = NULL, *room = NULL;
        struct tg_word seen = {0, 0}, old = {0, 0};
        for (unsigned i = 0; i < 2 * WAYS && found == NULL; i++) {
            struct tg_word *at = place(&places, i);
            struct tg_word word = {tg_load(&at->tag), tg_load(&at->tat)};
            if (word.tag == key.tag) {
                found = at;
                seen = word;
            } else if (room == NULL ? is_free(table, word, now) : old.tag != 0 && word.tag == 0) {
                room = at; /* rather one that nobody has had: who comes back after a rest still finds his own */
                old = word;
            }
        }
        if (found != NULL) {
            if (tg_load(&found->tag) != key.tag) continue;
            if (!(seen.tat & TG_PENDING)) {
                int outcome = charge_once(found, seen, cost, now, commit, wait, where);
                if (outcome >= 0) return outcome;
                breathe();
                continue;
            }
            if (spins++ < SPINS && !stale(seen.tat, now)) {
                breathe();
                continue;
            }
            room = found;
            old = seen;
        }
        if (room == NULL) return TG_FULL;
        if (!commit) { /* a budget that does not exist is full */
            *wait = 0;
            return TG_CHARGED;
        }
        if (!tg_swap(room, old, mine)) continue;
        bool alone = true;
        for (unsigned i = 0; i < 2 * WAYS && alone; i++) {
            const struct tg_word *at = place(&places, i);
            alone = at == room || tg_load(&at->tag) != key.tag;
        }
        if (!alone) {
            tg_swap(room, mine, (struct tg_word){0, 0});
            breathe();
            continue;
        }
        struct tg_word live = {key.tag, now};
        tg_gcra(&live.tat, cost, now, wait); /* passes: the budget is full */
        if (tg_swap(room, mine, live)) {
            *where = room;
            return TG_CHARGED;
        }
    }
    return give_up(wait);
}

/* A charge is taken back by subtraction, whatever others have charged since. A word that has become another key's had
 * passed its time, and the charge with it. */
void tg_undo(struct tg_word *where, uint64_t tag, uint64_t ticks)
{
    for (;;) {
        struct tg_word seen = {tg_load(&where->tag), tg_load(&where->tat)};
        if (seen.tag != tag || seen.tat & TG_PENDING) return;
        if (tg_swap(where, seen, (struct tg_word){tag, seen.tat - ticks})) return;
    }
}

int tg_charge_word(uint64_t *word, struct tg_cost cost, uint64_t now, bool commit, uint64_t *wait)
{
    for (int tries = 0; tries < TRIES; tries++) {
        uint64_t seen = tg_load(word), next = seen != 0 ? seen : now; /* 0: never charged; no time, as now may be any */
        if (!tg_gcra(&next, cost, now, wait)) {
            if (next != seen && seen != 0) __sync_bool_compare_and_swap(word, seen, next);
            return TG_OVER;
        }
        if (!commit || __sync_bool_compare_and_swap(word, seen, next)) return TG_CHARGED;
    }
    return give_up(wait);
}

void tg_census(const struct tg_segment *segment, uint64_t now_ns, const uint64_t *burst_by_slot, uint32_t slots,
               uint64_t *live, uint64_t *over)
{
    uint64_t now = tg_ticks(now_ns);
    for (uint64_t i = 0; i < segment->words; i++) {
        const struct tg_word *at = &segment->table[i];
        uint64_t tag = tg_load(&at->tag), tat = tg_load(&at->tat);
        uint64_t slot = (tag >> 48) - 1;
        int64_t ahead = tg_ahead(tat, now);
        if (slot >= slots || tat & TG_PENDING || ahead <= 0) continue;
        live[slot]++;
        if ((uint64_t)ahead > burst_by_slot[slot]) over[slot]++;
    }
}
