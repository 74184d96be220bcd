/* What a client is: its classes, the hashes that its budgets are kept under, and the limits that can meet it. Computed
 * once for a connection when the broker has accepted it and again after a reload; messages only look things up. For
 * limits on connecting it is computed before: at accept, when it has said nothing, and of what its CONNECT claims. */
#include <string.h>

#include "engine.h"
#include "hash.h"

enum { GLOB_END, GLOB_TEXT, GLOB_RUN, GLOB_ONE, GLOB_CAPTURE };
/* A pattern is a row of tokens: GLOB_TEXT, two bytes of length, the bytes; GLOB_RUN; GLOB_ONE; GLOB_CAPTURE, its number.
 * engine/format.py writes them; they are read with care, because a checksum is no proof of sense. */

struct scan { const uint8_t *at, *end; };

static struct scan next_token(struct scan pattern)
{
    if (*pattern.at == GLOB_TEXT) {
        size_t size = pattern.end - pattern.at >= 3 ? 3u + (pattern.at[1] | (size_t)pattern.at[2] << 8) : 0;
        pattern.at = size == 0 || size > (size_t)(pattern.end - pattern.at) ? pattern.end : pattern.at + size;
    } else if (*pattern.at == GLOB_CAPTURE) {
        pattern.at = pattern.end - pattern.at >= 2 ? pattern.at + 2 : pattern.end;
    } else {
        pattern.at++;
    }
    return pattern;
}

/* The bytes that one character of UTF-8 takes at `at`. */
static size_t one_character(const char *at, const char *end)
{
    const char *next = at + 1;
    while (next < end && ((uint8_t)*next & 0xc0) == 0x80) next++;
    return (size_t)(next - at);
}

/* Glob matching with one place to go back to, the last run: an earlier run never needs more than its shortest match.
 * So a text is read at most once per byte of the text between two runs, whatever the pattern. */
static bool glob(const char *pattern_text, uint32_t pattern_size, const char *text, uint32_t text_size,
                 struct tg_piece captures[TG_MAX_CAPTURES])
{
    struct scan pattern = {(const uint8_t *)pattern_text, (const uint8_t *)pattern_text + pattern_size};
    struct scan back = {NULL, NULL};
    const char *at = text, *end = text + text_size, *back_at = NULL;
    for (;;) {
        bool fits = true;
        if (pattern.at == pattern.end) {
            if (at == end) return true;
            fits = false;
        } else if (*pattern.at == GLOB_RUN || *pattern.at == GLOB_CAPTURE) {
            bool capture = *pattern.at == GLOB_CAPTURE;
            size_t least = 0;
            if (capture) {
                if (at == end) return false; /* a capture has at least one character, and none is left */
                least = one_character(at, end);
                if (pattern.end - pattern.at >= 2 && pattern.at[1] < TG_MAX_CAPTURES)
                    captures[pattern.at[1]] = (struct tg_piece){at, (uint32_t)least};
            }
            back = pattern;
            at += least;
            back_at = at;
            pattern = next_token(pattern);
            continue;
        } else if (*pattern.at == GLOB_ONE) {
            fits = at < end;
            if (fits) {
                at += one_character(at, end);
                pattern = next_token(pattern);
            }
        } else {
            struct scan next = next_token(pattern);
            size_t size = next.at > pattern.at + 3 ? (size_t)(next.at - pattern.at) - 3 : 0;
            fits = (size_t)(end - at) >= size && memcmp(at, pattern.at + 3, size) == 0;
            if (fits) {
                at += size;
                pattern = next;
            }
        }
        if (fits) continue;
        if (back_at == NULL || back_at >= end) return false;
        size_t step = one_character(back_at, end);
        back_at += step;
        at = back_at;
        if (*back.at == GLOB_CAPTURE && back.end - back.at >= 2 && back.at[1] < TG_MAX_CAPTURES)
            captures[back.at[1]].size += (uint32_t)step;
        pattern = next_token(back);
    }
}

