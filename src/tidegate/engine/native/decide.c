/* One message, or one connection: which limits match, what they cost it, who is the strictest to refuse it.
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

/* Whether a limit keeps count of what it lets through and has not ended: of what is acknowledged, and of connections. */
static bool counts(const struct tg_entry *entry, const struct tg_message *message)
{
    return entry->concurrent != UINT64_MAX && (message->qos > 0 || message->event == TG_CONNECT);
}

/* By event and whether it is MQTT 5: the strictest for a crowd. A crowd is many: nobody is thrown out for what his neighbours
 * did. What an event does not know, or 3.x cannot say, is none. */
static const uint8_t crowd_most[TG_EVENTS][2] = {
    [TG_PUBLISH] = {TG_DROP, TG_REJECT}, [TG_CONNECT] = {TG_REJECT, TG_REJECT}, [TG_SUBSCRIBE] = {TG_REJECT, TG_REJECT},
    [TG_DELIVER] = {TG_DROP, TG_DROP}, [TG_WILL] = {TG_DROP, TG_DROP}, [TG_PACKET] = {TG_DELAY, TG_DELAY},
    [TG_AUTH_FAILURE] = {TG_OBSERVE, TG_OBSERVE},
};

/* A redelivery of QoS 2 may be with the receiver already: dropped or rejected it would be left there as an orphan, without its
 * PUBREL. It waits instead, and when it has waited for too long its sender must come again. */
static uint32_t for_redelivery(uint32_t action, bool by_size)
{
    if (action != TG_DROP && action != TG_REJECT) return action;
    return by_size ? TG_DISCONNECT : TG_DELAY;
}

static uint64_t scaled(uint64_t number, uint32_t scale)
{
    if (scale == TG_UNSCALED) return number;
    uint64_t less = number > UINT32_MAX ? number : number * scale >> 16;
    return less != 0 ? less : 1;
}

/* Whether a limit counts by what a client calls itself. */
static bool by_name(const struct tg_policy *policy, const struct tg_limit *limit)
{
    for (uint32_t i = 0; i < limit->per.count; i++) {
        uint32_t kind = policy->components[policy->numbers[limit->per.first + i]].kind;
        if (kind == TG_CLIENT || kind == TG_USERNAME || kind == TG_CAPTURE) return true;
    }
    return false;
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
    if (message->again) action = for_redelivery(action, false);
    if (action != TG_DELAY) return 0;
    uint64_t key = tg_mix(hash, limit->identity);
    if (tg_turn_waits(engine, key)) return key;
    if (!has_window) return 0;
    key = tg_window_tag(entry->slot, key);
    return tg_turn_waits(engine, key) ? key : 0;
}

void tg_decide(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_profile *profile,
               const struct tg_who *who, const struct tg_message *message, uint64_t now_ns, struct tg_verdict *verdict)
{
    const struct tg_policy *policy = &engine->policy;
    const struct tg_entry *entries = entries_of(policy, profile);
    uint32_t matched = match(engine, subject, profile, message);
    *verdict = (struct tg_verdict){.action = TG_PASS, .limit = TG_NONE, .matched = matched};
    engine->taken_count = 0;
    engine->taken_shared = false;
    /* Whom the broker has refused may have claimed the name of one who is exempt. */
    if (message->event == TG_AUTH_FAILURE ? subject->exempt_there : subject->exempt) {
        for (uint32_t m = 0; m < matched && !message->ask; m++)
            tally(engine, entries[engine->matches[m].entry].slot, TG_TALLY_PASSED);
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
    bool refused = false;
    for (uint32_t m = 0; m < matched; m++) {
        struct tg_match *found = &engine->matches[m];
        const struct tg_entry *entry = &entries[found->entry];
        const struct tg_limit *limit = &policy->limits[entry->limit];
        uint32_t count = entry->rate.count + entry->bandwidth.count, mine = charged, my_slots = engine->taken_count;
        uint64_t wait = 0, queue = 0;
        bool by_size = message->payload > entry->size, over = by_size, crowd = false, crowded = false;
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
            /* Who never sends PUBREL keeps half of a window from the others, not all of it. */
            bool owes = message->qos == 2 && !limit->own && message->owed >= (window.number > 1 ? window.number / 2 : 1);
            bool passes = !owes && tg_window_take(engine, &window, commit, taken, &by_crowd);
            crowded |= by_crowd;
            if (!passes) {
                by_window = !over;
                crowd |= by_crowd && by_window;
                if (queue == 0 && by_window) queue = owes ? TG_ITSELF : taken->tag;
                over = true;
            } else if (commit && engine->own_shares != NULL) {
                engine->taken_count++;
                engine->taken_shared |= !limit->own || by_crowd;
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
        give_back(engine, my_slots);
        found->entry = TG_NONE; /* it did not pass this one */
        if (by_size && action == TG_DELAY) action = limit->then[subject->version == 5][message->qos]; /* no wait will help */
        if (message->again) action = for_redelivery(action, by_size);
        if (action == TG_BAN && message->ask && message->event == TG_CONNECT && by_name(policy, limit)) {
            /* Nobody is banned for a name that he only claims: the broker has to say first that it is his. */
            if (!by_size) continue;
            action = TG_REJECT;
        }
        if (action == TG_OBSERVE) {
            if (message->quiet) continue;
            tally(engine, limit->slot, TG_OBSERVE);
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
                verdict->crowd = crowd;
                verdict->by_window = by_window;
                verdict->whose = whose;
                verdict->queue = queue != 0 ? queue : whose;
                verdict->then = limit->then[subject->version == 5][message->qos];
                if (crowd && verdict->then > most) verdict->then = (uint8_t)most;
                if (message->again) verdict->then = TG_DISCONNECT;
                verdict->max_delay = limit->max_delay;
                decider_slot = limit->slot;
            }
        }
    }
    if (refused) {
        if (verdict->action == TG_DELAY && message->held) return;
        tally(engine, decider_slot, verdict->action);
        if (who != NULL && engine->tallies != NULL)
            tg_note(engine, who, subject->source, message, decider_slot, verdict->whose, (uint8_t)verdict->action, verdict->crowd, now_ns);
        return;
    }
    if (message->ask) return;
    for (uint32_t m = 0; m < matched; m++)
        if (engine->matches[m].entry != TG_NONE) tally(engine, entries[engine->matches[m].entry].slot, TG_TALLY_PASSED);
}

void tg_late(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_who *who,
             const struct tg_message *message, const struct tg_verdict *verdict, uint32_t action, uint64_t now_ns)
{
    if (verdict->limit == TG_NONE || action >= TG_ACTIONS) return;
    uint32_t slot = engine->policy.limits[verdict->limit].slot;
    tally(engine, slot, action);
    if (engine->tallies != NULL)
        tg_note(engine, who, subject->source, message, slot, tg_mix(verdict->whose, action), (uint8_t)action, verdict->crowd, now_ns);
}
