/* Who is kept out, and until when, as gateway/ban_book.py and bans.py have it: each ban of the same by the same limit lasts
 * longer, by what the policy says, and the next is a first one again when nothing has been for as long as the longest lasts.
 *
 * A ban is of what its limit counts by (address, identifier, user name, what was captured); a limit that counts by topic bans by
 * the rest. Which of these it looks at is its shape, and it is found by a hash of their values: a client costs one look for
 * each shape that somebody is banned by, however many limits and bans there are. Neither depends on a policy or a segment, so
 * bans outlive both; they end with the broker. A full list loses what is to be forgotten, and if that is little, what ends first. */
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "plugin.h"

#define SECOND ((uint64_t)1000000000)
#define MOST_LEVEL 1000000u
#define KEPT 10000u             /* of a full list: many are dropped at once, as to find out which takes a look at all */

struct looked_at {              /* a client, and what it captures once that is asked */
    const struct tg_who *who;
    bool has_captures;
    struct tg_piece captures[TG_MAX_CAPTURES];
};

static const struct tg_piece *capture_of(const struct plugin *plugin, struct looked_at *client, uint32_t number)
{
    static const struct tg_piece none = {NULL, 0};
    if (number >= TG_MAX_CAPTURES) return &none;
    if (!client->has_captures) tg_possible_captures(&plugin->engine.policy, client->who, client->captures);
    client->has_captures = true;
    return &client->captures[number];
}

/* What stands for the client in bans of this shape; 0: nobody in particular, as nothing of it tells him from others. */
static uint64_t hash_of(const struct plugin *plugin, const struct shape *shape, struct looked_at *client)
{
    const struct tg_who *who = client->who;
    const uint64_t *secret = plugin->bans.secret;
    const struct tg_piece *capture;
    bool is_somebody = false;
    uint64_t hash = shape->count;
    for (uint32_t i = 0; i < shape->count; i++) {
        const struct tg_component *part = &shape->parts[i];
        uint64_t value = 0;
        switch (part->kind) {
        case TG_CLIENT:
            if (who->client_size == 0) return 0;
            value = tg_siphash(secret, who->client, who->client_size);
            is_somebody = true;
            break;
        case TG_USERNAME: /* who sends none is told from those who do */
            if (who->has_username) value = tg_siphash(secret, who->username, who->username_size);
            is_somebody |= who->has_username;
            break;
        case TG_IP:
            value = tg_mix(tg_hash_network(secret, who, who->family == 4 ? part->a : part->b), (uint64_t)part->a << 8 | part->b);
            is_somebody |= who->family != 0;
            break;
        default:
            capture = capture_of(plugin, client, part->a);
            if (capture->at == NULL) return 0;
            value = tg_mix(tg_siphash(secret, capture->at, capture->size), part->b);
            is_somebody = true;
        }
        hash = tg_mix(tg_mix(hash, part->kind), value);
    }
    if (!is_somebody) return 0;
    return hash != 0 ? hash : 1;
}

/* ---- Shapes ---- */

static bool names_somebody(uint32_t kind)
{
    return kind == TG_CLIENT || kind == TG_USERNAME || kind == TG_IP || kind == TG_CAPTURE;
}

static void shape_limit(struct shape *shape, const struct tg_policy *policy, const struct tg_limit *limit)
{
    memset(shape, 0, sizeof *shape);
    uint32_t address = TG_NONE;
    for (uint32_t i = 0; i < limit->per.count; i++) {
        const struct tg_component *part = &policy->components[policy->numbers[limit->per.first + i]];
        if (!names_somebody(part->kind)) continue;
        if (part->kind != TG_IP || address == TG_NONE) {
            if (part->kind == TG_IP) address = shape->count;
            shape->parts[shape->count++] = *part;
        } else { /* of several networks the last, as in policy/ban_keys.py */
            shape->parts[address] = *part;
        }
    }
}

static bool same_shape(const struct shape *shape, const struct shape *other)
{
    if (shape->count != other->count) return false;
    for (uint32_t i = 0; i < shape->count; i++) {
        const struct tg_component *part = &shape->parts[i], *its = &other->parts[i];
        if (part->kind != its->kind || part->b != its->b || (part->kind != TG_CAPTURE && part->a != its->a)) return false;
    }
    return true;
}

