/* Policies: the first one, which must load, and those that come after it, which replace it if they can be used.
 *
 * A policy file numbers its limits from 0, whatever was there before. In memory of its own the plugin gives them their places
 * by identity, so that a limit that stays keeps its budgets. What a plugin cannot do is changed in the private copy:
 * nothing can be delayed here, so such limits refuse, and nobody tells the plugin of acknowledgements, so there are no windows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "plugin.h"

/* Finds each limit the place that it had, or one that nobody has. `places` has room for 2 * slots words. */
static void place_limits(struct plugin *plugin, struct tg_limit *limits, uint32_t count, uint32_t *places)
{
    uint32_t slots = plugin->memory.segment.slots, room = 1, free_slot = 0;
    uint64_t *identities = plugin->identities;
    while (room < 2 * slots) room *= 2;
    memset(places, 0, room * sizeof *places); /* slot + 1, by identity: a hash already */
    for (uint32_t slot = 0; slot < slots; slot++) {
        if (identities[slot] == 0) continue;
        uint32_t at = (uint32_t)identities[slot] & (room - 1);
        while (places[at] != 0) at = (at + 1) & (room - 1);
        places[at] = slot + 1;
    }
    uint8_t *taken = (uint8_t *)(places + room);
    memset(taken, 0, slots);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = (uint32_t)limits[i].identity & (room - 1);
        while (places[at] != 0 && identities[places[at] - 1] != limits[i].identity) at = (at + 1) & (room - 1);
        limits[i].slot = places[at] == 0 ? TG_NONE : places[at] - 1;
        if (places[at] != 0) taken[places[at] - 1] = 1;
    }
    for (unsigned round = 0; round < 2; round++) { /* unused ones first, so that counters end as late as may be */
        free_slot = 0;
        for (uint32_t i = 0; i < count; i++) {
            if (limits[i].slot != TG_NONE) continue;
            while (free_slot < slots && (taken[free_slot] || (round == 0 && identities[free_slot] != 0))) free_slot++;
            if (free_slot == slots) break;
            tg_segment_forget(&plugin->memory.segment, free_slot);
            for (unsigned k = 0; plugin->told != NULL && k < TG_TALLIES; k++) plugin->told[(size_t)k * slots + free_slot] = 0;
            taken[free_slot] = 1;
            identities[free_slot] = limits[i].identity;
            limits[i].slot = free_slot;
        }
    }
}

static uint8_t without_delay(uint8_t event, uint8_t action)
{
    if (action != TG_DELAY) return action;
    return event == TG_WILL || event == TG_DELIVER ? TG_DROP : TG_REJECT;
}

/* Makes the private copy fit for what a plugin can do. */
static void adapt(struct plugin *plugin, struct tg_limit *limits, uint32_t count)
{
    plugin->events = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct tg_limit *limit = &limits[i];
        plugin->events |= 1u << limit->event;
        for (unsigned v = 0; v < 2; v++) {
            for (unsigned qos = 0; qos < 4; qos++) {
                limit->actions[v][qos] = without_delay(limit->event, limit->actions[v][qos]);
                limit->then[v][qos] = without_delay(limit->event, limit->then[v][qos]);
            }
        }
        if (limit->event != TG_CONNECT) limit->concurrent.count = 0;
    }
}

bool tgm_load(struct plugin *plugin, const uint8_t *blob, size_t bytes, char error[TG_ERROR])
{
    bool is_private = plugin->memory.fd < 0;
    uint32_t slots = plugin->memory.segment.slots, *places = NULL, room = 1;
    while (room < 2 * slots) room *= 2;
    uint8_t *kept = malloc(bytes + 1);
    if (kept == NULL || (is_private && (places = malloc(room * sizeof *places + slots)) == NULL)) {
        snprintf(error, TG_ERROR, "no memory to load it");
        free(kept);
        return false;
    }
    memcpy(kept, blob, bytes);
    if (!tg_engine_load(&plugin->engine, kept, bytes, error)) {
        free(kept);
        free(places);
        return false;
    }
    free(plugin->blob);
    plugin->blob = kept;
    plugin->blob_bytes = bytes;
    const struct tg_policy *policy = &plugin->engine.policy;
    struct tg_limit *limits = (struct tg_limit *)(void *)(policy->blob + ((const uint8_t *)policy->limits - policy->blob));
    if (is_private) place_limits(plugin, limits, policy->head->limits, places);
    free(places);
    adapt(plugin, limits, policy->head->limits);
    free(plugin->room);
    plugin->room = malloc(tg_profile_room(policy)); /* without it no client is resolved, and none passes */
    if (!tgm_shape_bans(plugin, tgm_now())) {
        free(plugin->room);
        plugin->room = NULL;
    }
    plugin->loads++;
    return true;
}

/* What was told of other memory is of no use; places in its windows are no longer anybody's. */
static void leave_memory(struct plugin *plugin)
{
    for (uint32_t i = 0; plugin->clients.mask != 0 && i <= plugin->clients.mask; i++)
        for (struct client *client = plugin->clients.chains[i]; client != NULL; client = client->next) client->place_count = 0;
    free(plugin->told);
    free(plugin->identities);
    plugin->told = NULL;
    plugin->identities = NULL;
    plugin->report_at = 0;
    plugin->event_read = 0;
}

