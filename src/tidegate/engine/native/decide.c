/* One message, or one connection: what it costs the limits that it meets, who is the strictest to refuse it.
 *
 * All keys are hashed and fetched before the first is charged: their cache misses overlap. Budgets are charged in the
 * policy's order. When one refuses, the earlier charges are taken back and the later limits only asked, as one of them may
 * be stricter. Two processes that do so at once may each refuse what would have passed alone; neither can admit too much. */
#include <string.h>

#include "gcra.h"
#include "hash.h"

/* The hash of one limit's key for this message. */
static uint64_t key_hash(struct tg_engine *engine, struct tg_range per, const struct tg_subject *subject,
                         const struct tg_message *message)
{
    const struct tg_policy *policy = &engine->policy;
    uint64_t hash = engine->segment.secret[0];
    for (uint32_t i = 0; i < per.count; i++) {
        uint32_t number = policy->numbers[per.first + i];
        const struct tg_component *component = &policy->components[number];
        uint64_t part = component->kind == TG_TOPIC ? tg_hash_topic(engine, message, component->a)
                                                    : subject->components[number];
        hash = tg_mix(hash, part);
    }
    return hash;
}

/* Writes down what a limit will charge, one `tg_plan` for each of its budgets, and fetches their words. */
static struct tg_plan *plan_limit(const struct tg_engine *engine, uint32_t slot, struct tg_range range,
                                  uint32_t index, uint64_t hash, uint64_t units, uint32_t scale, struct tg_plan *plan)
{
    const struct tg_budget *budget = &engine->policy.budgets[range.first];
    const struct tg_quota *quota = &engine->policy.quotas[range.first];
    for (uint32_t i = 0; i < range.count; i++, budget++, quota++, plan++) {
        plan->key = tg_key_make(slot, tg_mix(hash, budget->identity));
        tg_prefetch(&engine->table, plan->key);
        plan->cost = tg_cost_of(budget, units, scale);
        plan->quota = quota;
        plan->identity = budget->identity;
        plan->index = index + i;
    }
    return plan;
}

/* Whether a limit keeps count of what it lets through and has not ended: of what is acknowledged, of connections, and of
 * subscriptions, one made again being none more. */
static bool counts(const struct tg_entry *entry, const struct tg_message *message)
{
    if (entry->concurrent == UINT64_MAX) return false;
    return message->qos > 0 || message->event == TG_CONNECT || (message->event == TG_SUBSCRIBE && !message->again);
}

/* Whether it is larger than a limit allows, or asks for more. */
static bool too_much(const struct tg_entry *entry, const struct tg_limit *limit, const struct tg_message *message)
{
    if (message->event == TG_SUBSCRIBE && message->wild && (limit->flags & TG_NO_WILD)) return true;
    return message->payload > entry->size && !(message->event == TG_DELIVER && message->again);
}

/* By event and whether it is MQTT 5: the strictest for a crowd. A crowd is many: nobody is thrown out for what his neighbours
 * did. What an event does not know, or 3.x cannot say, is none. */
static const uint8_t crowd_most[TG_EVENTS][2] = {
    [TG_PUBLISH] = {TG_DROP, TG_REJECT}, [TG_CONNECT] = {TG_REJECT, TG_REJECT}, [TG_SUBSCRIBE] = {TG_REJECT, TG_REJECT},
    [TG_DELIVER] = {TG_DROP, TG_DROP}, [TG_WILL] = {TG_DROP, TG_DROP}, [TG_PACKET] = {TG_DELAY, TG_DELAY},
    [TG_AUTH_FAILURE] = {TG_OBSERVE, TG_OBSERVE},
};

/* What becomes of a message that is there `again`. A redelivery of QoS 2 may be with the receiver already: dropped or rejected
 * it would be left there as an orphan, without its PUBREL. It waits instead, and when it has waited for too long its sender must
 * come again. What must be delivered waits for as long as it takes. */
