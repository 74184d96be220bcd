/* The broker's calls. Which of them the plugin asks for depends on what the policy limits. */
#include <string.h>

#include "plugin.h"

#define CHORES ((uint64_t)250 * 1000000)    /* ns between two looks at what need not be done at once */

static int on_message(struct plugin *plugin, const struct mosquitto_evt_message *message)
{
    if (message->client == NULL || message->topic == NULL || message->qos > 2) return MOSQ_ERR_SUCCESS;
    struct client *client = tgm_client(plugin, message->client, true);
    if (client == NULL) return plugin->broker.refuse_message; /* no memory: what cannot be judged does not pass */
    if (client->from_gateway) return MOSQ_ERR_SUCCESS;
    return tgm_decide_publish(plugin, client, message);
}

static void kick_the_doomed(struct plugin *plugin)
{
    while (plugin->clients.doomed != NULL) {
        struct client *client = plugin->clients.doomed;
        plugin->clients.doomed = client->next_doomed;
        client->doomed = false;
        plugin->kicked++;
        char id[65536]; /* the client's own ends with it */
        memcpy(id, client->who.client, client->who.client_size);
        id[client->who.client_size] = 0;
        mosquitto_kick_client_by_clientid(id, true);
    }
}

static void on_tick(struct plugin *plugin)
{
    uint64_t now = tgm_now();
    kick_the_doomed(plugin);
    if ((int64_t)(now - plugin->next_chore) < 0) return;
    plugin->next_chore = now + CHORES;
    tg_sweep(&plugin->engine, now);
    tg_window_sweep(&plugin->engine);
}

int tgm_on_event(int event, void *data, void *userdata)
{
    struct plugin *plugin = userdata;
    switch (event) {
    case MOSQ_EVT_MESSAGE: return on_message(plugin, data);
    case MOSQ_EVT_TICK: on_tick(plugin); return MOSQ_ERR_SUCCESS;
    case MOSQ_EVT_DISCONNECT: tgm_forget(plugin, ((struct mosquitto_evt_disconnect *)data)->client); return MOSQ_ERR_SUCCESS;
    case MOSQ_EVT_RELOAD:
        tgm_reload(plugin);
        /* 2.0 takes anything else for an answer that is meant for all plugins, and 2.1 takes it for a failure. */
        return plugin->broker.is_2_1 ? MOSQ_ERR_SUCCESS : MOSQ_ERR_PLUGIN_DEFER;
    default: return MOSQ_ERR_SUCCESS;
    }
}

static bool want(struct plugin *plugin, int event)
{
    if (plugin->registered >> event & 1) return true;
    int outcome = mosquitto_callback_register(plugin->identifier, event, tgm_on_event, NULL, plugin);
    if (outcome == MOSQ_ERR_SUCCESS) plugin->registered |= 1u << event;
    else if (outcome == MOSQ_ERR_ALREADY_EXISTS) tgm_log(MOSQ_LOG_ERR, "loaded twice; keep one of its plugin lines");
    else tgm_log(MOSQ_LOG_ERR, "the broker refuses event %d: error %d", event, outcome);
    return outcome == MOSQ_ERR_SUCCESS;
}

bool tgm_register(struct plugin *plugin)
{
    return want(plugin, MOSQ_EVT_RELOAD) && want(plugin, MOSQ_EVT_TICK) && want(plugin, MOSQ_EVT_DISCONNECT)
           && want(plugin, MOSQ_EVT_MESSAGE);
}

void tgm_unregister_all(struct plugin *plugin)
{
    for (int event = 0; event < 32; event++)
        if (plugin->registered >> event & 1) mosquitto_callback_unregister(plugin->identifier, event, tgm_on_event, NULL);
    plugin->registered = 0;
}
