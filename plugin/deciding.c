/* What is asked of the engine, and what its verdict is to the broker. */
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

enum { AT_ACCEPT, AT_CONNECT }; /* policy/stages.py */

/* Bytes of a PUBLISH with this topic and payload. Its properties are not counted: the broker does not tell how long they were. */
static uint64_t packet_size(const struct client *client, size_t topic, uint32_t payload, uint8_t qos)
{
    uint64_t rest = 2 + topic + (qos > 0 ? 2 : 0) + (client->subject->version == 5 ? 1 : 0) + (uint64_t)payload;
    return rest + (rest < 128 ? 2 : rest < 16384 ? 3 : rest < 2097152 ? 4 : 5);
}

/* To be kicked at the next TICK: the broker must not lose a client in the middle of what it does for it. */
static void doom(struct plugin *plugin, struct client *client)
{
    if (client->doomed) return;
    client->doomed = true;
    client->next_doomed = plugin->clients.doomed;
    plugin->clients.doomed = client;
}

/* What has come while the broker was busy is there at the same time: the clock is read once for all that one of its loops
 * reads, and again when some milliseconds have gone by (or where the broker does not tell of its loops). */
static uint64_t now_for(struct plugin *plugin)
{
    uint64_t coarse = tgm_coarse_now();
    if (coarse != plugin->coarse) {
        plugin->coarse = coarse;
        plugin->now = tgm_now();
    }
    return plugin->now;
}

/* Whether it passes. Who is to be disconnected or banned is. */
static bool ask(struct plugin *plugin, struct client *client, const struct tg_message *message)
{
    struct tg_verdict verdict;
    uint64_t now = now_for(plugin);
    tg_decide(&plugin->engine, client->subject, client->profile->profile, &client->who, message, now, &verdict);
    client->habit = verdict.habit;
    if (verdict.action == TG_PASS || verdict.action == TG_OBSERVE) return true;
    if (verdict.action == TG_BAN && !verdict.crowd) tgm_ban(plugin, client, verdict.limit, now);
    if (verdict.action == TG_BAN || verdict.action == TG_DISCONNECT) doom(plugin, client);
    return false;
}

int tgm_decide_publish(struct plugin *plugin, struct client *client, const struct mosquitto_evt_message *message)
{
    if (client->doomed) return plugin->broker.refuse_message;
    tg_expect(&plugin->engine, client->habit); /* what is done until it is needed takes about as long as it to come */
    size_t topic_size = strlen(message->topic);
    struct tg_message question = {
        .topic = message->topic, .topic_size = topic_size, .event = TG_PUBLISH, .qos = message->qos, .retain = message->retain,
        .habit = client->habit,
        .payload = message->payloadlen, .packet = packet_size(client, topic_size, message->payloadlen, message->qos),
    };
    return ask(plugin, client, &question) ? MOSQ_ERR_SUCCESS : plugin->broker.refuse_message;
}

int tgm_decide_subscribe(struct plugin *plugin, struct client *client, const char *filter)
{
    if (client->doomed) return MOSQ_ERR_ACL_DENIED;
    struct tg_message question = {.topic = filter, .topic_size = strlen(filter), .event = TG_SUBSCRIBE};
    tg_read_filter(&question);
    return ask(plugin, client, &question) ? plugin->broker.no_opinion : MOSQ_ERR_ACL_DENIED;
}

int tgm_decide_will(struct plugin *plugin, struct client *client, const struct mosquitto_evt_acl_check *will)
{
    size_t topic_size = strlen(will->topic);
    struct tg_message question = {
        .topic = will->topic, .topic_size = topic_size, .event = TG_WILL, .qos = will->qos, .retain = will->retain,
        .payload = will->payloadlen, .packet = packet_size(client, topic_size, will->payloadlen, will->qos),
    };
    return ask(plugin, client, &question) ? plugin->broker.no_opinion : MOSQ_ERR_ACL_DENIED;
}

/* Keeps the places in windows that the connection has just taken. */
static bool keep_places(struct plugin *plugin, struct client *client)
{
    struct tg_engine *engine = &plugin->engine;
    if (engine->taken_count == 0) return true;
    uint32_t *places = realloc(client->places, (client->place_count + engine->taken_count) * sizeof *places);
    if (places == NULL) {
        while (engine->taken_count > 0) tg_window_free(engine, engine->taken[--engine->taken_count].place);
        return false;
    }
    client->places = places;
    for (uint32_t i = 0; i < engine->taken_count; i++) places[client->place_count++] = engine->taken[i].place;
    return true;
}

/* What the broker answers to a CONNECT by this verdict. */
static int answer(struct plugin *plugin, struct client *client, const struct tg_verdict *verdict, bool proven, uint64_t now)
{
    switch (verdict->action) {
    case TG_PASS: case TG_OBSERVE:
        return keep_places(plugin, client) ? plugin->broker.no_opinion : plugin->broker.refuse_connect;
    case TG_DROP: return MOSQ_ERR_UNKNOWN; /* closed without a CONNACK */
    case TG_BAN:
        if (!proven || verdict->crowd) return plugin->broker.refuse_connect;
        tgm_ban(plugin, client, verdict->limit, now);
        return plugin->broker.refuse_banned;
    default: return plugin->broker.refuse_connect;
    }
}

/* Limits that address and listener decide, asked of somebody of whom nothing else is known: what he calls himself is a claim. */
static int decide_at_accept(struct plugin *plugin, struct client *client, uint64_t now)
{
    const struct tg_policy *policy = &plugin->engine.policy;
    struct tg_message question = {.topic = "", .event = TG_CONNECT, .qos = AT_ACCEPT};
    struct tg_verdict verdict;
    struct tg_who who = client->who;
    uint32_t classes[TG_MAX_CLASSES], count;
    who.version = 0;
    struct tg_subject *subject = malloc(tg_subject_bytes(policy));
    if (subject == NULL) return plugin->broker.refuse_connect;
    tg_resolve(policy, plugin->memory.segment.secret, &who, subject, plugin->room, classes, &count);
    tg_decide(&plugin->engine, subject, plugin->room, &client->who, &question, now, &verdict);
    free(subject);
    return answer(plugin, client, &verdict, true, now);
}

int tgm_decide_connect(struct plugin *plugin, struct client *client)
{
    uint64_t now = tgm_now();
    if (tgm_is_banned(plugin, client, now)) return plugin->broker.refuse_banned;
    if (!(plugin->events >> TG_CONNECT & 1)) return plugin->broker.no_opinion;
    int outcome = decide_at_accept(plugin, client, now);
    if (outcome != plugin->broker.no_opinion) return outcome;
    struct tg_message question = {.topic = "", .event = TG_CONNECT, .qos = AT_CONNECT};
    struct tg_verdict verdict;
    tg_decide(&plugin->engine, client->subject, client->profile->profile, &client->who, &question, now, &verdict);
    /* Before the broker has accepted it, nobody is banned for what he calls himself. */
    bool proven = verdict.limit == TG_NONE || !tg_by_name(&plugin->engine.policy, &plugin->engine.policy.limits[verdict.limit]);
    return answer(plugin, client, &verdict, proven, now);
}

void tgm_decide_failure(struct plugin *plugin, struct client *client)
{
    struct tg_message question = {.topic = "", .event = TG_AUTH_FAILURE};
    struct tg_verdict verdict;
    uint64_t now = tgm_now();
    tg_decide(&plugin->engine, client->subject, client->profile->profile, &client->who, &question, now, &verdict);
    if (verdict.action == TG_BAN && !verdict.crowd) tgm_ban(plugin, client, verdict.limit, now);
}
