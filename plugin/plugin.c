/* Beginning and end: what Mosquitto looks for in the file. */
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

#define EXPORT __attribute__((visibility("default")))
#define API 5

EXPORT int mosquitto_plugin_version(int supported_version_count, const int *supported_versions)
{
    for (int i = 0; i < supported_version_count; i++)
        if (supported_versions[i] == API) return API;
    return -1;
}

static struct plugin *all; /* one for each plugin line: 2.1 does not say that it calls the same function twice */

/* Two that limit by one file would each count all messages, with budgets of their own. (With a control plane's segment they have
 * the same, and each line may be another listener's; for all listeners, the second is refused what it registers.) */
static bool is_twice(const struct plugin *plugin)
{
    for (const struct plugin *other = all; other != NULL; other = other->next)
        if (plugin->options.policy != NULL && other->options.policy != NULL
            && strcmp(plugin->options.policy, other->options.policy) == 0) {
            tgm_log(MOSQ_LOG_ERR, "loaded twice; keep one of its plugin lines");
            return true;
        }
    return false;
}

static void destroy(struct plugin *plugin)
{
    struct plugin **link = &all;
    while (*link != NULL && *link != plugin) link = &(*link)->next;
    if (*link != NULL) *link = plugin->next;
    tgm_unregister_all(plugin);
    tgm_forget_all(plugin);
    tgm_end(plugin);
    free(plugin);
}

EXPORT int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **userdata, struct mosquitto_opt *options,
                                 int option_count)
{
    struct plugin *plugin = calloc(1, sizeof *plugin);
    if (plugin == NULL) return MOSQ_ERR_NOMEM;
    plugin->identifier = identifier;
    plugin->memory.fd = -1;
    tgm_find_broker(&plugin->broker);
    if (!tgm_read_options(&plugin->options, options, option_count) || is_twice(plugin)
        || !tgm_begin(plugin) || !tgm_can_enforce(plugin, MOSQ_LOG_ERR) || !tgm_register(plugin)) {
        destroy(plugin);
        return MOSQ_ERR_INVAL;
    }
    plugin->begun = true;
    plugin->next = all;
    all = plugin;
    *userdata = plugin;
    return MOSQ_ERR_SUCCESS;
}

EXPORT int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int option_count)
{
    (void)options;
    (void)option_count;
    if (userdata != NULL) destroy(userdata);
    return MOSQ_ERR_SUCCESS;
}