static uint32_t for_spared(const struct tg_message *message, uint32_t action, bool by_size)
{
    if (message->event == TG_SUBSCRIBE || (action != TG_DROP && action != TG_REJECT)) return action;
    return by_size ? TG_DISCONNECT : TG_DELAY;
}

static uint32_t then_for_spared(const struct tg_message *message, uint32_t then)
{
    return message->event == TG_PUBLISH ? TG_DISCONNECT : message->event == TG_DELIVER ? TG_DELAY : then;
}

static uint64_t scaled(uint64_t number, uint32_t scale)
{
    if (scale == TG_UNSCALED) return number;
    uint64_t less = number > UINT32_MAX ? number : number * scale >> 16;
    return less != 0 ? less : 1;
}

bool tg_by_name(const struct tg_policy *policy, const struct tg_limit *limit)
{
    for (uint32_t i = 0; i < limit->per.count; i++) {
        uint32_t kind = policy->components[policy->numbers[limit->per.first + i]].kind;
        if (kind == TG_CLIENT || kind == TG_USERNAME || kind == TG_CAPTURE) return true;
    }
    return false;
}

/* Of limits that do more than watch. */
static bool acts(const struct tg_limit *limit, const struct tg_subject *subject, uint32_t qos)
{
    return limit->actions[subject->version == 5][qos] != TG_OBSERVE;
}

/* The least of what the matching limits let a subscription have. */
static uint32_t least_extra(const struct tg_engine *engine, const struct tg_subject *subject, const struct tg_entry *entries,
                            uint32_t matched)
{
    uint32_t least = TG_NONE;
    for (uint32_t m = 0; m < matched; m++) {
        const struct tg_entry *entry = &entries[engine->matches[m].entry];
        if (entry->extra < least && acts(&engine->policy.limits[entry->limit], subject, 0)) least = entry->extra;
    }
    return least;
}

uint32_t tg_will_delay(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_profile *profile,
                       const struct tg_message *message)
{
    const struct tg_entry *entries = tg_entries(&engine->policy, profile);
    tg_new_topic(engine);
    uint32_t most = 0, matched = subject->exempt ? 0 : tg_match(engine, subject, profile, message);
    for (uint32_t m = 0; m < matched; m++) {
        const struct tg_entry *entry = &entries[engine->matches[m].entry];
        if (entry->extra == TG_NONE || entry->extra <= most) continue;
        if (acts(&engine->policy.limits[entry->limit], subject, message->qos)) most = entry->extra;
    }
    return most;
}

bool tg_delays(const struct tg_policy *policy, const struct tg_subject *subject, const struct tg_profile *profile,
               uint32_t event)
{
    const struct tg_entry *entries = tg_entries(policy, profile);
    for (uint32_t e = profile->of[event]; e < profile->of[event + 1] && !subject->exempt; e++)
        for (uint32_t qos = 0; qos < 3; qos++)
            if (policy->limits[entries[e].limit].actions[subject->version == 5][qos] == TG_DELAY) return true;
    return false;
}

/* Whether a limit has one count for all messages of a client. */
static bool counts_all(const struct tg_policy *policy, const struct tg_limit *limit)
{
    for (uint32_t i = 0; i < limit->per.count; i++)
        if (policy->components[policy->numbers[limit->per.first + i]].kind == TG_TOPIC) return false;
    return !limit->topics && !limit->retain && (limit->qos & 6) == 6;
}

uint64_t tg_least_window(const struct tg_engine *engine, const struct tg_subject *subject, const struct tg_profile *profile,
                         uint32_t event)
{
    const struct tg_entry *entries = tg_entries(&engine->policy, profile);
    uint64_t least = UINT64_MAX;
    for (uint32_t e = profile->of[event]; e < profile->of[event + 1] && !subject->exempt; e++) {
        const struct tg_limit *limit = &engine->policy.limits[entries[e].limit];
        if (entries[e].concurrent == UINT64_MAX || !counts_all(&engine->policy, limit)) continue;
        if (!acts(limit, subject, 1) || !acts(limit, subject, 2)) continue;
        const uint32_t *scales = engine->segment.scales[entries[e].slot].of;
        uint32_t scale = __atomic_load_n(&scales[subject->priority], __ATOMIC_RELAXED);
        uint64_t number = scaled(entries[e].concurrent, scale > TG_UNSCALED ? scale : TG_UNSCALED);
        if (number < least) least = number;
    }
    return least == UINT64_MAX ? 0 : least;
}

