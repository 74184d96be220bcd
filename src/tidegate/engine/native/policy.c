/* A compiled policy becomes a private copy of which every number has been checked, so that nothing behind this file
 * checks again. The topic tree's edges go into a hash table, so that a level costs one look whatever the policy's size. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gcra.h"
#include "hash.h"

#define MOST_BYTES ((size_t)1 << 30)
#define LONGEST ((uint64_t)1 << 60) /* ticks: two years */
#define LONGEST_BAN ((uint64_t)1 << 56) /* ns: two years */
#define STEEPEST 100            /* policy/actions.py */

static bool refuse(char error[TG_ERROR], const char *what, uint32_t where)
{
    snprintf(error, TG_ERROR, "corrupt: %s %u", what, where);
    return false;
}

static bool within(struct tg_range range, uint32_t count) { return range.first <= count && range.count <= count - range.first; }

/* The sections in their order; each begins at a multiple of eight. */
static bool sections(struct tg_policy *policy, size_t bytes)
{
    const struct tg_head *head = policy->head;
    size_t at = (sizeof *head + 7) & ~(size_t)7;
    const void **const starts[] = {
        (const void **)&policy->limits, (const void **)&policy->classes, (const void **)&policy->groups,
        (const void **)&policy->conditions, (const void **)&policy->values, (const void **)&policy->components,
        (const void **)&policy->choices, (const void **)&policy->budgets, (const void **)&policy->nodes,
        (const void **)&policy->edges, (const void **)&policy->bans, (const void **)&policy->numbers, (const void **)&policy->text};
    const uint32_t counts[] = {head->limits, head->classes, head->groups, head->conditions, head->values,
                               head->components, head->choices, head->budgets, head->nodes, head->edges,
                               head->bans, head->numbers, head->text};
    const size_t sizes[] = {sizeof(struct tg_limit), sizeof(struct tg_class), sizeof(struct tg_range),
                            sizeof(struct tg_condition), sizeof(struct tg_value), sizeof(struct tg_component),
                            sizeof(struct tg_choice), sizeof(struct tg_budget), sizeof(struct tg_node),
                            sizeof(struct tg_edge), sizeof(struct tg_ban), sizeof(uint32_t), 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        *starts[i] = policy->blob + at;
        size_t size = ((size_t)counts[i] * sizes[i] + 7) & ~(size_t)7;
        if (size > bytes || at > bytes - size) return false;
        at += size;
    }
    return at == bytes;
}

static bool numbers_below(const struct tg_policy *policy, struct tg_range range, uint32_t bound)
{
    if (!within(range, policy->head->numbers)) return false;
    for (uint32_t i = 0; i < range.count; i++)
        if (policy->numbers[range.first + i] >= bound) return false;
    return true;
}

static bool choices_valid(const struct tg_policy *policy, struct tg_range range, bool of_budgets)
{
    if (!within(range, policy->head->choices)) return false;
    for (uint32_t i = 0; i < range.count; i++) {
        const struct tg_choice *choice = &policy->choices[range.first + i];
        if (choice->class != TG_NONE && choice->class >= policy->head->classes) return false;
        if (!within(choice->budgets, policy->head->budgets)) return false;
        if (choice->budgets.count > (of_budgets ? TG_MAX_BUDGETS / 2 : 0)) return false;
    }
    return true;
}

static bool limits_valid(const struct tg_policy *policy, uint32_t slots, char error[TG_ERROR])
{
    const struct tg_head *head = policy->head;
    for (uint32_t i = 0; i < head->limits; i++) {
        const struct tg_limit *limit = &policy->limits[i];
        bool good = limit->slot < slots && limit->who < head->groups && limit->event < TG_EVENTS
                    && within(limit->name, head->text) && numbers_below(policy, limit->in, head->classes)
                    && numbers_below(policy, limit->out, head->classes) && limit->per.count <= TG_MAX_KEYS
                    && numbers_below(policy, limit->per, head->components)
                    && choices_valid(policy, limit->rate, true) && choices_valid(policy, limit->bandwidth, true)
                    && choices_valid(policy, limit->concurrent, false) && choices_valid(policy, limit->size, false)
                    && choices_valid(policy, limit->extra, false) && limit->flags <= TG_FLAGS
                    && (limit->ban == TG_NONE || limit->ban < head->bans)
                    && (i == 0 || policy->limits[i - 1].event <= limit->event);
        for (unsigned v = 0; v < 2; v++)
            for (unsigned q = 0; q < 4; q++)
                good = good && limit->actions[v][q] < TG_ACTIONS && limit->then[v][q] < TG_BAN
                       && (limit->actions[v][q] != TG_BAN || limit->ban != TG_NONE);
        if (!good) return refuse(error, "limit", i);
    }
    return true;
}