bool tgm_move(struct plugin *plugin, struct memory *memory, const uint8_t *blob, size_t bytes, char error[TG_ERROR])
{
    struct tg_engine former = plugin->engine;
    struct memory former_memory = plugin->memory;
    uint64_t *former_identities = plugin->identities, *identities = NULL;
    bool is_private = memory->fd < 0;
    bool good = !is_private || (identities = calloc(memory->segment.slots, sizeof *identities)) != NULL;
    memset(&plugin->engine, 0, sizeof plugin->engine);
    uint32_t nonce = 0; /* tells the processes of one segment apart */
    good = good && getrandom(&nonce, sizeof nonce, 0) == sizeof nonce
           && tg_engine_init(&plugin->engine, &memory->segment, memory->row, nonce >> 1);
    plugin->engine.table.alone = is_private;
    if (!good) snprintf(error, TG_ERROR, "no memory for the engine");
    plugin->memory = *memory;
    plugin->identities = identities;
    good = good && tgm_load(plugin, blob, bytes, error);
    if (!good) {
        tg_engine_free(&plugin->engine);
        free(identities);
        tgm_release(memory);
        plugin->engine = former;
        plugin->memory = former_memory;
        plugin->identities = former_identities;
        return false;
    }
    plugin->identities = former_identities;
    leave_memory(plugin);
    plugin->identities = identities;
    tg_engine_free(&former);
    tgm_release(&former_memory);
    return true;
}

static bool load_file(struct plugin *plugin, char error[TG_ERROR])
{
    size_t bytes;
    uint8_t *blob = tgm_read_file(plugin->options.policy, &bytes, error);
    if (blob == NULL) return false;
    bool good;
    struct tg_head head = {.limits = 0}; /* for so many limits, if it is a policy: it is checked by the engine */
    memcpy(&head, blob, bytes < sizeof head ? bytes : sizeof head);
    uint32_t limits = head.limits <= TG_MAX_LIMITS ? head.limits : 0;
    if (plugin->memory.base != NULL && limits <= plugin->memory.segment.slots) {
        good = tgm_load(plugin, blob, bytes, error);
    } else {
        struct memory memory;
        good = tgm_private_memory(&memory, limits, plugin->options.buckets, error)
               && tgm_move(plugin, &memory, blob, bytes, error);
    }
    free(blob);
    return good;
}

static const char *source_of(const struct plugin *plugin)
{
    return plugin->options.policy != NULL ? plugin->options.policy : plugin->options.segment;
}

static void tell_unenforced(const struct plugin *plugin)
{
    uint32_t unseen = 0;
    for (uint32_t i = 0; i < plugin->engine.policy.head->limits; i++) {
        uint32_t event = plugin->engine.policy.limits[i].event;
        unseen += event == TG_DELIVER || event == TG_PACKET;
    }
    if (unseen > 0)
        tgm_log(MOSQ_LOG_WARNING, "%u of them, on deliver or packet, are not enforced: no plugin sees that", unseen);
}

static void tell_loaded(const struct plugin *plugin)
{
    tgm_log(MOSQ_LOG_NOTICE, "%u limits of %s are in force", plugin->engine.policy.head->limits, source_of(plugin));
    tell_unenforced(plugin);
}

bool tgm_begin(struct plugin *plugin)
{
    char error[TG_ERROR];
    plugin->memory.fd = -1;
    size_t bytes = sizeof plugin->bans.secret;
    bool good = getrandom(plugin->bans.secret, bytes, 0) == (ssize_t)bytes;
    if (!good) snprintf(error, TG_ERROR, "the system gives no random numbers");
    if (!good || (plugin->options.policy != NULL ? !load_file(plugin, error) : !tgm_begin_shared(plugin, error))) {
        tgm_log(MOSQ_LOG_ERR, "%s: %s; the broker does not start without its limits", source_of(plugin), error);
        return false;
    }
    tell_loaded(plugin);
    return true;
}

void tgm_apply(struct plugin *plugin)
{
    tell_loaded(plugin);
    tgm_can_enforce(plugin, MOSQ_LOG_ERR);
    tgm_register(plugin);
}

void tgm_reload(struct plugin *plugin)
{
    char error[TG_ERROR];
    if (plugin->options.policy == NULL) return; /* a segment's are followed as they come */
    if (load_file(plugin, error)) tgm_apply(plugin);
    else
        tgm_log(MOSQ_LOG_ERR, "%s: %s; the %u limits that were in force stay so", plugin->options.policy, error,
                plugin->engine.policy.head->limits);
}

void tgm_end(struct plugin *plugin)
{
    tg_engine_free(&plugin->engine);
    free(plugin->room);
    free(plugin->blob);
    free(plugin->identities);
    free(plugin->told);
    free(plugin->bans.shapes);
    free(plugin->bans.shape_of);
    tgm_release(&plugin->memory);
}