/* A message on its way to a client that is over no limit, but has to wait: whether the newest of its topic is enough. */
static void find_conflating(const struct tg_engine *engine, const struct tg_subject *subject, const struct tg_entry *entries,
                            const struct tg_message *message, struct tg_verdict *verdict)
{
    for (uint32_t m = 0; message->event == TG_DELIVER && m < verdict->matched && !verdict->conflates; m++) {
        if (engine->matches[m].entry == TG_NONE) continue;
        const struct tg_limit *limit = &engine->policy.limits[entries[engine->matches[m].entry].limit];
        if (!(limit->flags & TG_CONFLATE) || limit->actions[subject->version == 5][message->qos] != TG_DELAY) continue;
        verdict->conflates = true;
        verdict->slot = limit->slot;
    }
}

static void give_back(struct tg_engine *engine, uint32_t from)
{
    while (engine->taken_count > from) tg_window_free(engine, engine->taken[--engine->taken_count].place);
}

/* What a message that has just arrived must wait for because others do so already; 0 for nothing. Only who would wait there
 * himself is held up by those who wait. (One whose turn has come is not: two queues that it is in could each send it to the
 * other for ever.) */
static uint64_t queue_before(const struct tg_engine *engine, const struct tg_subject *subject, const struct tg_message *message,
                             const struct tg_entry *entry, const struct tg_limit *limit, uint64_t hash, bool has_window)
{
    uint32_t action = limit->actions[subject->version == 5][message->qos];
    if (message->again) action = for_spared(message, action, false);
    if (action != TG_DELAY) return 0;
    uint64_t key = tg_mix(hash, limit->identity);
    if (tg_turn_waits(engine, key)) return key;
    if (!has_window) return 0;
    key = tg_window_tag(entry->slot, key);
    return tg_turn_waits(engine, key) ? key : 0;
}