static bool clients_valid(const struct tg_policy *policy, char error[TG_ERROR])
{
    const struct tg_head *head = policy->head;
    for (uint32_t i = 0; i < head->classes; i++) {
        const struct tg_class *class = &policy->classes[i];
        if (class->all_of >= head->groups || !within(class->any_of, head->groups) || class->priority >= TG_PRIORITIES)
            return refuse(error, "class", i);
    }
    for (uint32_t i = 0; i < head->groups; i++)
        if (!within(policy->groups[i], head->conditions)) return refuse(error, "group", i);
    for (uint32_t i = 0; i < head->conditions; i++) {
        const struct tg_condition *condition = &policy->conditions[i];
        if (condition->kind >= TG_CONDITIONS || !within(condition->values, head->values))
            return refuse(error, "condition", i);
    }
    for (uint32_t i = 0; i < head->values; i++)
        if (!within(policy->values[i].text, head->text) || policy->values[i].bits > 128) return refuse(error, "value", i);
    for (uint32_t i = 0; i < head->components; i++) {
        const struct tg_component *component = &policy->components[i];
        bool good = component->kind <= TG_TOPIC
                    && (component->kind != TG_IP || (component->a <= 32 && component->b <= 128))
                    && (component->kind != TG_CAPTURE || component->a < TG_MAX_CAPTURES);
        if (!good) return refuse(error, "component", i);
    }
    return true;
}

static bool budgets_valid(const struct tg_policy *policy, char error[TG_ERROR])
{
    for (uint32_t i = 0; i < policy->head->budgets; i++) {
        const struct tg_budget *budget = &policy->budgets[i];
        if (budget->multiplier == 0 || budget->multiplier >> 63 != 0 || budget->shift > 63 || budget->multiplier >> budget->shift > LONGEST || budget->burst > LONGEST
            || budget->largest > LONGEST || ((budget->burst | budget->largest) & 1) != 0)
            return refuse(error, "budget", i);
    }
    return policy->head->horizon <= 2 * LONGEST || refuse(error, "horizon", 0);
}

static bool bans_valid(const struct tg_policy *policy, char error[TG_ERROR])
{
    for (uint32_t i = 0; i < policy->head->bans; i++) {
        const struct tg_ban *ban = &policy->bans[i];
        bool good = ban->first > 0 && ban->first <= ban->longest && ban->longest <= LONGEST_BAN && ban->factor >= 1
                    && ban->factor <= STEEPEST;
        if (!good) return refuse(error, "ban", i);
    }
    return true;
}

/* Whether a list of a node names limits that are there; those whose filters match, as having filters. */
static bool names_limits(const struct tg_policy *policy, struct tg_range range)
{
    if (!numbers_below(policy, range, 2 * policy->head->limits)) return false;
    for (uint32_t i = 0; i < range.count; i++) {
        uint32_t number = policy->numbers[range.first + i];
        if (!(number & 1) && !policy->limits[number >> 1].topics) return false;
    }
    return true;
}

/* A child comes behind its parent and has no other, so there is one way to a node, and depths are known in one pass. */
static bool tree_valid(struct tg_policy *policy, char error[TG_ERROR])
{
    const struct tg_head *head = policy->head;
    for (uint32_t i = 0; i < head->nodes; i++) {
        const struct tg_node *node = &policy->nodes[i];
        if ((node->plus != TG_NONE && (node->plus >= head->nodes || node->plus <= i))
            || !names_limits(policy, node->here) || !names_limits(policy, node->below))
            return refuse(error, "node", i);
    }
    for (uint32_t i = 0; i < head->edges; i++) {
        const struct tg_edge *edge = &policy->edges[i];
        if (edge->child >= head->nodes || edge->parent >= edge->child || !within(edge->text, head->text)
            || (i > 0 && edge->child <= policy->edges[i - 1].child)) /* by child: format.py writes them in this order */
            return refuse(error, "edge", i);
    }
    for (unsigned tree = 0; tree < TG_ROOTS; tree++)
        if (head->roots[tree] != TG_NONE && head->roots[tree] >= head->nodes) return refuse(error, "root", tree);
    uint32_t *depth = calloc((size_t)head->nodes + 1, sizeof *depth);
    if (depth == NULL) return refuse(error, "no memory for nodes", head->nodes);
    uint32_t twice = TG_NONE; /* a node with two parents */
    for (uint32_t i = 0, e = 0; i < head->nodes; i++) {
        if (e < head->edges && policy->edges[e].child == i) {
            if (depth[i] != 0) twice = i;
            depth[i] = depth[policy->edges[e++].parent] + 1;
        }
        uint32_t plus = policy->nodes[i].plus;
        if (plus != TG_NONE) {
            if (depth[plus] != 0) twice = plus;
            depth[plus] = depth[i] + 1;
        }
        if (depth[i] > policy->depth) policy->depth = depth[i];
    }
    free(depth);
    if (twice != TG_NONE) return refuse(error, "parents of node", twice);
    return policy->depth <= TG_MAX_LEVELS || refuse(error, "depth", policy->depth);
}