/* Its captures have other numbers in another policy. */
static void renumber(struct shape *shape, const struct tg_policy *policy)
{
    for (uint32_t i = 0; i < shape->count; i++) {
        struct tg_component *part = &shape->parts[i];
        if (part->kind != TG_CAPTURE) continue;
        part->a = TG_NONE;
        for (uint32_t c = 0; c < policy->head->components; c++)
            if (policy->components[c].kind == TG_CAPTURE && policy->components[c].b == part->b) part->a = policy->components[c].a;
    }
}

/* ---- The list ---- */

static uint16_t *chain_of(struct bans *bans, uint64_t who) { return &bans->chains[who & (TGM_BAN_CHAINS - 1)]; }

/* What refers to the ban at this place. */
static uint16_t *link_of(struct bans *bans, uint32_t place)
{
    uint16_t *link = chain_of(bans, bans->list[place].who);
    while (*link != place + 1) link = &bans->list[*link - 1].next;
    return link;
}

static void lift(struct bans *bans, uint32_t place)
{
    struct ban *ban = &bans->list[place], *last = &bans->list[--bans->count];
    bans->shapes[ban->shape].bans--;
    *link_of(bans, place) = ban->next;
    if (ban == last) return;
    *link_of(bans, bans->count) = (uint16_t)(place + 1);
    *ban = *last;
}

static void forget_old(struct bans *bans, uint64_t now)
{
    for (uint32_t i = bans->count; i-- > 0;)
        if (bans->list[i].forget <= now) lift(bans, i);
}