static bool in_network(const struct tg_value *value, const struct tg_who *who)
{
    if (value->number != who->family) return false;
    uint32_t bits = value->bits;
    for (unsigned i = 0; i < 16 && bits > 0; i++) {
        uint8_t mask = bits >= 8 ? 0xff : (uint8_t)(0xff << (8 - bits));
        if ((value->address[i] ^ who->address[i]) & mask) return false;
        bits -= bits < 8 ? bits : 8;
    }
    return true;
}

static bool one_value(const struct tg_policy *policy, uint32_t kind, const struct tg_value *value,
                      const struct tg_who *who, struct tg_piece captures[TG_MAX_CAPTURES])
{
    const char *pattern = policy->text + value->text.first;
    uint32_t size = value->text.count;
    switch (kind) {
    case TG_IF_CLIENT: return glob(pattern, size, who->client, who->client_size, captures);
    case TG_IF_USERNAME:
        return who->has_username && glob(pattern, size, who->username, who->username_size, captures);
    case TG_IF_CIDR: return in_network(value, who);
    case TG_IF_LISTENER: return size == who->listener_size && memcmp(pattern, who->listener, size) == 0;
    case TG_IF_CN: return who->cn != NULL && glob(pattern, size, who->cn, who->cn_size, captures);
    case TG_IF_SAN: return who->san != NULL && glob(pattern, size, who->san, who->san_size, captures);
    case TG_IF_VERSION: return value->number == who->version;
    case TG_IF_CLEAN: return (value->number != 0) == who->clean_start;
    default: return (value->number != 0) == who->bridge;
    }
}

/* What a client, or who is there at the time, may change from one connection to the next. */
static bool is_passing(uint32_t kind)
{
    return kind == TG_IF_LISTENER || kind == TG_IF_VERSION || kind == TG_IF_CLEAN || kind == TG_IF_BRIDGE;
}

/* Whether a client fits a group of conditions; what it captures is kept only then. Before it has said anything it fits
 * none that asks more than where it comes from and where to: not even that it has no user name is known. `may`: whether it
 * could, by what it does not change. */
static bool fits(const struct tg_policy *policy, uint32_t group, const struct tg_who *who, bool may,
                 struct tg_piece captures[TG_MAX_CAPTURES])
{
    struct tg_piece mine[TG_MAX_CAPTURES];
    memcpy(mine, captures, sizeof mine);
    struct tg_range range = policy->groups[group];
    for (uint32_t i = 0; i < range.count; i++) {
        const struct tg_condition *condition = &policy->conditions[range.first + i];
        if (may && is_passing(condition->kind)) continue;
        if (who->version == 0 && condition->kind != TG_IF_CIDR && condition->kind != TG_IF_LISTENER) return false;
        bool any = false;
        for (uint32_t v = 0; v < condition->values.count && !any; v++) {
            struct tg_piece tried[TG_MAX_CAPTURES];
            memcpy(tried, mine, sizeof tried);
            any = one_value(policy, condition->kind, &policy->values[condition->values.first + v], who, tried);
            if (any) memcpy(mine, tried, sizeof mine);
        }
        if (!any) return false;
    }
    memcpy(captures, mine, sizeof mine);
    return true;
}

/* The same for a class. */
static bool in_class(const struct tg_policy *policy, const struct tg_class *class, const struct tg_who *who, bool may,
                     struct tg_piece captures[TG_MAX_CAPTURES])
{
    if (!fits(policy, class->all_of, who, may, captures)) return false;
    bool any = class->any_of.count == 0;
    for (uint32_t g = 0; g < class->any_of.count && !any; g++) any = fits(policy, class->any_of.first + g, who, may, captures);
    return any;
}

void tg_possible_captures(const struct tg_policy *policy, const struct tg_who *who, struct tg_piece captures[TG_MAX_CAPTURES])
{
    memset(captures, 0, TG_MAX_CAPTURES * sizeof *captures);
    for (uint32_t i = 0; i < policy->head->classes; i++) {
        struct tg_piece mine[TG_MAX_CAPTURES];
        memcpy(mine, captures, sizeof mine);
        if (in_class(policy, &policy->classes[i], who, true, mine)) memcpy(captures, mine, sizeof mine);
    }
}

