/* One charge. Each key has a bucket of its own while there is room for it; a limit's keys may have a quarter of the table,
 * and those of one address a part of that. Keys beyond count together, in the crowd of their limit and neighbourhood of
 * addresses, so that an attacker's fresh keys crowd the attacker; and where even that has no room, in one word of the limit.
 *
 * Making a bucket is itself limited, by the same arithmetic. A bucket is in use for at most the time that a full debt takes
 * to pass; one that costs that time divided by the quota, with all of it at once, leaves at most two quotas in use. No count of
 * buckets is kept, so none can be wrong after a kill -9, and a quota heals as its keys do. */
#include "gcra.h"
#include "hash.h"

/* Mixed in, so that these budgets are nobody's key. */
#define FOR_SOURCE 0x736f75726365u
#define FOR_CROWD 0x63726f7764u
#define LEAST_SHARE 256u        /* buckets that one address may have of one limit, however many limits there are */

static uint64_t even(uint64_t ticks) { return (ticks + 1) & ~(uint64_t)1; }

struct tg_quota tg_quota_of(const struct tg_budget *budget, uint64_t words, uint32_t limits)
{
    uint64_t limit = words / 4, source = words / 16;
    uint64_t share = words / (4 * ((uint64_t)limits + 1)); /* with every limit an address reaches half the table */
    if (source > share) source = share < LEAST_SHARE ? LEAST_SHARE : share;
    if (source > limit) source = limit;
    uint64_t life = budget->burst + budget->largest;
    uint64_t by_limit = even(life / limit), by_source = even(life / source);
    /* The crowds take a limit's word to twice the burst; the largest charge says that this is no damage. */
    return (struct tg_quota){{by_limit, even(life), even(life) + by_limit}, {by_source, even(life), by_source}};
}

static struct tg_key own_key(const struct tg_charge *c, uint32_t slot, uint64_t purpose, uint64_t whose)
{
    return tg_key_make(slot, tg_mix(tg_mix(c->plan->identity, purpose ^ c->secret), whose));
}

static int charge_crowd(const struct tg_charge *c, uint64_t *wait, struct tg_charge_done *done)
{
    struct tg_key key = own_key(c, c->slot_number, FOR_CROWD, c->vicinity);
    done->tag = key.tag;
    int outcome = tg_charge(c->table, key, c->plan->cost, c->now, c->commit, wait, &done->where);
    if (outcome == TG_ABSENT) {
        struct tg_cost more = c->plan->quota->limit; /* crowds may use as many words again as keys may */
        uint64_t *quota = &c->slot->quota[c->plan->index], unused;
        more.burst *= 2;
        if (tg_charge_word(quota, more, c->now, c->commit, &unused) == TG_CHARGED) {
            outcome = tg_charge_new(c->table, key, c->plan->cost, c->now, c->commit, wait, &done->where);
            if (outcome == TG_FULL && c->commit) __atomic_fetch_sub(quota, more.ticks, __ATOMIC_SEQ_CST);
        }
    }
    if (outcome != TG_ABSENT && outcome != TG_FULL) return outcome;
    done->word = &c->slot->crowd[c->plan->index];
    return tg_charge_word(done->word, c->plan->cost, c->now, c->commit, wait);
}

bool tg_charge_budget(const struct tg_charge *c, uint64_t *wait, struct tg_charge_done *done, bool *crowd)
{
    *done = (struct tg_charge_done){NULL, NULL, c->plan->key.tag, c->plan->cost.ticks};
    int outcome = tg_charge(c->table, c->plan->key, c->plan->cost, c->now, c->commit, wait, &done->where);
    if (outcome != TG_ABSENT) return outcome == TG_CHARGED;
    uint64_t *quota = &c->slot->quota[c->plan->index], unused;
    if (tg_charge_word(quota, c->plan->quota->limit, c->now, c->commit, &unused) == TG_CHARGED) {
        struct tg_key source = own_key(c, TG_OWN_SLOT, FOR_SOURCE, c->source);
        struct tg_word *where;
        outcome = tg_charge_new(c->table, source, c->plan->quota->source, c->now, c->commit, &unused, &where);
        if (outcome == TG_CHARGED)
            outcome = tg_charge_new(c->table, c->plan->key, c->plan->cost, c->now, c->commit, wait, &done->where);
        else
            outcome = TG_FULL;
        if (outcome != TG_FULL) return outcome == TG_CHARGED;
        if (c->commit) { /* no bucket was made: nothing is owed for it */
            __atomic_fetch_sub(quota, c->plan->quota->limit.ticks, __ATOMIC_SEQ_CST);
            if (where != NULL) tg_undo(where, source.tag, c->plan->quota->source.ticks);
        }
    }
    *crowd = true;
    return charge_crowd(c, wait, done) == TG_CHARGED;
}

/* Charges are taken back by subtraction, whatever others have charged since. */
void tg_take_back(const struct tg_charge_done *done, uint32_t from, uint32_t to)
{
    for (uint32_t i = to; i > from; i--) {
        const struct tg_charge_done *charge = &done[i - 1];
        if (charge->word != NULL) __atomic_fetch_sub(charge->word, charge->ticks, __ATOMIC_SEQ_CST);
        else if (charge->where != NULL) tg_undo(charge->where, charge->tag, charge->ticks);
    }
}
