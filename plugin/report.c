/* What operators see: numbers below $SYS/broker/tidegate, published when they have changed, and a line of log when somebody
 * comes under a limit and when that has ended. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

#define SECOND ((uint64_t)1000000000)
#define ROOT "$SYS/broker/tidegate/"
#define MOST_AT_ONCE 1000u      /* limits reported at one TICK: the broker waits meanwhile */
#define MOST_LINES 10u          /* of log, likewise */

static const char *const KINDS[TG_TALLIES] = {"passed", "observed", "delayed", "dropped", "rejected", "disconnected", "banned",
                                              "crowded"};

static void publish(const char *topic, uint64_t number)
{
    char text[24];
    int size = snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    mosquitto_broker_publish_copy(NULL, topic, size, text, 0, true, NULL);
}

/* A limit's name as a level of a topic, or for the log. */
static void write_name(const struct tg_policy *policy, const struct tg_limit *limit, char name[129])
{
    size_t size = limit->name.count < 128 ? limit->name.count : 128;
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)policy->text[limit->name.first + i];
        name[i] = byte < 0x20 || byte == 0x7f || strchr("+#/", byte) != NULL ? '_' : (char)byte;
    }
    while (size > 0 && size < limit->name.count && ((uint8_t)name[size - 1] & 0x80)) size--; /* no part of a character */
    name[size] = 0;
}

static void report_limit(struct plugin *plugin, const struct tg_limit *limit)
{
    char name[129], topic[sizeof ROOT + 128 + 32];
    write_name(&plugin->engine.policy, limit, name);
    for (unsigned kind = 0; kind < TG_TALLIES; kind++) {
        size_t at = (size_t)kind * plugin->engine.segment.slots + limit->slot;
        uint64_t count = plugin->engine.tallies[at];
        if (count == plugin->told[at]) continue;
        plugin->told[at] = count;
        snprintf(topic, sizeof topic, ROOT "limits/%s/%s", name, KINDS[kind]);
        publish(topic, count);
    }
}

void tgm_report(struct plugin *plugin, uint64_t now)
{
    const struct tg_policy *policy = &plugin->engine.policy;
    if (plugin->options.sys_interval == 0 || plugin->engine.tallies == NULL) return;
    if (plugin->report_at == 0) {
        if ((int64_t)(now - plugin->next_report) < 0) return;
        plugin->next_report = now + plugin->options.sys_interval * SECOND;
        if (plugin->told == NULL) {
            plugin->told = calloc((size_t)TG_TALLIES * plugin->engine.segment.slots, sizeof *plugin->told);
            if (plugin->told == NULL) return;
            plugin->loads_told = plugin->kicked_told = plugin->clients_told = UINT32_MAX;
        }
        if (plugin->loads_told != plugin->loads) publish(ROOT "limits/count", policy->head->limits);
        if (plugin->clients_told != plugin->clients.count) publish(ROOT "clients", plugin->clients.count);
        if (plugin->kicked_told != plugin->kicked) publish(ROOT "kicked", plugin->kicked);
        plugin->loads_told = plugin->loads;
        plugin->clients_told = plugin->clients.count;
        plugin->kicked_told = plugin->kicked;
    }
    uint32_t end = plugin->report_at + MOST_AT_ONCE;
    for (; plugin->report_at < policy->head->limits && plugin->report_at < end; plugin->report_at++)
        report_limit(plugin, &policy->limits[plugin->report_at]);
    if (plugin->report_at >= policy->head->limits) plugin->report_at = 0;
}

static void tell(const struct plugin *plugin, const struct tg_event *event)
{
    const struct tg_policy *policy = &plugin->engine.policy;
    const struct tg_limit *limit = NULL;
    for (uint32_t i = 0; i < policy->head->limits && limit == NULL; i++)
        if (policy->limits[i].slot == event->slot) limit = &policy->limits[i];
    if (limit == NULL || event->kind == TG_STILL || event->action >= TG_TALLIES) return;
    char name[129], client[sizeof event->client + 1], topic[sizeof event->topic + 1];
    write_name(policy, limit, name);
    tgm_write_text(client, sizeof client, event->client, event->client_size);
    tgm_write_text(topic, sizeof topic, event->topic, event->topic_size);
    if (event->kind == TG_BEGAN)
        tgm_log(MOSQ_LOG_NOTICE, "limit %s: %s%s is over it, topic %s: %s", name, client, event->crowd ? " (one of a crowd)" : "",
                topic, KINDS[event->action]);
    else
        tgm_log(MOSQ_LOG_NOTICE, "limit %s: %s%s is within it again", name, client, event->crowd ? " (one of a crowd)" : "");
}

void tgm_tell_transitions(struct plugin *plugin)
{
    struct tg_segment *segment = &plugin->engine.segment;
    uint32_t row = plugin->engine.row;
    if (plugin->memory.fd >= 0 || segment->records == 0) return; /* a control plane tells them */
    uint64_t written = segment->row_heads[row].written;
    if (written - plugin->event_read > segment->records) plugin->event_read = written - segment->records;
    for (unsigned lines = 0; plugin->event_read < written; lines++) {
        struct tg_event event;
        if (lines == MOST_LINES) {
            tgm_log(MOSQ_LOG_NOTICE, "%llu more came under a limit or within it again",
                    (unsigned long long)(written - plugin->event_read));
            plugin->event_read = written;
            return;
        }
        if (tg_event_read(segment, row, ++plugin->event_read, &event) == 1) tell(plugin, &event);
    }
}