static bool has(const uint64_t mask[TG_MAX_CLASSES / 64], uint32_t class) { return mask[class / 64] >> (class % 64) & 1; }

uint64_t tg_hash_network(const uint64_t secret[2], const struct tg_who *who, uint32_t bits)
{
    uint8_t kept[17] = {0};
    kept[16] = who->family;
    for (unsigned i = 0; i < 16 && bits > 0; i++) {
        uint8_t mask = bits >= 8 ? 0xff : (uint8_t)(0xff << (8 - bits));
        kept[i] = who->address[i] & mask;
        bits -= bits < 8 ? bits : 8;
    }
    return tg_siphash(secret, kept, sizeof kept);
}

static uint64_t hash_client(const uint64_t secret[2], const struct tg_who *who)
{
    if (who->client_size == 0) return tg_siphash(secret, &who->nonce, 8);
    return tg_siphash(secret, who->client, who->client_size);
}

/* The first choice of a client: choices come strictest first, and the default applies where no named class does. */
static const struct tg_choice *choose(const struct tg_policy *policy, struct tg_range range, const uint64_t *mask)
{
    const struct tg_choice *fallback = NULL;
    for (uint32_t i = 0; i < range.count; i++) {
        const struct tg_choice *choice = &policy->choices[range.first + i];
        if (choice->class == TG_NONE) fallback = choice;
        else if (has(mask, choice->class)) return choice;
    }
    return fallback;
}

static bool meets(const struct tg_policy *policy, const struct tg_limit *limit, const struct tg_who *who,
                  const uint64_t *mask, const struct tg_piece *captures)
{
    bool in = limit->in.count == 0;
    for (uint32_t i = 0; i < limit->in.count && !in; i++) in = has(mask, policy->numbers[limit->in.first + i]);
    if (!in) return false;
    for (uint32_t i = 0; i < limit->out.count; i++)
        if (has(mask, policy->numbers[limit->out.first + i])) return false;
    for (uint32_t i = 0; i < limit->per.count; i++) { /* a client without the capture has no such budget */
        const struct tg_component *component = &policy->components[policy->numbers[limit->per.first + i]];
        if (component->kind == TG_CAPTURE && captures[component->a].at == NULL) return false;
    }
    if (policy->groups[limit->who].count == 0) return true; /* most limits; of ten thousand, each counts */
    struct tg_piece unused[TG_MAX_CAPTURES] = {{NULL, 0}};
    return fits(policy, limit->who, who, false, unused);
}

size_t tg_subject_bytes(const struct tg_policy *policy)
{
    return sizeof(struct tg_subject) + policy->head->components * sizeof(uint64_t);
}

size_t tg_profile_room(const struct tg_policy *policy)
{
    return tg_entries_at(policy) + policy->head->limits * sizeof(struct tg_entry);
}