/* Not a part of the way by habit: what is run for every message shall lie together. */
__attribute__((noinline))
static void decide_in_full(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_profile *profile,
                           const struct tg_who *who, const struct tg_message *message, uint64_t now_ns, uint64_t habit,
                           struct tg_verdict *verdict)
{
    const struct tg_policy *policy = &engine->policy;
    const struct tg_entry *entries = tg_entries(policy, profile);
    uint32_t scalings = tg_scalings(engine), matched = verdict->matched = tg_match(engine, subject, profile, message);
    /* Whom the broker has refused may have claimed the name of one who is exempt. */
    if (message->event == TG_AUTH_FAILURE ? subject->exempt_there : subject->exempt) {
        for (uint32_t m = 0; m < matched && !message->ask; m++)
            tg_tally(engine, entries[engine->matches[m].entry].slot, TG_TALLY_PASSED);
        return;
    }
    if (message->event == TG_SUBSCRIBE) verdict->extra = least_extra(engine, subject, entries, matched);
    /* Between two messages the kernel has used the caches for other things: ask for all at once. */
    for (uint32_t m = 0; m < matched; m++) __builtin_prefetch(&entries[engine->matches[m].entry]);
    struct tg_plan *plan = engine->plans;
    for (uint32_t m = 0; m < matched; m++) {
        const struct tg_entry *entry = &entries[engine->matches[m].entry];
        uint32_t scale = __atomic_load_n(&engine->segment.scales[entry->slot].of[subject->priority], __ATOMIC_RELAXED);
        uint64_t hash = engine->hashes[m] = key_hash(engine, entry->per, subject, message);
        plan = plan_limit(engine, entry->slot, entry->rate, 0, hash, 1, scale, plan);
        if (entry->bandwidth.count != 0)
            plan = plan_limit(engine, entry->slot, entry->bandwidth, TG_MAX_BUDGETS / 2, hash, message->packet, scale, plan);
    }
    struct tg_charge c = {
        .table = &engine->table, .secret = engine->segment.secret[1], .source = subject->source,
        .vicinity = subject->vicinity, .now = tg_ticks(now_ns),
    };
    plan = engine->plans;
    uint32_t charged = 0, decider_slot = 0;
    bool refused = false, usual = true; /* usual: all that it meets are buckets of its own, and they are not over */
    for (uint32_t m = 0; m < matched; m++) {
        struct tg_match *found = &engine->matches[m];
        const struct tg_entry *entry = &entries[found->entry];
        const struct tg_limit *limit = &policy->limits[entry->limit];
        uint32_t count = entry->rate.count + entry->bandwidth.count, mine = charged, my_slots = engine->taken_count;
        uint64_t wait = 0, queue = 0;
        bool by_size = too_much(entry, limit, message), over = by_size, crowd = false, crowded = false;
        bool has_window = counts(entry, message), by_window = false;
        if (engine->queues != 0 && message->turn == 0 && !over) {
            queue = queue_before(engine, subject, message, entry, limit, engine->hashes[m], has_window);
            over = queue != 0;
        }
        c.slot = &engine->segment.slot[entry->slot];
        c.slot_number = entry->slot;
        for (uint32_t b = 0; b < count; b++, plan++) {
            uint64_t longer;
            bool by_crowd = false;
            c.plan = plan;
            c.commit = !refused && !over && !message->ask;
            bool passes = tg_charge_budget(&c, &longer, &engine->done[charged], &by_crowd);
            crowded |= by_crowd;
            if (!passes) {
                over = true;
                crowd |= by_crowd;
                if (longer > wait) wait = longer;
            } else if (c.commit) {
                charged++;
            }
        }
        if (has_window) {
            uint32_t scale = __atomic_load_n(&engine->segment.scales[entry->slot].of[subject->priority], __ATOMIC_RELAXED);
            struct tg_window window = {entry->slot, tg_mix(engine->hashes[m], limit->identity), subject->source, subject->vicinity, scaled(entry->concurrent, scale)};
            struct tg_taken *taken = &engine->taken[engine->taken_count];
            bool by_crowd = false, commit = !refused && !over && !message->ask;
            /* Who never says the last word keeps half of a window from the others, not all of it. */
            bool shared = !(limit->flags & TG_OWN), lasts = message->qos == 2 || message->event == TG_DELIVER;
            bool owes = shared && lasts && message->owed >= (window.number > 1 ? window.number / 2 : 1);
            bool passes = !owes && tg_window_take(engine, &window, commit, taken, &by_crowd);
            crowded |= by_crowd;
            if (!passes) {
                by_window = !over;
                crowd |= by_crowd && by_window;
                if (queue == 0 && by_window) queue = owes ? TG_ITSELF : taken->tag;
                over = true;
            } else if (commit && engine->own_shares != NULL) {
                engine->taken_count++;
                engine->taken_shared |= shared || by_crowd;
            }
        }
        if (crowded) tg_tally(engine, entry->slot, TG_TALLY_CROWDED);
        usual &= !over && !has_window && !crowded;
        crowd &= !by_size;
        if (!over) continue;
        /* Who is told of: the key, or all that count together. */
        uint64_t whose = tg_mix(crowd ? subject->vicinity : engine->hashes[m], limit->identity);
        uint32_t action = limit->actions[subject->version == 5][message->qos];
        uint32_t most = crowd_most[limit->event][subject->version == 5];
        if (crowd && action > most) action = most;
        tg_take_back(engine->done, mine, charged);
        charged = mine;
        give_back(engine, my_slots);
        found->entry = TG_NONE; /* it did not pass this one */
        if (by_size && action == TG_DELAY) action = limit->then[subject->version == 5][message->qos]; /* no wait will help */
        if (message->again) action = for_spared(message, action, by_size);
        if (action == TG_BAN && message->ask && message->event == TG_CONNECT && tg_by_name(policy, limit)) {
            /* Nobody is banned for a name that he only claims: the broker has to say first that it is his. */
            if (!by_size) continue;
            action = TG_REJECT;
        }
        if (action == TG_OBSERVE) {
            if (message->quiet) continue;
            tg_tally(engine, limit->slot, TG_OBSERVE);
            if (who != NULL && engine->tallies != NULL)
                tg_note(engine, who, subject->source, message, limit->slot, whose, TG_OBSERVE, crowd, now_ns);
        } else if (action != TG_PASS) {
            tg_take_back(engine->done, 0, charged);
            charged = 0;
            give_back(engine, 0);
            refused = true;
            uint64_t wait_ns = wait / TG_TICKS + 1;
            bool longest = wait_ns > verdict->wait;
            if (longest) verdict->wait = wait_ns;
            if (by_size) verdict->by_size = true;
            /* Of several that delay, it waits for the one that takes longest. */
            if (action > verdict->action || (action == TG_DELAY && verdict->action == TG_DELAY && longest)) {
                verdict->action = action;
                verdict->limit = entry->limit;
                verdict->slot = limit->slot;
                verdict->crowd = crowd;
                verdict->by_window = by_window;
                verdict->whose = whose;
                verdict->queue = queue != 0 ? queue : whose;
                verdict->then = limit->then[subject->version == 5][message->qos];
                if (crowd && verdict->then > most) verdict->then = (uint8_t)most;
                if (message->again) verdict->then = (uint8_t)then_for_spared(message, verdict->then);
                verdict->max_delay = limit->max_delay;
                verdict->conflates = (limit->flags & TG_CONFLATE) != 0;
                decider_slot = limit->slot;
            }
        }
    }
    if (refused) {
        if (verdict->action == TG_DELAY && message->held) return;
        tg_tally(engine, decider_slot, verdict->action);
        if (who != NULL && engine->tallies != NULL)
            tg_note(engine, who, subject->source, message, decider_slot, verdict->whose, (uint8_t)verdict->action, verdict->crowd, now_ns);
        return;
    }
    if (message->ask) {
        find_conflating(engine, subject, entries, message, verdict);
        return;
    }
    for (uint32_t m = 0; m < matched; m++)
        if (engine->matches[m].entry != TG_NONE) tg_tally(engine, entries[engine->matches[m].entry].slot, TG_TALLY_PASSED);
    if (usual) tg_keep_habit(engine, habit, subject, entries, matched, charged, scalings);
}

