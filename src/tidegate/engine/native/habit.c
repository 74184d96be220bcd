/* The same client sends on the same topic again, and again it passes: most of what a broker sees. Which limits that meets and
 * where their buckets lie is remembered, so that only the budgets are left to charge. A message that does not pass like that,
 * whatever the reason, gives back what it was charged here, and is decided in full.
 *
 * A bucket's tag says whether it is still the key's, and a key has one bucket: what is remembered can be of no use, not wrong. */
#include <string.h>

#include "hash.h"
#include "word.h"

uint32_t tg_scalings(const struct tg_engine *engine)
{
    return __atomic_load_n(&((const struct tg_segment_head *)(const void *)engine->segment.base)->scalings, __ATOMIC_ACQUIRE);
}

/* A time that lies too far ahead is not set back here: it does not pass, and is left to the decision in full. */
static inline bool charge(struct tg_word *where, uint64_t tag, struct tg_price price, uint64_t now, bool alone)
{
    uint64_t tat = tg_load(&where->tat);
    int64_t ahead = tg_ahead(tat, now);
    if (ahead < 0) ahead = 0;
    if (tg_load(&where->tag) != tag || tat & TG_PENDING || ahead > (int64_t)price.allowed) return false;
    uint64_t next = now + (uint64_t)ahead + price.ticks;
    if (!alone) return tg_swap(where, (struct tg_word){tag, tat}, (struct tg_word){tag, next});
    where->tat = next;
    return true;
}

/* Where not every limit is at its full rate: the factor of the one that has this step. */
static uint32_t scale_of(const struct tg_engine *engine, const struct tg_habit *habit, uint32_t step)
{
    uint32_t limit = 0;
    for (uint64_t budgets = habit->budgets; step >= (budgets & 15); budgets >>= 4, limit++) step -= budgets & 15;
    return __atomic_load_n(&engine->segment.scales[habit->slots[limit]].of[habit->priority], __ATOMIC_RELAXED);
}

/* Charges all budgets, or none. */
static bool charge_all(const struct tg_engine *engine, const struct tg_habit *habit, const struct tg_message *message, uint64_t now)
{
    struct tg_word *words = engine->table.words;
    const struct tg_price *prices = engine->policy.prices;
    const bool alone = engine->table.alone, scaled = habit->scaled;
    uint64_t ticks[TG_HABIT_STEPS];
    for (uint32_t at = 0, steps = habit->steps; at < steps; at++) {
        const struct tg_step *step = &habit->step[at];
        struct tg_price price = prices[step->budget];
        if (price.ticks == 0 || scaled) {
            const struct tg_budget *budget = &engine->policy.budgets[step->budget];
            uint32_t scale = scaled ? scale_of(engine, habit, at) : TG_UNSCALED;
            price = tg_price_of(tg_cost_of(budget, budget->of_bytes ? message->packet : 1, scale));
        }
        ticks[at] = price.ticks;
        if (charge(&words[step->word], step->tag, price, now, alone)) continue;
        while (at-- > 0) tg_undo(&words[habit->step[at].word], habit->step[at].tag, ticks[at]);
        return false;
    }
    return true;
}

/* Of the places that it can be in, which lie together, the one that has this key; TG_HABITS when none has. */
static size_t find(const uint64_t *keys, uint64_t key)
{
    size_t first = key & (TG_HABITS - TG_HABIT_WAYS);
    for (size_t at = first; at < first + TG_HABIT_WAYS; at++)
        if (keys[at] == key) return at;
    return TG_HABITS;
}

/* Puts it into an empty one of its places, else into another's, each in its turn. */
static size_t put(struct tg_engine *engine, uint64_t *keys, uint64_t key)
{
    size_t first = key & (TG_HABITS - TG_HABIT_WAYS), place = first + engine->habit_turn++ % TG_HABIT_WAYS;
    for (size_t at = first; at < first + TG_HABIT_WAYS; at++)
        if (keys[at] == 0) place = at;
    keys[place] = key;
    return place;
}

