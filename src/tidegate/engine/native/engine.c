/* One process's engine: what it keeps besides the segment. Memory is taken here, when it begins and when a policy is loaded,
 * and nowhere else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gcra.h"

#define MONTH ((uint64_t)30 * 86400 * 1000000000 * TG_TICKS)

bool tg_engine_init(struct tg_engine *engine, const struct tg_segment *segment, uint32_t row, uint32_t nonce)
{
    memset(engine, 0, sizeof *engine);
    engine->segment = *segment;
    engine->row = row;
    if (row < segment->rows) engine->tallies = segment->tallies + (size_t)row * segment->slots * TG_TALLIES;
    engine->table = (struct tg_table){segment->table, segment->words - 1, (uint64_t)1 << 61, nonce, false};
    engine->episodes = calloc(TG_EPISODES, sizeof *engine->episodes);
    engine->seen = calloc(TG_SEEN, sizeof *engine->seen);
    if (engine->tallies != NULL) {
        engine->turns = segment->turns + (size_t)row * TG_TURNS;
        engine->own_shares = calloc(segment->windows, sizeof *engine->own_shares);
        engine->window_source = calloc(segment->windows, sizeof *engine->window_source);
        engine->made = calloc(TG_MADE, sizeof *engine->made);
        engine->habit_room = calloc(TG_HABITS + 1, sizeof *engine->habits);
        engine->habit_keys = calloc(2 * TG_HABITS, sizeof *engine->habit_keys);
        if (engine->own_shares == NULL || engine->window_source == NULL || engine->made == NULL || engine->habit_room == NULL
            || engine->habit_keys == NULL)
            return false;
        engine->habit_seen = engine->habit_keys + TG_HABITS;
        const uintptr_t line = _Alignof(struct tg_habit);
        engine->habits = (void *)(((uintptr_t)engine->habit_room + line - 1) & ~(line - 1));
    }
    return engine->episodes != NULL && engine->seen != NULL;
}

/* Room for the decisions of a policy: one piece, cut into arrays. */
static bool take_scratch(struct tg_engine *engine, const struct tg_policy *policy)
{
    size_t limits = policy->head->limits, budgets = policy->most_budgets;
    uint8_t *at = calloc(1, budgets * (sizeof *engine->plans + sizeof *engine->done)
                                + limits * (sizeof *engine->taken + sizeof *engine->hashes + sizeof *engine->matches
                                            + 2 * sizeof(uint32_t)) + 8);
    if (at == NULL) return false;
    free(engine->scratch);
    engine->scratch = at;
    engine->plans = (void *)at; /* the arrays of 8-aligned elements first */
    engine->done = (void *)(engine->plans + budgets);
    engine->taken = (void *)(engine->done + budgets);
    engine->hashes = (void *)(engine->taken + limits);
    engine->matches = (void *)(engine->hashes + limits);
    engine->stamps = (void *)(engine->matches + limits);
    engine->excepted = engine->stamps + limits;
    return true;
}

bool tg_engine_load(struct tg_engine *engine, const void *blob, size_t bytes, char error[TG_ERROR])
{
    struct tg_policy policy;
    if (!tg_policy_load(&policy, blob, bytes, engine->segment.slots, engine->segment.words, error)) return false;
    if (!take_scratch(engine, &policy)) {
        snprintf(error, TG_ERROR, "no memory to load a policy of %zu bytes", bytes);
        tg_policy_free(&policy);
        return false;
    }
    tg_policy_free(&engine->policy);
    engine->policy = policy;
    engine->epoch = 0;
    memset(engine->seen, 0, TG_SEEN * sizeof *engine->seen);
    tg_forget_habits(engine);
    /* Scaled down to TG_LEAST_SCALE, a charge takes its budget further than the policy foresees; damage lies years ahead. */
    uint64_t horizon = policy.head->horizon;
    engine->table.horizon = horizon > (uint64_t)1 << 53 ? (uint64_t)1 << 61 : horizon << 8;
    /* Nor may one process, still with a policy of seconds, take another's debts of days for damage. A month is one in four
     * hundred of what damage may write. */
    if (engine->table.horizon < MONTH) engine->table.horizon = MONTH;
    return true;
}

void tg_engine_free(struct tg_engine *engine)
{
    free(engine->scratch);
    free(engine->episodes);
    free(engine->seen);
    free(engine->own_shares);
    free(engine->window_source);
    free(engine->made);
    free(engine->habit_room);
    free(engine->habit_keys);
    tg_policy_free(&engine->policy);
    memset(engine, 0, sizeof *engine);
}
