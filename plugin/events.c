/* The broker's calls. Which of them the plugin asks for depends on what the policy limits.
 *
 * Who may connect, publish and subscribe is no business of a limit, but a plugin that is asked has to answer:
 *
 *   2.1 takes PLUGIN_IGNORE as if the plugin were not there.
 *   2.0 knows only DEFER, and where all defer it denies, though without the plugin it would have allowed. So the plugin
 *       registers twice: first to refuse what is over a limit and else to defer, and behind all others for the last word,
 *       which it says only where mosquitto.conf has nobody who decides (plugin_opt_authentication, plugin_opt_authorisation).
 *       The broker puts its own files to the end with every reload, so the last word moves there again at the next TICK.
 *
 * At a reload both versions ask once more whether those who are connected may be: they are no new connections.
 *
 * No version tells that a login has failed. 2.1 tells of those who are accepted. Up to 2.0.12 the broker takes the identifier
 * from whom it refuses, before it tells of the end. Later ones leave it to him, but there the end comes at once, whereas between
 * BASIC_AUTH and the end of whom it has accepted it ticks. Unless he sends all that he has to say as one record of TLS, or one
 * frame: hence MESSAGE is asked for as well. (CONNECT and DISCONNECT alone, in one piece, count as a failure, and so does who
 * resets the connection before his CONNECT is read.) */
#include <string.h>

#include "plugin.h"

#define CONNECT_2_1 11          /* MOSQ_EVT_CONNECT, MOSQ_EVT_CLIENT_OFFLINE of 2.1 */
#define CLIENT_OFFLINE_2_1 28
#define TICK_MS 100             /* as often as 2.0 ticks; left alone, 2.1 ticks only when something happens */
#define RELOAD ((uint64_t)5 * 1000000000)   /* ns after which it asks no more, should it not tick (2.0.11 by listener) */
#define CHORES ((uint64_t)250 * 1000000)    /* ns between two looks at what need not be done at once */

/* Only 2.1 has it: who has this identifier, connected or not. */
extern struct mosquitto *mosquitto_client(const char *id) __attribute__((weak));

/* Whether this is somebody who is connected. */
static bool is_connected(const struct plugin *plugin, const struct mosquitto *broker)
{
    const struct client *client = tgm_known(plugin, broker);
    return client != NULL && client->announced && !client->refused && !client->leaving
           && (client->accepted || !plugin->broker.is_2_1) && client->id == mosquitto_client_id(broker)
           && client->username == mosquitto_client_username(broker);
}

/* Whether a reload asks about one who has been accepted before. 2.0 does not tell of a reload when another plugin has answered that
 * it went well, and the plugin need not have known all who are connected. 2.0 ticks before anybody new comes; 2.1 up to TICK_MS
 * later. */
static bool is_asked_again(struct plugin *plugin, const struct mosquitto *broker)
{
    if (is_connected(plugin, broker)) return true;
    if (plugin->reloading && tgm_now() - plugin->reloaded > RELOAD) plugin->reloading = false;
    if (!plugin->reloading) return false;
    const char *id = mosquitto_client_id(broker);
    return mosquitto_client == NULL || id == NULL || mosquitto_client(id) == broker;
}

static int on_message(struct plugin *plugin, const struct mosquitto_evt_message *message)
{
    if (message->client == NULL || message->topic == NULL || message->qos > 2) return MOSQ_ERR_SUCCESS;
    if (!(plugin->events >> TG_PUBLISH & 1)) return MOSQ_ERR_SUCCESS;
    struct client *client = tgm_client(plugin, message->client);
    if (client == NULL) return plugin->broker.refuse_message; /* no memory: what cannot be judged does not pass */
    if (client->from_gateway) return MOSQ_ERR_SUCCESS;
    return tgm_decide_publish(plugin, client, message);
}

static int on_connect(struct plugin *plugin, const struct mosquitto_evt_basic_auth *connect)
{
    if (connect->client == NULL || is_asked_again(plugin, connect->client)) return plugin->broker.no_opinion;
    struct client *client = tgm_new_client(plugin, connect->client);
    if (client == NULL) return plugin->broker.refuse_connect;
    client->announced = true;
    plugin->newcomer = connect->client;
    if (client->from_gateway) return plugin->broker.no_opinion;
    plugin->asked = connect->client;
    int outcome = tgm_decide_connect(plugin, client);
    client->refused = outcome != plugin->broker.no_opinion;
    return outcome;
}

/* When the connection has ended and its will, if it had one, has been asked about. */
static void see_off(struct plugin *plugin)
{
    if (plugin->leaving != NULL) tgm_forget(plugin, plugin->leaving->broker);
}

