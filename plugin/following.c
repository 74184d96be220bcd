/* A control plane's segment: attached at the start, its policies followed as they are published, another segment taken when it
 * has replaced the file. When the control plane ends, its last limits stay in force. Should somebody cut the file short, which
 * a control plane never does, the same limits go on in memory of the plugin's own, with fresh budgets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

#define LOOKS ((uint64_t)1000000000)    /* ns between two looks at the file */

/* The segment's present policy, to be freed; NULL and why. */
static uint8_t *copy_policy(const struct tg_segment *segment, uint64_t *generation, size_t *bytes, char error[TG_ERROR])
{
    *generation = tg_segment_generation(segment);
    uint8_t *blob = malloc(segment->policy_room + 1);
    if (blob == NULL) {
        snprintf(error, TG_ERROR, "no memory to load it");
        return NULL;
    }
    *bytes = tg_segment_policy(segment, blob);
    return blob;
}

static bool attach(struct plugin *plugin, char error[TG_ERROR])
{
    struct memory memory;
    uint64_t generation;
    size_t bytes;
    if (!tgm_attach(&memory, plugin->options.segment, error)) return false;
    uint8_t *blob = copy_policy(&memory.segment, &generation, &bytes, error);
    if (blob == NULL) {
        tgm_release(&memory);
        return false;
    }
    bool good = tgm_move(plugin, &memory, blob, bytes, error);
    free(blob);
    if (good) plugin->generation = generation;
    return good;
}

bool tgm_begin_shared(struct plugin *plugin, char error[TG_ERROR]) { return attach(plugin, error); }

/* Once for each change. */
static void complain(struct plugin *plugin, const char *what)
{
    if (strcmp(plugin->trouble, what) == 0) return;
    snprintf(plugin->trouble, sizeof plugin->trouble, "%s", what);
    tgm_log(MOSQ_LOG_WARNING, "%s: %s; the %u limits that were in force stay so", plugin->options.segment, what,
            plugin->engine.policy.head->limits);
}

static void take_own_memory(struct plugin *plugin)
{
    struct memory memory;
    char error[TG_ERROR];
    uint8_t *blob = plugin->blob; /* tgm_move replaces it by a copy */
    size_t bytes = plugin->blob_bytes;
    plugin->blob = NULL;
    if (!tgm_private_memory(&memory, plugin->engine.policy.head->limits, plugin->options.buckets, error)
        || !tgm_move(plugin, &memory, blob, bytes, error)) {
        plugin->blob = blob;
        tgm_log(MOSQ_LOG_ERR, "%s has shrunk, and there is no other memory: %s", plugin->options.segment, error);
        return;
    }
    free(blob);
    complain(plugin, "it has shrunk");
}

static void look_at_file(struct plugin *plugin)
{
    char error[TG_ERROR];
    enum file_state state = plugin->memory.fd < 0 ? TGM_REPLACED : tgm_look(&plugin->memory, plugin->options.segment);
    switch (state) {
    case TGM_SAME: break;
    case TGM_GONE: complain(plugin, "the gateway has taken it away"); break;
    case TGM_SHRUNK: take_own_memory(plugin); break;
    case TGM_REPLACED:
        if (attach(plugin, error)) {
            plugin->trouble[0] = 0;
            tgm_apply(plugin);
        } else {
            complain(plugin, error);
        }
        break;
    }
}

void tgm_follow(struct plugin *plugin)
{
    if (plugin->options.segment == NULL) return;
    uint64_t now = tgm_now();
    if ((int64_t)(now - plugin->next_look) >= 0) {
        plugin->next_look = now + LOOKS;
        look_at_file(plugin);
    }
    uint64_t generation;
    if (plugin->memory.fd < 0 || tg_segment_generation(&plugin->memory.segment) == plugin->generation) return;
    char error[TG_ERROR];
    size_t bytes;
    uint8_t *blob = copy_policy(&plugin->memory.segment, &generation, &bytes, error);
    if (blob != NULL && tgm_load(plugin, blob, bytes, error)) {
        plugin->trouble[0] = 0;
        plugin->generation = generation;
        tgm_apply(plugin);
    } else {
        complain(plugin, error); /* and tried again: it may have been read while another was written */
    }
    free(blob);
}
