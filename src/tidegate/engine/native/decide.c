/* One message: which limits match, what they cost it, who is the strictest to refuse it.
 *
 * Limits are found by walking the topic's levels down a tree, so the cost follows the topic's depth and the limits that match,
 * not the limits that are loaded. All keys are hashed and fetched before the first is charged: their cache misses overlap.
 * Budgets are charged in the policy's order. When one refuses, the earlier charges are taken back and the later limits
 * only asked, as one of them may be stricter. Two processes that do so at once may each refuse what would have passed alone;
 * neither can admit too much. */
#include <string.h>

#include "gcra.h"
#include "hash.h"

struct walk {
    struct tg_engine *engine;
    const struct tg_message *message;
    const uint32_t *entry_of;   /* of the profile: by limit, its entry + 1 */
    bool dollar;                /* wildcards of the first level do not match (4.7.2) */
    uint32_t matched;
};

static const uint32_t *entry_index(const struct tg_profile *profile) { return (const uint32_t *)(profile + 1); }

static const struct tg_entry *entries_of(const struct tg_policy *policy, const struct tg_profile *profile)
{
    return (const void *)((const uint8_t *)profile + tg_entries_at(policy));
}

/* Splits as far as the tree goes; a topic with more levels has one more than the tree. */
static void split(struct tg_levels *levels, const char *topic, size_t size, uint32_t depth)
{
    const char *end = topic + size;
    levels->count = 0;
    for (;;) {
        if (levels->count == depth) {
            levels->count++;
            return;
        }
        const char *stop = topic;
        while (stop < end && *stop != '/') stop++; /* levels are short: a call of memchr costs more */
        uint32_t i = levels->count++;
        levels->at[i] = topic;
        levels->size[i] = (uint32_t)(stop - topic);
        levels->hash[i] = tg_quick(topic, (size_t)(stop - topic));
        if (stop == end) return;
        topic = stop + 1;
    }
}

static uint32_t child_of(const struct tg_policy *policy, uint32_t node, const struct tg_levels *levels, uint32_t level)
{
    uint32_t at = (uint32_t)tg_mix(levels->hash[level], node) & policy->edge_mask;
    for (uint32_t i; (i = policy->edge_table[at]) != 0; at = (at + 1) & policy->edge_mask) {
        const struct tg_edge *edge = &policy->edges[i - 1];
        if (edge->parent == node && edge->text.count == levels->size[level]
            && memcmp(policy->text + edge->text.first, levels->at[level], edge->text.count) == 0)
            return edge->child;
    }
    return TG_NONE;
}

static bool wants(const struct tg_limit *limit, const struct tg_message *message)
{
    return limit->qos >> message->qos & 1 && (!limit->retain || message->retain);
}

static void name_limit(struct walk *walk, uint32_t limit, uint32_t entry)
{
    if (wants(&walk->engine->policy.limits[limit], walk->message))
        walk->engine->matches[walk->matched++] = (struct tg_match){limit, entry};
}

static void collect(struct walk *walk, struct tg_range range)
{
    struct tg_engine *engine = walk->engine;
    for (uint32_t i = 0; i < range.count; i++) {
        uint32_t number = engine->policy.numbers[range.first + i], limit = number >> 1;
        if (number & 1) {
            engine->excepted[limit] = engine->epoch;
        } else if (walk->entry_of[limit] != 0 && engine->stamps[limit] != engine->epoch) {
            engine->stamps[limit] = engine->epoch; /* by several of its filters, still once */
            name_limit(walk, limit, walk->entry_of[limit] - 1);
        }
    }
}

static void descend(struct walk *walk, uint32_t at, uint32_t level)
{
    const struct tg_policy *policy = &walk->engine->policy;
    const struct tg_node *node = &policy->nodes[at];
    bool hidden = level == 0 && walk->dollar;
    if (!hidden) collect(walk, node->below);
    if (level == walk->engine->levels.count) {
        collect(walk, node->here);
        return;
    }
    if (level == policy->depth) return;
    if (node->plus != TG_NONE && !hidden) descend(walk, node->plus, level + 1);
    uint32_t child = child_of(policy, at, &walk->engine->levels, level);
    if (child != TG_NONE) descend(walk, child, level + 1);
}

static void next_epoch(struct tg_engine *engine)
{
    if (++engine->epoch != 0) return;
    size_t bytes = engine->policy.head->limits * sizeof(uint32_t);
    memset(engine->stamps, 0, bytes);
    memset(engine->excepted, 0, bytes);
    engine->epoch = 1;
}