/* Whether the one who has just sent CONNECT has the same identifier: the broker sends the will of the former before it tells of
 * its end. */
static bool is_taken_over(struct plugin *plugin, const struct mosquitto *broker)
{
    if (plugin->newcomer == NULL || plugin->newcomer == broker) return false;
    const struct client *newcomer = tgm_known(plugin, plugin->newcomer);
    const char *id = mosquitto_client_id(broker);
    if (newcomer == NULL || id == NULL || strlen(id) != newcomer->who.client_size) return false;
    if (memcmp(id, newcomer->who.client, newcomer->who.client_size) != 0) return false;
    plugin->newcomer = NULL;
    return true;
}

static int on_acl_check(struct plugin *plugin, const struct mosquitto_evt_acl_check *check)
{
    if (plugin->kicking && check->access == MOSQ_ACL_SUBSCRIBE) return plugin->broker.no_opinion;
    if (check->access == MOSQ_ACL_SUBSCRIBE && plugin->events >> TG_SUBSCRIBE & 1) {
        struct client *client = tgm_client(plugin, check->client);
        if (client == NULL) return MOSQ_ERR_ACL_DENIED;
        return client->from_gateway ? plugin->broker.no_opinion : tgm_decide_subscribe(plugin, client, check->topic);
    }
    if (check->access != MOSQ_ACL_WRITE || check->qos > 2 || !(plugin->events >> TG_WILL & 1)) return plugin->broker.no_opinion;
    struct client *client = plugin->leaving;
    bool has_left = client != NULL && client->broker == check->client && client->id == mosquitto_client_id(check->client);
    if (!has_left && !is_taken_over(plugin, check->client)) return plugin->broker.no_opinion;
    if (!has_left && (client = tgm_client(plugin, check->client)) == NULL) return MOSQ_ERR_ACL_DENIED;
    int outcome = client->from_gateway ? plugin->broker.no_opinion : tgm_decide_will(plugin, client, check);
    if (has_left) see_off(plugin);
    return outcome;
}

/* Whether the broker has not accepted whom it was asked about. */
static bool has_failed(const struct plugin *plugin, const struct client *client, bool at_once)
{
    if (plugin->broker.is_2_1) return !client->accepted;
    return mosquitto_client_id(client->broker) == NULL || (at_once && plugin->settled); /* with TICKs, then */
}

static void on_end(struct plugin *plugin, const struct mosquitto *broker)
{
    bool at_once = plugin->asked == broker;
    plugin->asked = NULL;
    if (plugin->newcomer == broker) plugin->newcomer = NULL;
    see_off(plugin);
    bool has_wills = plugin->events >> TG_WILL & 1;
    struct client *client = has_wills && mosquitto_client_id(broker) != NULL ? tgm_client(plugin, broker) : tgm_known(plugin, broker);
    if (client == NULL) {
        tgm_forget(plugin, broker); /* there is no memory for what a will would be limited by */
        return;
    }
    if (client->announced && !client->refused && !client->from_gateway && plugin->events >> TG_AUTH_FAILURE & 1
        && has_failed(plugin, client, at_once) && (client->generation == plugin->loads || tgm_resolve(plugin, client)))
        tgm_decide_failure(plugin, client);
    if (!has_wills) {
        tgm_forget(plugin, broker);
        return;
    }
    tgm_free_places(plugin, client);
    client->leaving = true;
    plugin->leaving = client;
}

static void kick_the_doomed(struct plugin *plugin)
{
    static char id[65536]; /* an identifier's size has 16 bits, and an end is written behind it */
    /* 2.0.19 and later, and Debian's 2.0.11, ask meanwhile whether what a session has subscribed to is allowed still. */
    plugin->kicking = true;
    while (plugin->clients.doomed != NULL) {
        struct client *client = plugin->clients.doomed;
        plugin->clients.doomed = client->next_doomed;
        client->doomed = false;
        if (client->leaving || client->who.client_size >= sizeof id) continue;
        plugin->kicked++;
        memcpy(id, client->who.client, client->who.client_size);
        id[client->who.client_size] = 0;
        mosquitto_kick_client_by_clientid(id, true);
    }
    plugin->kicking = false;
}

static int last_word(int event, void *data, void *userdata)
{
    struct plugin *plugin = userdata;
    if (event == MOSQ_EVT_ACL_CHECK) return plugin->options.authorisation == TGM_OPEN ? MOSQ_ERR_SUCCESS : MOSQ_ERR_PLUGIN_DEFER;
    /* Whether somebody without a user name may come in is what allow_anonymous says, also when all defer. */
    const struct mosquitto_evt_basic_auth *connect = data;
    bool is_open = plugin->options.authentication == TGM_OPEN && connect->username != NULL;
    if (!is_open) return MOSQ_ERR_PLUGIN_DEFER;
    plugin->asked = NULL; /* accepted */
    return MOSQ_ERR_SUCCESS;
}

