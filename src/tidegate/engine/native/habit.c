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

static struct tg_cost cost_of(const struct tg_step *step, const struct tg_message *message)
{
    return tg_cost_of(step->budget, step->budget->of_bytes ? message->packet : 1, step->scale);
}

static bool charge(const struct tg_table *table, const struct tg_step *step, struct tg_cost cost, uint64_t now)
{
    uint64_t wait;
    struct tg_word seen = {step->tag, tg_load(&step->where->tat)}, next = seen;
    if (tg_load(&step->where->tag) != step->tag || seen.tat & TG_PENDING || !tg_gcra(&next.tat, cost, now, &wait)) return false;
    if (!table->alone) return tg_swap(step->where, seen, next);
    step->where->tat = next.tat;
    return true;
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

uint32_t tg_by_habit(struct tg_engine *engine, uint64_t key, const struct tg_message *message, uint64_t now)
{
    if (key == 0 || engine->habit_keys[key & (TG_HABITS - 1)] != key) return 0;
    const struct tg_habit *habit = &engine->habits[key & (TG_HABITS - 1)];
    for (size_t at = 64; at < sizeof *habit; at += 64) __builtin_prefetch((const uint8_t *)habit + at);
    if (message->payload > habit->size || (engine->queues != 0 && message->turn == 0)) return 0;
    if (habit->scalings != tg_scalings(engine)) return 0;
    for (uint32_t i = 0; i < habit->steps; i++) __builtin_prefetch(habit->step[i].where, 1);
    uint32_t charged = 0;
    while (charged < habit->steps
           && charge(&engine->table, &habit->step[charged], cost_of(&habit->step[charged], message), now))
        charged++;
    if (charged < habit->steps) {
        for (uint32_t i = charged; i > 0; i--) {
            const struct tg_step *step = &habit->step[i - 1];
            tg_undo(step->where, step->tag, cost_of(step, message).ticks);
        }
        return 0;
    }
    for (uint32_t m = 0; m < habit->matched; m++) tg_tally(engine, habit->slots[m], TG_TALLY_PASSED);
    return habit->matched;
}

void tg_keep_habit(struct tg_engine *engine, uint64_t key, const struct tg_subject *subject, const struct tg_entry *entries,
                 uint32_t matched, uint32_t charged, uint32_t before)
{
    if (key == 0 || matched == 0 || matched > TG_HABIT_STEPS || charged > TG_HABIT_STEPS) return;
    size_t at = key & (TG_HABITS - 1);
    if (engine->habit_seen[at] != key) { /* who comes but once is not worth the writing */
        engine->habit_seen[at] = key;
        return;
    }
    struct tg_habit *habit = &engine->habits[at];
    engine->habit_keys[at] = key;
    habit->size = UINT64_MAX;
    habit->matched = matched;
    habit->steps = charged;
    habit->scalings = before;
    struct tg_step *step = habit->step;
    for (uint32_t m = 0; m < matched; m++) {
        const struct tg_entry *entry = &entries[engine->matches[m].entry];
        habit->slots[m] = entry->slot;
        if (entry->size < habit->size) habit->size = entry->size;
        uint32_t scale = __atomic_load_n(&engine->segment.scales[entry->slot].of[subject->priority], __ATOMIC_RELAXED);
        for (uint32_t b = 0; b < entry->rate.count + entry->bandwidth.count; b++, step++) {
            uint32_t number = b < entry->rate.count ? entry->rate.first + b : entry->bandwidth.first + b - entry->rate.count;
            const struct tg_charge_done *done = &engine->done[step - habit->step];
            *step = (struct tg_step){done->where, done->tag, &engine->policy.budgets[number], scale};
        }
    }
}