static uint64_t hash_topic(struct tg_engine *engine, const struct tg_message *message, uint32_t levels)
{
    uint32_t wanted = levels;
    if (wanted < TG_CACHED_LEVELS && engine->topic_known >> wanted & 1) return engine->topic_hash[wanted];
    size_t size = message->topic_size;
    if (levels > 0) {
        for (size_t i = 0; i < message->topic_size; i++) {
            if (message->topic[i] != '/' || --levels > 0) continue;
            size = i;
            break;
        }
    }
    uint64_t hash = tg_siphash(engine->segment.secret, message->topic, size);
    if (wanted < TG_CACHED_LEVELS) {
        engine->topic_hash[wanted] = hash;
        engine->topic_known |= 1u << wanted;
    }
    return hash;
}

static uint32_t search(struct tg_engine *engine, const struct tg_profile *profile, const struct tg_message *message)
{
    const struct tg_policy *policy = &engine->policy;
    struct walk walk = {.engine = engine, .message = message, .entry_of = entry_index(profile)};
    const struct tg_entry *entries = entries_of(policy, profile);
    const uint32_t *always = walk.entry_of + policy->head->limits;
    for (uint32_t i = profile->always[message->event]; i < profile->always[message->event + 1]; i++)
        name_limit(&walk, entries[always[i]].limit, always[i]);
    uint32_t root = policy->head->roots[message->event];
    if (root == TG_NONE || message->topic_size == 0) return walk.matched;
    next_epoch(engine);
    walk.dollar = message->topic[0] == '$';
    split(&engine->levels, message->topic, message->topic_size, policy->depth);
    descend(&walk, root, 0);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < walk.matched; i++) {
        struct tg_match found = engine->matches[i];
        if (engine->excepted[found.limit] == engine->epoch) continue;
        uint32_t at = kept++; /* few match, and nearly in order */
        for (; at > 0 && engine->matches[at - 1].limit > found.limit; at--) engine->matches[at] = engine->matches[at - 1];
        engine->matches[at] = found;
    }
    return kept;
}

/* The limits that match, in the policy's order, to engine->matches. Clients publish to the same topics again and again: what
 * met a topic lately is remembered, which costs a quarter of the search. */
static uint32_t match(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_profile *profile,
                      const struct tg_message *message)
{
    engine->topic_known = 0;
    if (engine->policy.head->roots[message->event] == TG_NONE) return search(engine, profile, message);
    uint64_t what = (uint64_t)message->event << 3 | (uint64_t)message->qos << 1 | (message->retain != 0);
    uint64_t key = tg_mix(tg_mix(hash_topic(engine, message, 0), subject->profile), what);
    struct tg_seen *seen = &engine->seen[key & (TG_SEEN - 1)];
    if (seen->key == key) {
        for (uint32_t i = 0; i < seen->count; i++) engine->matches[i] = seen->matches[i];
        return seen->count;
    }
    uint32_t count = search(engine, profile, message);
    if (count <= TG_SEEN_MATCHES) {
        seen->key = key;
        seen->count = count;
        for (uint32_t i = 0; i < count; i++) seen->matches[i] = engine->matches[i];
    }
    return count;
}

uint32_t tg_matching(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_profile *profile,
                     const struct tg_message *message, uint32_t *out)
{
    uint32_t count = match(engine, subject, profile, message);
    for (uint32_t i = 0; i < count; i++) out[i] = engine->matches[i].limit;
    return count;
}