static bool give_last_word(struct plugin *plugin, int event, bool anew)
{
    bool has = plugin->last_words >> event & 1, wanted = plugin->registered >> event & 1;
    if (plugin->broker.is_2_1 || (has == wanted && !anew)) return true;
    if (has) mosquitto_callback_unregister(plugin->identifier, event, last_word, NULL);
    plugin->last_words &= ~(1u << event);
    if (!wanted) return true;
    if (mosquitto_callback_register(plugin->identifier, event, last_word, NULL, plugin) != MOSQ_ERR_SUCCESS) return false;
    plugin->last_words |= 1u << event;
    return true;
}

static void settle(struct plugin *plugin)
{
    give_last_word(plugin, MOSQ_EVT_BASIC_AUTH, true);
    give_last_word(plugin, MOSQ_EVT_ACL_CHECK, true);
    plugin->settled = true;
    plugin->reloading = false;
}

static void on_tick(struct plugin *plugin, struct mosquitto_evt_tick *tick)
{
    if (plugin->broker.is_2_1) tick->next_ns = TICK_MS; /* there it is called next_ms */
    see_off(plugin);
    plugin->newcomer = NULL;
    kick_the_doomed(plugin);
    if (!plugin->settled) settle(plugin);
    plugin->coarse = 0;
    uint64_t now = tgm_coarse_now();
    if ((int64_t)(now - plugin->next_chore) < 0) return;
    plugin->next_chore = now + CHORES;
    tg_sweep(&plugin->engine, now);
    tg_window_sweep(&plugin->engine);
    tgm_follow(plugin);
    tgm_tell_transitions(plugin);
    tgm_report(plugin, now);
}

static void on_accepted(struct plugin *plugin, const struct mosquitto *broker)
{
    see_off(plugin); /* this may be another at the same address */
    struct client *client = tgm_known(plugin, broker);
    if (client != NULL) client->accepted = true;
}

static int on_reload(struct plugin *plugin)
{
    see_off(plugin); /* its limits are of the former policy */
    plugin->reloading = true;
    plugin->reloaded = tgm_now();
    plugin->settled = false;
    tgm_reload(plugin);
    /* 2.0 takes anything else for an answer on behalf of all plugins, and 2.1 for a failure. */
    return plugin->broker.is_2_1 ? MOSQ_ERR_SUCCESS : MOSQ_ERR_PLUGIN_DEFER;
}

int tgm_on_event(int event, void *data, void *userdata)
{
    struct plugin *plugin = userdata;
    if (event != MOSQ_EVT_DISCONNECT) plugin->asked = NULL;
    switch (event) {
    case MOSQ_EVT_MESSAGE: return on_message(plugin, data);
    case MOSQ_EVT_ACL_CHECK: return on_acl_check(plugin, data);
    case MOSQ_EVT_BASIC_AUTH: return on_connect(plugin, data);
    case MOSQ_EVT_RELOAD: return on_reload(plugin);
    case MOSQ_EVT_TICK: on_tick(plugin, data); break;
    case CONNECT_2_1: on_accepted(plugin, ((const struct mosquitto_evt_disconnect *)data)->client); break;
    /* The client is the first thing in all three. */
    case MOSQ_EVT_DISCONNECT: case CLIENT_OFFLINE_2_1: on_end(plugin, ((const struct mosquitto_evt_disconnect *)data)->client); break;
    default: break;
    }
    return MOSQ_ERR_SUCCESS;
}

static bool has_bans(const struct plugin *plugin)
{
    return plugin->engine.policy.head->bans > 0 || plugin->bans.count > 0; /* a ban outlives its limit */
}