static uint32_t most_of(const struct tg_policy *policy, struct tg_range choices)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < choices.count; i++) {
        uint32_t count = policy->choices[choices.first + i].budgets.count;
        if (count > most) most = count;
    }
    return most;
}

static void index_edges(struct tg_policy *policy)
{
    for (uint32_t i = 0; i < policy->head->edges; i++) {
        const struct tg_edge *edge = &policy->edges[i];
        uint64_t hash = tg_quick(policy->text + edge->text.first, edge->text.count);
        uint32_t at = (uint32_t)tg_mix(hash, edge->parent) & policy->edge_mask;
        while (policy->edge_table[at] != 0) at = (at + 1) & policy->edge_mask;
        policy->edge_table[at] = i + 1;
    }
}

bool tg_policy_load(struct tg_policy *policy, const void *blob, size_t bytes, uint32_t slots, uint64_t words,
                    char error[TG_ERROR])
{
    memset(policy, 0, sizeof *policy);
    if (bytes < sizeof(struct tg_head) || bytes > MOST_BYTES) {
        snprintf(error, TG_ERROR, "truncated: %zu bytes are no compiled policy", bytes);
        return false;
    }
    policy->blob = malloc(bytes);
    if (policy->blob == NULL) {
        snprintf(error, TG_ERROR, "no memory for a policy of %zu bytes", bytes);
        return false;
    }
    memcpy(policy->blob, blob, bytes);
    policy->head = (const void *)policy->blob;
    const struct tg_head *head = policy->head;
    const size_t covered = offsetof(struct tg_head, limits);
    bool good = true;
    if (memcmp(head->magic, "TGPOLICY", 8) != 0) {
        good = false;
        snprintf(error, TG_ERROR, "not a compiled policy of Tidegate");
    } else if (head->layout != TG_LAYOUT) {
        good = false;
        snprintf(error, TG_ERROR, "compiled by another version of Tidegate; compile it again");
    } else if (head->bytes != bytes) {
        good = false;
        snprintf(error, TG_ERROR, "truncated: %zu bytes of %u", bytes, head->bytes);
    } else if (head->checksum != tg_fnv(policy->blob + covered, bytes - covered)) {
        good = refuse(error, "its checksum is wrong; compile it again;", 0);
    } else if (head->limits > TG_MAX_LIMITS || head->classes > TG_MAX_CLASSES || head->components > TG_MAX_COMPONENTS
               || head->groups == 0 || !sections(policy, bytes)) {
        good = refuse(error, "sections", 0);
    }
    good = good && limits_valid(policy, slots, error) && clients_valid(policy, error) && budgets_valid(policy, error)
           && bans_valid(policy, error) && tree_valid(policy, error);
    if (good) {
        uint32_t room = 16;
        while (room < 2 * head->edges) room *= 2;
        policy->edge_mask = room - 1;
        policy->edge_table = calloc(room, sizeof *policy->edge_table);
        policy->quotas = calloc((size_t)head->budgets + 1, sizeof *policy->quotas);
        policy->prices = calloc((size_t)head->budgets + 1, sizeof *policy->prices);
        good = policy->edge_table != NULL && policy->quotas != NULL && policy->prices != NULL;
        if (!good) snprintf(error, TG_ERROR, "no memory for a policy of %zu bytes", bytes);
    }
    if (!good) {
        tg_policy_free(policy);
        return false;
    }
    index_edges(policy);
    for (uint32_t i = 0; i < head->budgets; i++) {
        const struct tg_budget *budget = &policy->budgets[i];
        policy->quotas[i] = tg_quota_of(budget, words, head->limits);
        if (!budget->of_bytes) policy->prices[i] = tg_price_of(tg_cost_of(budget, 1, TG_UNSCALED));
    }
    for (uint32_t i = 0; i < head->components; i++) policy->by_topic |= policy->components[i].kind == TG_TOPIC;
    for (uint32_t i = 0; i < head->limits; i++)
        policy->most_budgets += most_of(policy, policy->limits[i].rate) + most_of(policy, policy->limits[i].bandwidth);
    return true;
}

void tg_policy_free(struct tg_policy *policy)
{
    free(policy->blob);
    free(policy->edge_table);
    free(policy->quotas);
    free(policy->prices);
    memset(policy, 0, sizeof *policy);
}
