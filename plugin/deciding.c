/* What is asked of the engine, and what its verdict is to the broker. */
#include <string.h>

#include "plugin.h"

/* Bytes of a PUBLISH with this topic and payload. Its properties are not counted: the broker does not tell how long they were. */
static uint64_t packet_size(const struct client *client, size_t topic, uint32_t payload, uint8_t qos)
{
    uint64_t rest = 2 + topic + (qos > 0 ? 2 : 0) + (client->who.version == 5 ? 1 : 0) + (uint64_t)payload;
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

int tgm_decide_publish(struct plugin *plugin, struct client *client, const struct mosquitto_evt_message *message)
{
    struct tg_verdict verdict;
    if (client->doomed) return plugin->broker.refuse_message;
    size_t topic_size = strlen(message->topic);
    struct tg_message question = {
        .topic = message->topic, .topic_size = topic_size, .event = TG_PUBLISH, .qos = message->qos, .retain = message->retain,
        .payload = message->payloadlen, .packet = packet_size(client, topic_size, message->payloadlen, message->qos),
    };
    tg_decide(&plugin->engine, client->subject, client->profile->profile, &client->who, &question, tgm_now(), &verdict);
    switch (verdict.action) {
    case TG_PASS: case TG_OBSERVE: return MOSQ_ERR_SUCCESS;
    case TG_DISCONNECT: case TG_BAN: doom(plugin, client); break;
    default: break;
    }
    return plugin->broker.refuse_message;
}