/* The broker's events that the policy needs: a bit for each. */
static uint32_t needed(const struct plugin *plugin)
{
    uint32_t on = plugin->events;
    uint32_t events = 1u << MOSQ_EVT_RELOAD | 1u << MOSQ_EVT_TICK | 1u << MOSQ_EVT_DISCONNECT;
    if (on >> TG_PUBLISH & 1 || (on >> TG_AUTH_FAILURE & 1 && !plugin->broker.is_2_1)) events |= 1u << MOSQ_EVT_MESSAGE;
    if (on >> TG_CONNECT & 1 || on >> TG_AUTH_FAILURE & 1 || has_bans(plugin)) events |= 1u << MOSQ_EVT_BASIC_AUTH;
    bool may_ask = plugin->broker.is_2_1 || plugin->options.authentication != TGM_UNKNOWN;
    if (on >> TG_WILL & 1 && may_ask) events |= 1u << MOSQ_EVT_BASIC_AUTH; /* for who takes over */
    if (on >> TG_SUBSCRIBE & 1 || on >> TG_WILL & 1) events |= 1u << MOSQ_EVT_ACL_CHECK;
    if (plugin->broker.is_2_1) {
        events |= 1u << CLIENT_OFFLINE_2_1;
        /* Also before failures are counted: who is in by then would else have failed. */
        if (events >> MOSQ_EVT_BASIC_AUTH & 1 || on >> TG_WILL & 1) events |= 1u << CONNECT_2_1;
    }
    return events;
}

static bool answered(const struct plugin *plugin, int level, uint32_t events, int event, enum answers answers, const char *option,
                     const char *what)
{
    if (plugin->broker.is_2_1 || !(events >> event & 1) || answers != TGM_UNKNOWN) return true;
    tgm_log(level, "limits on %s need plugin_opt_%s in mosquitto.conf with this version of Mosquitto: \"others\" when a file or "
            "another plugin decides who may, \"open\" when nothing does", what, option);
    return false;
}

bool tgm_can_enforce(const struct plugin *plugin, int level)
{
    uint32_t events = needed(plugin);
    bool who = answered(plugin, level, events, MOSQ_EVT_BASIC_AUTH, plugin->options.authentication, "authentication",
                        "connecting, bans and failed logins");
    bool what = answered(plugin, level, events, MOSQ_EVT_ACL_CHECK, plugin->options.authorisation, "authorisation",
                         "subscriptions and wills");
    return who && what;
}

/* Plugins are asked in the order in which they have registered: an event that is needed later comes behind the others, and where
 * one of them allows what is asked, there is nothing left to refuse. */
static void tell_order(const struct plugin *plugin, int event)
{
    if (!plugin->begun || (event != MOSQ_EVT_BASIC_AUTH && event != MOSQ_EVT_ACL_CHECK)) return;
    bool connects = event == MOSQ_EVT_BASIC_AUTH;
    if ((connects ? plugin->options.authentication : plugin->options.authorisation) == TGM_OPEN) return;
    tgm_log(MOSQ_LOG_WARNING, "limits on %s are new, and asked behind others: %s is not limited: start Mosquitto again",
            connects ? "connecting" : "subscriptions or wills",
            connects ? "whom another plugin or a file lets in" : "what another plugin or a file allows");
}

static bool want(struct plugin *plugin, int event, bool wanted)
{
    bool has = plugin->registered >> event & 1;
    if (has == wanted) return true;
    plugin->registered ^= 1u << event;
    if (!wanted) {
        mosquitto_callback_unregister(plugin->identifier, event, tgm_on_event, NULL);
        return true;
    }
    int outcome = mosquitto_callback_register(plugin->identifier, event, tgm_on_event, NULL, plugin);
    if (outcome == MOSQ_ERR_SUCCESS) {
        tell_order(plugin, event);
        return true;
    }
    plugin->registered ^= 1u << event;
    if (outcome == MOSQ_ERR_ALREADY_EXISTS) tgm_log(MOSQ_LOG_ERR, "loaded twice; keep one of its plugin lines");
    else tgm_log(MOSQ_LOG_ERR, "the broker refuses event %d: error %d", event, outcome);
    return false;
}

bool tgm_register(struct plugin *plugin)
{
    uint32_t events = needed(plugin);
    const struct options *options = &plugin->options;
    if (!plugin->broker.is_2_1 && options->authentication == TGM_UNKNOWN) events &= ~(1u << MOSQ_EVT_BASIC_AUTH);
    if (!plugin->broker.is_2_1 && options->authorisation == TGM_UNKNOWN) events &= ~(1u << MOSQ_EVT_ACL_CHECK);
    for (int event = 1; event < 32; event++)
        if (!want(plugin, event, events >> event & 1)) return false;
    return give_last_word(plugin, MOSQ_EVT_BASIC_AUTH, false) && give_last_word(plugin, MOSQ_EVT_ACL_CHECK, false);
}

void tgm_unregister_all(struct plugin *plugin)
{
    for (int event = 1; event < 32; event++) want(plugin, event, false);
    give_last_word(plugin, MOSQ_EVT_BASIC_AUTH, false);
    give_last_word(plugin, MOSQ_EVT_ACL_CHECK, false);
}
