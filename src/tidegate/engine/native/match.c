/* Which limits a message meets.
 *
 * They are found by walking the topic's levels down a tree, so the cost follows the topic's depth and the limits that match,
 * not the limits that are loaded.
 *
 * A subscription is met by limits whose filters cover its own: every topic that it can get matches them. The same tree is
 * walked: a `+` of the subscription is covered by `+` and `#` only, its `#` by `#` only. What it shares is walked twice: its
 * FILTER like any other, and NAME/FILTER down the tree of the policy's own $share/NAME/FILTER. */
#include <string.h>

#include "engine.h"
#include "hash.h"

struct walk {
    struct tg_engine *engine;
    const struct tg_message *message;
    const uint32_t *entry_of;   /* of the profile: by limit, its entry + 1 */
    uint32_t first;             /* the level at which the topic begins; before it stands the NAME of a share */
    bool dollar;                /* wildcards of the topic's first level do not match (4.7.2) */
    bool covers;                /* it is a filter */
    uint32_t matched;
};

static const uint32_t *entry_index(const struct tg_profile *profile) { return (const uint32_t *)(profile + 1); }

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

/* A level of what is walked that is `#`: whatever may follow. Only what a policy has below covers it; but as every topic has a
 * first level, `#` is no more than `+/#`. */
static bool is_rest(const struct walk *walk, uint32_t level)
{
    const struct tg_levels *levels = &walk->engine->levels;
    return walk->covers && level >= walk->first && levels->size[level] == 1 && levels->at[level][0] == '#';
}

static void descend(struct walk *walk, uint32_t at, uint32_t level)
{
    const struct tg_policy *policy = &walk->engine->policy;
    const struct tg_node *node = &policy->nodes[at];
    bool hidden = level == walk->first && walk->dollar;
    if (!hidden) collect(walk, node->below);
    if (level == walk->engine->levels.count) {
        collect(walk, node->here);
        return;
    }
    if (level == policy->depth) return;
    if (is_rest(walk, level)) {
        if (level == walk->first && node->plus != TG_NONE) collect(walk, policy->nodes[node->plus].below);
        return;
    }
    if (node->plus != TG_NONE && !hidden) descend(walk, node->plus, level + 1);
    uint32_t child = child_of(policy, at, &walk->engine->levels, level); /* none for a `+`: a policy's own is no child */
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

static inline uint64_t hash_topic(struct tg_engine *engine, const struct tg_message *message, uint32_t levels)
{
    uint32_t wanted = levels;
    if (wanted < TG_CACHED_LEVELS && engine->topic_known >> wanted & 1) return engine->topic_hash[wanted];
    const char *topic = message->topic + message->behind;
    size_t size = message->topic_size - message->behind;
    if (levels > 0) {
        for (size_t i = 0; i < size; i++) {
            if (topic[i] != '/' || --levels > 0) continue;
            size = i;
            break;
        }
    }
    uint64_t hash = tg_siphash(engine->segment.secret, topic, size);
    if (wanted < TG_CACHED_LEVELS) {
        engine->topic_hash[wanted] = hash;
        engine->topic_known |= 1u << wanted;
    }
    return hash;
}

uint64_t tg_hash_topic(struct tg_engine *engine, const struct tg_message *message, uint32_t levels)
{
    return hash_topic(engine, message, levels);
}

#define SHARE "$share/"

/* $share/NAME/FILTER, in every version: 3.x has none by the standard, but brokers share there too. */
void tg_read_filter(struct tg_message *message)
{
    const char *text = message->topic, *end = text + message->topic_size;
    message->behind = 0;
    if (message->topic_size > sizeof SHARE - 1 && memcmp(text, SHARE, sizeof SHARE - 1) == 0) {
        const char *slash = memchr(text + sizeof SHARE - 1, '/', message->topic_size - (sizeof SHARE - 1));
        if (slash != NULL && slash + 1 < end) message->behind = (uint32_t)(slash + 1 - text);
    }
    text += message->behind;
    message->wild = text < end && (*text == '+' || *text == '#');
    message->payload = 1;
    for (; text < end; text++) message->payload += *text == '/';
}

/* Walks the topic, or what stands behind $share/, down one tree. */
static void walk_tree(struct walk *walk, uint32_t root, const char *text, size_t size)
{
    struct tg_engine *engine = walk->engine;
    if (root == TG_NONE) return;
    split(&engine->levels, text, size, engine->policy.depth);
    descend(walk, root, 0);
}

static uint32_t search(struct tg_engine *engine, const struct tg_profile *profile, const struct tg_message *message)
{
    const struct tg_policy *policy = &engine->policy;
    struct walk walk = {.engine = engine, .message = message, .entry_of = entry_index(profile)};
    const struct tg_entry *entries = tg_entries(policy, profile);
    const uint32_t *always = walk.entry_of + policy->head->limits;
    for (uint32_t i = profile->always[message->event]; i < profile->always[message->event + 1]; i++)
        name_limit(&walk, entries[always[i]].limit, always[i]);
    uint32_t root = policy->head->roots[message->event];
    if (root == TG_NONE || message->topic_size == 0) return walk.matched;
    next_epoch(engine);
    const char *topic = message->topic + message->behind;
    walk.dollar = topic[0] == '$';
    walk.covers = message->event == TG_SUBSCRIBE;
    walk_tree(&walk, root, topic, message->topic_size - message->behind);
    if (message->behind != 0) {
        walk.first = 1;
        walk_tree(&walk, policy->head->roots[TG_SHARES], message->topic + sizeof SHARE - 1,
                  message->topic_size - (sizeof SHARE - 1));
    }
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

/* Clients publish to the same topics again and again: what met a topic lately is remembered, which costs a quarter of the
 * search. */
uint32_t tg_match(struct tg_engine *engine, const struct tg_subject *subject, const struct tg_profile *profile,
                  const struct tg_message *message)
{
    if (engine->policy.head->roots[message->event] == TG_NONE) return search(engine, profile, message);
    uint64_t what = (uint64_t)message->event << 3 | (uint64_t)message->qos << 1 | (message->retain != 0);
    uint64_t key = tg_mix(tg_mix(hash_topic(engine, message, 0), subject->profile), what);
    if (message->behind != 0) key = tg_mix(key, tg_siphash(engine->segment.secret, message->topic, message->behind));
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
    tg_new_topic(engine);
    uint32_t count = tg_match(engine, subject, profile, message);
    for (uint32_t i = 0; i < count; i++) out[i] = engine->matches[i].limit;
    return count;
}