void tg_decide(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_profile *profile,
               const struct tg_who *who, const struct tg_message *message, uint64_t now_ns, struct tg_verdict *verdict)
{
    *verdict = (struct tg_verdict){.action = TG_PASS, .limit = TG_NONE, .slot = TG_NONE, .extra = TG_NONE};
    engine->taken_count = 0;
    engine->taken_shared = false;
    tg_new_topic(engine);
    uint64_t habit = tg_habit_key(engine, subject, message);
    verdict->matched = tg_by_habit(engine, habit, message, tg_ticks(now_ns), &verdict->habit);
    if (verdict->matched == 0) decide_in_full(engine, subject, profile, who, message, now_ns, habit, verdict);
}

void tg_late(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_who *who,
             const struct tg_message *message, const struct tg_verdict *verdict, uint32_t action, uint64_t now_ns)
{
    if (verdict->limit == TG_NONE || action >= TG_ACTIONS) return;
    uint32_t slot = engine->policy.limits[verdict->limit].slot;
    tg_tally(engine, slot, action);
    if (engine->tallies != NULL && action > TG_DELAY) /* what goes on after all is nothing to tell */
        tg_note(engine, who, subject->source, message, slot, tg_mix(verdict->whose, action), (uint8_t)action, verdict->crowd, now_ns);
}

void tg_count(const struct tg_engine *engine, uint32_t slot, uint32_t action)
{
    if (slot < engine->segment.slots && action < TG_ACTIONS) tg_tally(engine, slot, action);
}
