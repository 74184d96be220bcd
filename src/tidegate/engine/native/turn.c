/* Who waits where. Clients of several processes may wait for one budget or window. Within a process they take turns; between
 * processes each says here how many wait and how far it has served them, and lets the others catch up before it goes on. A
 * process writes its own row only; a budget that finds its place there taken is not said, and its process does not yield for it.
 */
#include "engine.h"

#define MOST_LEAD (4 * 65536)   /* rounds, in 1/65536: nobody gets further ahead by being served */

static struct tg_turn *turn_of(struct tg_turn *row, uint64_t key)
{
    return &row[(key ^ key >> 32) & (TG_TURNS - 1)];
}

static uint32_t waiting_for(const struct tg_turn *turn, uint64_t key)
{
    if (__atomic_load_n(&turn->key, __ATOMIC_SEQ_CST) != key) return 0;
    return __atomic_load_n(&turn->waiting, __ATOMIC_SEQ_CST);
}

static struct tg_turn *row_of(const struct tg_engine *engine, uint32_t row)
{
    return engine->segment.turns + (size_t)row * TG_TURNS;
}

bool tg_turn_waits(const struct tg_engine *engine, uint64_t key)
{
    return engine->turns != NULL && waiting_for(turn_of(engine->turns, key), key) != 0;
}

int64_t tg_turn_lead(const struct tg_engine *engine, uint64_t key)
{
    if (!tg_turn_waits(engine, key)) return 0;
    uint32_t served = turn_of(engine->turns, key)->served;
    int64_t most = INT64_MIN;
    for (uint32_t row = 0; row < engine->segment.rows; row++) {
        const struct tg_turn *other = turn_of(row_of(engine, row), key);
        if (row == engine->row || waiting_for(other, key) == 0) continue;
        int64_t lead = (int32_t)(served - __atomic_load_n(&other->served, __ATOMIC_RELAXED));
        if (lead > most) most = lead;
    }
    return most == INT64_MIN ? 0 : most;
}

uint64_t tg_turn_others(const struct tg_engine *engine, uint64_t key)
{
    uint64_t found = 0;
    for (uint32_t row = 0; row < engine->segment.rows; row++)
        if (row != engine->row && waiting_for(turn_of(row_of(engine, row), key), key) != 0)
            found |= (uint64_t)1 << (row & 63);
    return found;
}

void tg_turn_level(struct tg_engine *engine, uint64_t key)
{
    if (!tg_turn_waits(engine, key)) return;
    struct tg_turn *own = turn_of(engine->turns, key);
    __atomic_store_n(&own->served, own->served - (uint32_t)tg_turn_lead(engine, key), __ATOMIC_RELAXED);
}

bool tg_turn_wait(struct tg_engine *engine, uint64_t key, uint32_t waiting)
{
    if (engine->turns == NULL) return false;
    struct tg_turn *own = turn_of(engine->turns, key);
    uint32_t before = __atomic_load_n(&own->waiting, __ATOMIC_RELAXED);
    bool mine = __atomic_load_n(&own->key, __ATOMIC_RELAXED) == key;
    if (before != 0 && !mine) return false;
    if (before == 0 && waiting != 0) {
        engine->queues++;
        __atomic_store_n(&own->key, key, __ATOMIC_SEQ_CST);
        __atomic_store_n(&own->waiting, waiting, __ATOMIC_SEQ_CST);
        /* Who comes to wait is owed nothing from before; what he is ahead he stays, unless it is of another time. */
        int64_t lead = tg_turn_lead(engine, key);
        if (lead < 0 || lead > MOST_LEAD) tg_turn_level(engine, key);
        return true;
    }
    if (before != 0 && waiting == 0 && engine->queues > 0) engine->queues--;
    __atomic_store_n(&own->waiting, waiting, __ATOMIC_SEQ_CST);
    return true;
}

void tg_turn_served(struct tg_engine *engine, uint64_t key)
{
    if (!tg_turn_waits(engine, key)) return;
    struct tg_turn *own = turn_of(engine->turns, key);
    uint32_t waiting = own->waiting;
    __atomic_store_n(&own->served, own->served + 65536u / (waiting != 0 ? waiting : 1), __ATOMIC_RELAXED);
}