void tg_forget_habits(struct tg_engine *engine)
{
    if (engine->habits == NULL) return;
    for (size_t at = 0; at < TG_HABITS; at++)
        if (engine->habit_keys[at] != 0) engine->habits[at].key = 0;
    memset(engine->habit_keys, 0, 2 * TG_HABITS * sizeof *engine->habit_keys);
}

uint64_t tg_habit_key(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_message *message)
{
    bool often = message->event == TG_PUBLISH || message->event == TG_DELIVER;
    if (!often || message->ask || subject->exempt || engine->tallies == NULL) return 0;
    uint64_t what = (uint64_t)message->event << 3 | (uint64_t)message->qos << 1 | (message->retain != 0);
    uint64_t key = tg_mix(subject->identity, what);
    bool by_topic = engine->policy.by_topic || engine->policy.head->roots[message->event] != TG_NONE;
    return by_topic ? tg_mix(key, tg_hash_topic(engine, message, 0)) : key;
}

uint32_t tg_by_habit(struct tg_engine *engine, uint64_t key, const struct tg_message *message, uint64_t now, uint32_t *found)
{
    if (key == 0) return 0;
    size_t at = message->habit - (size_t)1; /* the key is with the habit as well: one miss of the cache less */
    if (message->habit == 0 || engine->habits[at].key != key) {
        at = find(engine->habit_keys, key);
        if (at == TG_HABITS) return 0;
        tg_expect(engine, (uint32_t)at + 1);
    }
    *found = (uint32_t)at + 1;
    const struct tg_habit *habit = &engine->habits[at];
    if (message->payload > habit->size || (engine->queues != 0 && message->turn == 0)) return 0;
    if (habit->scalings != tg_scalings(engine)) return 0;
    for (uint32_t i = 0; i < habit->steps; i++) __builtin_prefetch(&engine->table.words[habit->step[i].word], 1);
    if (!charge_all(engine, habit, message, now)) return 0;
    uint64_t *passed = tg_tallies(engine, TG_TALLY_PASSED);
    for (uint32_t m = 0; m < habit->matched; m++) tg_one_more(&passed[habit->slots[m]]);
    return habit->matched;
}

void tg_keep_habit(struct tg_engine *engine, uint64_t key, const struct tg_subject *subject, const struct tg_entry *entries,
                 uint32_t matched, uint32_t charged, uint32_t before)
{
    if (key == 0 || matched == 0 || matched > TG_HABIT_STEPS || charged > TG_HABIT_STEPS) return;
    size_t at = find(engine->habit_keys, key), seen = find(engine->habit_seen, key);
    if (at == TG_HABITS && seen == TG_HABITS) { /* who comes but once is not worth the writing */
        put(engine, engine->habit_seen, key);
        return;
    }
    if (at == TG_HABITS) {
        engine->habit_seen[seen] = 0;
        at = put(engine, engine->habit_keys, key);
    }
    struct tg_habit *habit = &engine->habits[at];
    *habit = (struct tg_habit){.key = key, .size = UINT32_MAX, .scalings = before, .matched = (uint8_t)matched, .steps = (uint8_t)charged,
                               .priority = subject->priority};
    struct tg_step *step = habit->step;
    for (uint32_t m = 0; m < matched; m++) {
        const struct tg_entry *entry = &entries[engine->matches[m].entry];
        habit->slots[m] = entry->slot;
        uint32_t budgets = entry->rate.count + entry->bandwidth.count;
        habit->budgets |= (uint64_t)budgets << 4 * m;
        if (entry->size < habit->size) habit->size = (uint32_t)entry->size;
        uint32_t scale = __atomic_load_n(&engine->segment.scales[entry->slot].of[subject->priority], __ATOMIC_RELAXED);
        habit->scaled |= scale != TG_UNSCALED;
        for (uint32_t b = 0; b < budgets; b++, step++) {
            uint32_t number = b < entry->rate.count ? entry->rate.first + b : entry->bandwidth.first + b - entry->rate.count;
            const struct tg_charge_done *done = &engine->done[step - habit->step];
            *step = (struct tg_step){done->tag, (uint32_t)(done->where - engine->table.words), number};
        }
    }
}