static int compare(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

/* Bans in force that were dropped. */
static uint32_t trim(struct bans *bans, uint64_t now)
{
    static uint64_t ends[TGM_BANS];
    uint32_t dropped = 0;
    forget_old(bans, now);
    if (bans->count <= KEPT) return 0;
    for (uint32_t i = 0; i < bans->count; i++) ends[i] = bans->list[i].until;
    qsort(ends, bans->count, sizeof *ends, compare);
    uint64_t last = ends[bans->count - KEPT - 1];
    for (uint32_t i = bans->count; i-- > 0 && bans->count > KEPT;) {
        if (bans->list[i].until > last) continue;
        dropped += bans->list[i].until > now;
        lift(bans, i);
    }
    return dropped;
}

static struct ban *add(struct bans *bans, uint64_t who, uint64_t limit, uint16_t shape, uint64_t now)
{
    if (bans->count == TGM_BANS) {
        uint32_t dropped = trim(bans, now);
        if (dropped > 0)
            tgm_log(MOSQ_LOG_WARNING, "%u bans dropped that would have ended first: there are more than %u", dropped, KEPT);
    }
    uint16_t *chain = chain_of(bans, who);
    struct ban *ban = &bans->list[bans->count];
    *ban = (struct ban){.who = who, .limit = limit, .shape = shape, .next = *chain};
    *chain = (uint16_t)++bans->count;
    bans->shapes[shape].bans++;
    return ban;
}

bool tgm_shape_bans(struct plugin *plugin, uint64_t now)
{
    struct bans *bans = &plugin->bans;
    const struct tg_policy *policy = &plugin->engine.policy;
    uint32_t limits = policy->head->limits, count = 0, banning = 0;
    for (uint32_t i = 0; i < limits; i++) banning += policy->limits[i].ban != TG_NONE;
    forget_old(bans, now);
    struct shape *shapes = malloc((bans->shape_count + banning + 1) * sizeof *shapes);
    uint16_t *moved = malloc((bans->shape_count + 1) * sizeof *moved), *shape_of = malloc((limits + 1) * sizeof *shape_of);
    if (shapes == NULL || moved == NULL || shape_of == NULL) {
        free(shapes);
        free(moved);
        free(shape_of);
        return false;
    }
    for (uint32_t i = 0; i < bans->shape_count; i++) { /* those that are in use */
        moved[i] = (uint16_t)count;
        if (bans->shapes[i].bans == 0) continue;
        renumber(&bans->shapes[i], policy);
        shapes[count++] = bans->shapes[i];
    }
    for (uint32_t i = 0; i < bans->count; i++) bans->list[i].shape = moved[bans->list[i].shape];
    for (uint32_t i = 0; i < limits; i++) {
        if (policy->limits[i].ban == TG_NONE) continue;
        uint32_t at = 0;
        shape_limit(&shapes[count], policy, &policy->limits[i]);
        while (!same_shape(&shapes[at], &shapes[count])) at++;
        count += at == count;
        shape_of[i] = (uint16_t)at;
    }
    free(moved);
    free(bans->shapes);
    free(bans->shape_of);
    struct shape *fitting = realloc(shapes, (count + 1) * sizeof *shapes);
    bans->shapes = fitting != NULL ? fitting : shapes;
    bans->shape_count = count;
    bans->shape_of = shape_of;
    return true;
}

/* ns, of so many in a row. */
static uint64_t length_of(const struct tg_ban *times, uint32_t level)
{
    double length = (double)times->first, factor = times->factor;
    for (uint32_t power = level - 1; power > 0 && length < (double)times->longest; power >>= 1) {
        if (power & 1) length *= factor;
        factor *= factor;
    }
    return length < (double)times->longest ? (uint64_t)length : times->longest;
}

static void tell_nobody(const struct plugin *plugin, struct shape *shape, const struct tg_limit *limit)
{
    if (!shape->told)
        tgm_log(MOSQ_LOG_WARNING, "nobody to ban: nothing that limit %.*s counts by tells this client from others",
                (int)limit->name.count, plugin->engine.policy.text + limit->name.first);
    shape->told = true;
}

void tgm_ban(struct plugin *plugin, const struct client *client, uint32_t number, uint64_t now)
{
    struct bans *bans = &plugin->bans;
    const struct tg_policy *policy = &plugin->engine.policy;
    const struct tg_limit *limit = &policy->limits[number];
    const struct tg_ban *times = &policy->bans[limit->ban];
    uint16_t shape = bans->shape_of[number];
    struct looked_at looked_at = {.who = &client->who};
    uint64_t who = hash_of(plugin, &bans->shapes[shape], &looked_at);
    if (who == 0) {
        tell_nobody(plugin, &bans->shapes[shape], limit);
        return;
    }
    uint64_t name = tg_siphash(bans->secret, policy->text + limit->name.first, limit->name.count);
    struct ban *ban = NULL;
    for (uint16_t at = *chain_of(bans, who); at != 0 && ban == NULL; at = bans->list[at - 1].next)
        if (bans->list[at - 1].who == who && bans->list[at - 1].limit == name) ban = &bans->list[at - 1];
    if (ban == NULL) ban = add(bans, who, name, shape, now);
    if (now < ban->until) return; /* what had been on its way then is no further offence */
    if (now >= ban->forget) ban->level = 0;
    if (ban->level < MOST_LEVEL) ban->level++;
    uint64_t length = length_of(times, ban->level);
    ban->until = now + length;
    ban->forget = ban->until + times->longest;
    char shown[65];
    tgm_write_text(shown, sizeof shown, client->who.client, client->who.client_size);
    tgm_log(MOSQ_LOG_NOTICE, "banned by limit %.*s for %llu s: client %s", (int)limit->name.count, policy->text + limit->name.first,
            (unsigned long long)(length / SECOND), shown);
}

bool tgm_is_banned(struct plugin *plugin, const struct client *client, uint64_t now)
{
    struct bans *bans = &plugin->bans;
    if (bans->count == 0 || client->subject->exempt_there) return false;
    struct looked_at looked_at = {.who = &client->who};
    for (uint32_t i = 0; i < bans->shape_count; i++) {
        uint64_t who = bans->shapes[i].bans == 0 ? 0 : hash_of(plugin, &bans->shapes[i], &looked_at);
        if (who == 0) continue;
        for (uint16_t at = *chain_of(bans, who); at != 0; at = bans->list[at - 1].next)
            if (bans->list[at - 1].who == who && now < bans->list[at - 1].until) return true;
    }
    return false;
}
