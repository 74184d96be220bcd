/* Who is kept out, and until when. A ban is of what the limit counts by (address, identifier, user name, what was captured),
 * kept as a hash of that; a limit that counts by topic bans by the rest. There are few places, and when all are taken the ban
 * that ends first gives way. Bans end with the broker. */
#include <string.h>

#include "hash.h"
#include "plugin.h"

#define SECOND ((uint64_t)1000000000)
/* What policy.model.BanTimes has by default: each ban is four times as long as the one before. */
#define SHORTEST (30 * SECOND)
#define FACTOR 4u
#define LONGEST (3600 * SECOND)
#define REMEMBERED (86400 * SECOND)     /* after which the next ban is a first one again */

static bool names_somebody(uint32_t kind)
{
    return kind == TG_CLIENT || kind == TG_USERNAME || kind == TG_IP || kind == TG_CAPTURE;
}

/* What stands for the client in bans by this limit; 0: it counts by nothing that says who somebody is. */
static uint64_t key_of(const struct tg_policy *policy, const struct tg_limit *limit, const struct tg_subject *subject)
{
    uint64_t key = 0;
    for (uint32_t i = 0; i < limit->per.count; i++) {
        uint32_t number = policy->numbers[limit->per.first + i];
        const struct tg_component *component = &policy->components[number];
        if (!names_somebody(component->kind)) continue;
        uint64_t kind = (uint64_t)component->kind << 32 | (uint64_t)component->a << 16 | component->b;
        key = tg_mix(tg_mix(key, kind), subject->components[number]);
        if (key == 0) key = 1;
    }
    return key;
}

static bool bans(const struct tg_limit *limit)
{
    for (unsigned v = 0; v < 2; v++)
        for (unsigned qos = 0; qos < 3; qos++)
            if (limit->actions[v][qos] == TG_BAN || limit->then[v][qos] == TG_BAN) return true;
    return false;
}

static struct ban *find(struct plugin *plugin, uint64_t key)
{
    for (unsigned i = 0; i < TGM_BANS; i++)
        if (plugin->bans[i].until != 0 && plugin->bans[i].key == key) return &plugin->bans[i];
    return NULL;
}

void tgm_ban(struct plugin *plugin, const struct client *client, uint32_t number, uint64_t now)
{
    const struct tg_policy *policy = &plugin->engine.policy;
    const struct tg_limit *limit = &policy->limits[number];
    uint64_t key = key_of(policy, limit, client->subject);
    if (key == 0) return;
    struct ban *ban = find(plugin, key);
    if (ban == NULL) {
        ban = &plugin->bans[0];
        for (unsigned i = 1; i < TGM_BANS; i++)
            if (plugin->bans[i].until < ban->until) ban = &plugin->bans[i];
        *ban = (struct ban){.key = key};
    } else if (now < ban->until) {
        return;
    } else if (now - ban->until > REMEMBERED) {
        ban->count = 0;
    }
    uint64_t length = SHORTEST;
    for (uint32_t i = 0; i < ban->count && length < LONGEST; i++) length *= FACTOR;
    if (length > LONGEST) length = LONGEST;
    ban->count++;
    ban->until = now + length;
    char who[65];
    tgm_write_text(who, sizeof who, client->who.client, client->who.client_size);
    tgm_log(MOSQ_LOG_NOTICE, "banned by limit %.*s for %llu s: client %s", (int)limit->name.count, policy->text + limit->name.first,
            (unsigned long long)(length / SECOND), who);
}

bool tgm_is_banned(struct plugin *plugin, const struct client *client, uint64_t now)
{
    const struct tg_policy *policy = &plugin->engine.policy;
    if (client->subject->exempt_there) return false;
    for (uint32_t i = 0; i < policy->head->limits; i++) {
        if (!bans(&policy->limits[i])) continue;
        uint64_t key = key_of(policy, &policy->limits[i], client->subject);
        const struct ban *ban = key == 0 ? NULL : find(plugin, key);
        if (ban != NULL && now < ban->until) return true;
    }
    return false;
}