/* The hash of one limit's key for this message. */
static uint64_t key_hash(struct tg_engine *engine, struct tg_range per, const struct tg_subject *subject,
                         const struct tg_message *message)
{
    const struct tg_policy *policy = &engine->policy;
    uint64_t hash = engine->segment.secret[0];
    for (uint32_t i = 0; i < per.count; i++) {
        uint32_t number = policy->numbers[per.first + i];
        const struct tg_component *component = &policy->components[number];
        uint64_t part = component->kind == TG_TOPIC ? hash_topic(engine, message, component->a)
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

static void tally(const struct tg_engine *engine, uint32_t slot, uint32_t what)
{
    if (engine->tallies == NULL) return;
    uint64_t *word = engine->tallies + (size_t)what * engine->segment.slots + slot;
    __atomic_store_n(word, __atomic_load_n(word, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

/* By event and whether it is MQTT 5: the strictest for a crowd. A crowd is many: nobody is thrown out for what his neighbours
 * did. What an event does not know, or 3.x cannot say, is none. */
static const uint8_t crowd_most[TG_EVENTS][2] = {
    [TG_PUBLISH] = {TG_DROP, TG_REJECT}, [TG_CONNECT] = {TG_REJECT, TG_REJECT}, [TG_SUBSCRIBE] = {TG_REJECT, TG_REJECT},
    [TG_DELIVER] = {TG_DROP, TG_DROP}, [TG_WILL] = {TG_DROP, TG_DROP}, [TG_PACKET] = {TG_DELAY, TG_DELAY},
    [TG_AUTH_FAILURE] = {TG_OBSERVE, TG_OBSERVE},
};

/* A redelivery over its budget passes, as the receiver may hold the message already and must not be left with it: so many at
 * once for each key, one more each second. A client redelivers what it had in flight when its last connection ended,
 * by default at most 20 with Mosquitto; one that goes on is evading the limit, over however many connections. */
#define FOR_REDELIVERY 0x616761696eu
#define REDELIVERIES 20u

static bool may_pass_again(const struct tg_charge *c, const struct tg_limit *limit, uint64_t hash)
{
    const uint64_t second = (uint64_t)1000000000 * TG_TICKS;
    struct tg_key key = tg_key_make(limit->slot, tg_mix(tg_mix(hash, limit->identity), FOR_REDELIVERY));
    struct tg_word *where;
    uint64_t wait;
    return tg_charge_new(c->table, key, (struct tg_cost){second, REDELIVERIES * second, second}, c->now, true, &wait, &where)
           == TG_CHARGED;
}

void tg_decide(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_profile *profile,
               const struct tg_who *who, const struct tg_message *message, uint64_t now_ns, struct tg_verdict *verdict)
{
    const struct tg_policy *policy = &engine->policy;
    const struct tg_entry *entries = entries_of(policy, profile);
    uint32_t matched = match(engine, subject, profile, message);
    *verdict = (struct tg_verdict){.action = TG_PASS, .limit = TG_NONE, .matched = matched};
    if (subject->exempt) {
        for (uint32_t m = 0; m < matched; m++) tally(engine, entries[engine->matches[m].entry].slot, TG_TALLY_PASSED);
        return;
    }
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
    uint64_t decider_key = 0;
    bool refused = false;
    for (uint32_t m = 0; m < matched; m++) {
        struct tg_match *found = &engine->matches[m];
        const struct tg_entry *entry = &entries[found->entry];
        const struct tg_limit *limit = &policy->limits[entry->limit];
        uint32_t count = entry->rate.count + entry->bandwidth.count, mine = charged;
        uint64_t wait = 0;
        bool by_size = message->payload > entry->size, over = by_size, crowd = false, crowded = false;
        c.slot = &engine->segment.slot[entry->slot];
        c.slot_number = entry->slot;
        for (uint32_t b = 0; b < count; b++, plan++) {
            uint64_t longer;
            bool by_crowd = false;
            c.plan = plan;
            c.commit = !refused && !over;
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
        if (crowded) tally(engine, entry->slot, TG_TALLY_CROWDED);
        crowd &= !by_size;
        if (!over) continue;
        /* Who is told of: the key, or all that count together. */
        uint64_t whose = tg_mix(crowd ? subject->vicinity : engine->hashes[m], limit->identity);
        uint32_t action = limit->actions[subject->version == 5][message->qos];
        uint32_t most = crowd_most[limit->event][subject->version == 5];
        if (crowd && action > most) action = most;
        tg_take_back(engine->done, mine, charged);
        charged = mine;
        found->entry = TG_NONE; /* it did not pass this one */
        if (message->again && action > TG_OBSERVE) action = may_pass_again(&c, limit, engine->hashes[m]) ? TG_OBSERVE : TG_DISCONNECT;
        if (action == TG_OBSERVE) {
            tally(engine, limit->slot, TG_OBSERVE);
            if (who != NULL && engine->tallies != NULL)
                tg_note(engine, who, subject->source, message, limit->slot, whose, TG_OBSERVE, crowd, now_ns);
        } else if (action != TG_PASS) {
            tg_take_back(engine->done, 0, charged);
            charged = 0;
            refused = true;
            uint64_t wait_ns = wait / TG_TICKS + 1;
            if (wait_ns > verdict->wait) verdict->wait = wait_ns;
            if (by_size) verdict->by_size = true;
            if (action > verdict->action) {
                verdict->action = action;
                verdict->limit = entry->limit;
                verdict->crowd = crowd;
                decider_slot = limit->slot;
                decider_key = whose;
            }
        }
    }
    if (refused) {
        tally(engine, decider_slot, verdict->action);
        if (who != NULL && engine->tallies != NULL)
            tg_note(engine, who, subject->source, message, decider_slot, decider_key, (uint8_t)verdict->action, verdict->crowd, now_ns);
        return;
    }
    for (uint32_t m = 0; m < matched; m++)
        if (engine->matches[m].entry != TG_NONE) tally(engine, entries[engine->matches[m].entry].slot, TG_TALLY_PASSED);
}
