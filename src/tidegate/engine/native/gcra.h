/* The generic cell rate algorithm (ITU-T I.371, "virtual scheduling").
 *
 * A budget is one number, the theoretical arrival time: when it will be full again. A charge of `ticks` passes if the
 * budget then is not further ahead of now than its burst, and moves it by `ticks`:
 *
 *     start = max(TAT, now)           pass  if  start - now <= max(0, burst - ticks)
 *     TAT'  = start + ticks           else wait  start - now - max(0, burst - ticks)
 *
 * The max makes a charge larger than the burst pass on a full budget, and leave a debt. A TAT that has passed is a full
 * budget, the same as none. A token bucket would need two words (tokens, time) and a division; this is one word, so
 * one compare-and-swap is the whole update.
 *
 * Ticks are sixteenths of a nanosecond: at 10 GiB/s a byte is 1.49 of them, and 18 years fit the sign. The lowest bit is
 * no part of a time (table.c), so costs are even. Times compare by signed difference.
 *
 * A stored time further ahead than burst and largest cost can take it is of another policy or scale, or damage: it is set
 * back to that, once and for all. A process may decide by a time that is a little old, and what lies within TG_LAG may be
 * another's newer charge: that stays.
 */
#ifndef TIDEGATE_GCRA_H
#define TIDEGATE_GCRA_H

#include "engine.h"

#define TG_TICKS 16u
#define TG_UNSCALED 65536u
#define TG_LEAST_SCALE 256u     /* no factor is below 1/256, whatever is stored: what one charge can do has an end */
#define TG_LAG ((int64_t)10 * 1000000000 * TG_TICKS)

static inline uint64_t tg_ticks(uint64_t ns) { return ns * TG_TICKS; }
static inline int64_t tg_ahead(uint64_t tat, uint64_t now) { return (int64_t)(tat - now); }

/* What `units` cost at `scale`, a rate's factor in 1/65536: the interval grows as the rate shrinks, the burst stays. One
 * message at full rate, the usual case, needs no wide arithmetic. */
static inline struct tg_cost tg_cost_of(const struct tg_budget *budget, uint64_t units, uint32_t scale)
{
    if (!budget->of_bytes && units == 1 && scale == TG_UNSCALED) {
        uint64_t one = ((budget->multiplier + ((uint64_t)1 << budget->shift) - 1) >> budget->shift) + 1;
        one &= ~(uint64_t)1;
        return (struct tg_cost){one, budget->burst, budget->largest < one ? one : budget->largest};
    }
    __uint128_t ticks = ((__uint128_t)units * budget->multiplier + ((__uint128_t)1 << budget->shift) - 1)
                        >> budget->shift;
    __uint128_t largest = budget->largest;
    if (scale != TG_UNSCALED) {
        if (scale < TG_LEAST_SCALE) scale = TG_LEAST_SCALE;
        ticks = ((ticks << 16) + scale - 1) / scale;
        /* Never smaller: clients of another priority, who share the budget, may have taken it as far. */
        if (scale < TG_UNSCALED) largest = ((largest << 16) + scale - 1) / scale;
    }
    const __uint128_t most = (uint64_t)1 << 61;
    if (ticks > most) ticks = most;
    if (largest > most) largest = most;
    if (largest < ticks) largest = ticks;
    return (struct tg_cost){((uint64_t)ticks + 1) & ~(uint64_t)1, budget->burst, ((uint64_t)largest + 1) & ~(uint64_t)1};
}

/* All that need be known of a cost where a charge that does not pass is none of ours. */
static inline struct tg_price tg_price_of(struct tg_cost cost)
{
    return (struct tg_price){cost.ticks, cost.burst > cost.ticks ? cost.burst - cost.ticks : 0};
}

/* Whether the charge passes; then `tat` is the new time, else `wait` the ticks until it would. A `tat` that lies too far
 * ahead is set back also when it does not pass. */
static inline bool tg_gcra(uint64_t *tat, struct tg_cost cost, uint64_t now, uint64_t *wait)
{
    uint64_t start = *tat;
    int64_t most = (int64_t)(cost.burst + cost.largest);
    int64_t ahead = tg_ahead(start, now);
    if (ahead < 0) ahead = 0;
    if (ahead > most + TG_LAG) {
        ahead = most;
        *tat = now + (uint64_t)most;
    }
    int64_t allowed = (int64_t)tg_price_of(cost).allowed;
    if (ahead > allowed) {
        *wait = (uint64_t)(ahead - allowed);
        return false;
    }
    *tat = now + (uint64_t)ahead + cost.ticks;
    *wait = 0;
    return true;
}

#endif