size_t tg_resolve(const struct tg_policy *policy, const uint64_t secret[2], const struct tg_who *who,
                  struct tg_subject *subject, struct tg_profile *profile, uint32_t *classes, uint32_t *class_count)
{
    const struct tg_head *head = policy->head;
    uint64_t mask[TG_MAX_CLASSES / 64] = {0};
    struct tg_piece captures[TG_MAX_CAPTURES] = {{NULL, 0}};
    uint64_t first_class = 0;
    struct tg_who there = *who; /* anybody at its place */
    there.version = 0;
    memset(subject, 0, tg_subject_bytes(policy));
    memset(profile, 0, tg_profile_room(policy));
    subject->priority = 2; /* normal, for who is in no class */
    *class_count = 0;
    for (uint32_t i = 0; i < head->classes; i++) {
        const struct tg_class *class = &policy->classes[i];
        struct tg_piece mine[TG_MAX_CAPTURES]; /* a class that does not fit captures nothing */
        memcpy(mine, captures, sizeof mine);
        if (!in_class(policy, class, who, false, mine)) continue;
        memcpy(captures, mine, sizeof mine);
        mask[i / 64] |= (uint64_t)1 << (i % 64);
        if (*class_count == 0) { /* of several, the first in the file gives the priority */
            first_class = class->identity;
            subject->priority = class->priority;
        }
        classes[(*class_count)++] = i;
        if (!class->exempt) continue;
        subject->exempt = 1;
        if (in_class(policy, class, &there, false, mine)) subject->exempt_there = 1;
    }
    subject->first_class = first_class;
    subject->family = who->family;
    subject->version = who->version;
    subject->source = tg_hash_network(secret, who, who->family == 4 ? 32 : 56); /* what one customer gets */
    subject->vicinity = tg_hash_network(secret, who, who->family == 4 ? 24 : 48);
    for (uint32_t i = 0; i < head->components; i++) {
        const struct tg_component *component = &policy->components[i];
        uint64_t hash = 0;
        switch (component->kind) {
        case TG_CLIENT: hash = hash_client(secret, who); break;
        case TG_USERNAME: if (who->has_username) hash = tg_siphash(secret, who->username, who->username_size); break;
        case TG_IP: hash = tg_hash_network(secret, who, who->family == 4 ? component->a : component->b); break;
        case TG_LISTENER: hash = tg_siphash(secret, who->listener, who->listener_size); break;
        case TG_CLASS: hash = first_class; break;
        case TG_CAPTURE:
            if (captures[component->a].at != NULL)
                hash = tg_siphash(secret, captures[component->a].at, captures[component->a].size);
            break;
        default: break; /* all: nothing; topic: the message's */
        }
        subject->components[i] = hash;
    }
    uint32_t *entry_of = (uint32_t *)(profile + 1), *always = entry_of + head->limits;
    struct tg_entry *entries = (void *)((uint8_t *)profile + tg_entries_at(policy));
    uint32_t free_limits = 0, event = 0;
    for (uint32_t i = 0; i < head->limits; i++) {
        const struct tg_limit *limit = &policy->limits[i];
        while (event < limit->event) {
            profile->always[++event] = free_limits;
            profile->of[event] = profile->entries;
        }
        if (who->version == 0 && limit->event != TG_CONNECT) continue; /* at accept, in a storm, each counts */
        if (!meets(policy, limit, who, mask, captures)) continue;
        struct tg_entry entry = {.limit = (uint16_t)i, .slot = (uint16_t)limit->slot, .extra = TG_NONE, .per = limit->per,
                                 .size = UINT64_MAX, .concurrent = UINT64_MAX};
        const struct tg_choice *choice = choose(policy, limit->rate, mask);
        if (choice != NULL) entry.rate = choice->budgets;
        if ((choice = choose(policy, limit->bandwidth, mask)) != NULL) entry.bandwidth = choice->budgets;
        if ((choice = choose(policy, limit->size, mask)) != NULL) entry.size = choice->number;
        if ((choice = choose(policy, limit->concurrent, mask)) != NULL) entry.concurrent = choice->number;
        if ((choice = choose(policy, limit->extra, mask)) != NULL && choice->number < TG_NONE) entry.extra = (uint32_t)choice->number;
        if (entry.rate.count + entry.bandwidth.count == 0 && entry.size == UINT64_MAX && entry.concurrent == UINT64_MAX
            && entry.extra == TG_NONE && !(limit->flags & TG_NO_WILD))
            continue; /* "none" for this client's classes */
        entries[profile->entries++] = entry;
        entry_of[i] = profile->entries;
        if (!limit->topics) always[free_limits++] = profile->entries - 1;
    }
    while (event < TG_EVENTS) {
        profile->always[++event] = free_limits;
        profile->of[event] = profile->entries;
    }
    size_t used = tg_entries_at(policy) + profile->entries * sizeof(struct tg_entry);
    subject->profile = tg_siphash(secret, profile, used);
    subject->identity = tg_mix(subject->profile, subject->priority);
    for (uint32_t i = 0; i < head->components; i++) subject->identity = tg_mix(subject->identity, subject->components[i]);
    return used;
}
