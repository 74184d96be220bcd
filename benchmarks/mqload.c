/* mqload: a small native MQTT publish load generator, for measuring a broker or a proxy from outside.
 *
 *   mqload -p PORT [-c CLIENTS] [-q 0|1] [-w WINDOW] [-b BATCH] [-s BYTES] [-T TOPICS] [-i ID_PREFIX]
 *          [-n MESSAGES] [-t MAX_SECONDS] [-S SUBSCRIBERS] [-5]
 *
 * QoS 0: every client writes BATCH packets per write as fast as the socket takes them; a PINGREQ/PINGRESP
 *        on each connection ends the run, so the figure counts what the far side has read.
 * QoS 1: every client keeps at most WINDOW packets unacknowledged, written BATCH at a time; latency is
 *        from the write to the moment at which its PUBACK woke us.
 * -S:    that many connections subscribe to plant/# at QoS 0, and the run ends when all of them have
 *        received every message (or at MAX_SECONDS); "delivered" says how many arrived in all.
 * -5:    MQTT 5 instead of 3.1.1.
 *
 * Prints one JSON object: connects_per_s, messages, seconds, messages_per_s, refused (PUBACKs with an error),
 * lost_connections, and where they apply delivered and latency_us{p50,p90,p99,p999}.
 * Exit status: 0 measured, 1 a connection or subscription was not accepted, 2 bad arguments.
 * Talks to 127.0.0.1 only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    READ_BUFFER = 16384,   /* one packet at most, so MAX_SIZE stays below it */
    MAX_SIZE = 16000,
    MAX_TOPICS = 10000,    /* the topic's width is four digits */
    MAX_MESSAGES = 100000000,
    MAX_ID = 48,           /* keeps CONNECT's remaining length in one byte */
    IDS = 65536,           /* packet identifiers are 16 bits */
    KEEPALIVE = 60,        /* as real clients have one; MAX_SECONDS stays below it, so nobody has to ping */
};

typedef struct {
    int port, clients, qos, window, batch, size, topics, subscribers, v5;
    long messages;
    double max_seconds;
    const char *prefix;
} Options;

typedef struct {
    int fd, unacked, have, dead;
    uint16_t next_id;
    uint64_t *sent_at;              /* nanoseconds, by packet identifier */
    unsigned char in[READ_BUFFER];
} Client;

/* The packets that a client writes at once, ready made: one run of `batch` packets per topic. */
typedef struct {
    int packet, bytes, id_at;       /* lengths of one packet and of the run; where the identifier stands */
    unsigned char *runs;
} Batches;

typedef struct {
    long messages, refused, samples, room;   /* room: as many samples as there can be messages in all */
    int lost;
    uint64_t *latency;                       /* nanoseconds */
} Result;

static Options opt = {.port = 1883, .clients = 100, .qos = 1, .window = 1, .batch = 1, .size = 64, .topics = 1,
                      .messages = 100000, .max_seconds = 30, .prefix = "load"};
static atomic_long delivered;
static atomic_int subscribers_ready, stop;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void *zeroed(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (!memory) { fprintf(stderr, "mqload: out of memory\n"); exit(1); }
    return memory;
}

static int read_exactly(int fd, unsigned char *to, int n) {
    for (int got = 0; got < n;) {
        ssize_t k = read(fd, to + got, (size_t)(n - got));
        if (k <= 0) return 0;
        got += (int)k;
    }
    return 1;
}

/* Reads one whole packet of this type with at most 127 bytes behind its header; their number, or -1. */
static int read_packet(int fd, unsigned char type, unsigned char rest[127]) {
    unsigned char header[2];
    if (!read_exactly(fd, header, 2) || header[0] != type || header[1] > 127) return -1;
    return read_exactly(fd, rest, header[1]) ? header[1] : -1;
}

/* Where the packet that begins at `in` ends; 0 while it is not there as a whole. */
static int packet_end(const unsigned char *in, int have) {
    if (have < 2) return 0;
    if (in[1] < 128) return have >= 2 + in[1] ? 2 + in[1] : 0;
    if (have < 3) return 0;
    int end = 3 + (in[1] & 127) + 128 * in[2];
    return have >= end ? end : 0;
}

static void set_blocking(int fd, int blocking) { fcntl(fd, F_SETFL, blocking ? 0 : O_NONBLOCK); }

/* Connects one client and waits for its CONNACK; the descriptor (not blocking), or -1 when refused. */
static int connect_client(const char *role, int number) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0) return -1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = (time_t)opt.max_seconds + 1};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    char id[MAX_ID + 16];
    int n = snprintf(id, sizeof id, "%s%s%06d", opt.prefix, role, number), at = 12;
    unsigned char packet[128] = {0x10, (unsigned char)(12 + opt.v5 + n), 0, 4, 'M', 'Q', 'T', 'T',
                                 (unsigned char)(4 + opt.v5), 2, 0, KEEPALIVE}, answer[127];
    if (opt.v5) packet[at++] = 0;   /* no properties */
    packet[at++] = 0;
    packet[at++] = (unsigned char)n;
    memcpy(packet + at, id, (size_t)n);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) || write(fd, packet, (size_t)(at + n)) != at + n ||
        read_packet(fd, 0x20, answer) < 2 || answer[1]) {
        close(fd);
        return -1;
    }
    set_blocking(fd, 0);
    return fd;
}

static int subscribe(int fd) {
    unsigned char packet[16] = {0x82, (unsigned char)(12 + opt.v5), 0, 1}, answer[127];
    memcpy(packet + 4 + opt.v5, "\0\7plant/#\0", 10);
    set_blocking(fd, 1);
    if (write(fd, packet, (size_t)(14 + opt.v5)) != 14 + opt.v5) return 0;
    int n = read_packet(fd, 0x90, answer);
    set_blocking(fd, 0);
    return n >= 3 && answer[n - 1] < 0x80;
}

/* Reads what is there: bytes read, 0 at the connection's end, -1 when there is nothing now. */
static ssize_t fill(Client *c) {
    ssize_t got = read(c->fd, c->in + c->have, (size_t)(READ_BUFFER - c->have));
    if (got > 0) c->have += (int)got;
    return got;
}

static void discard(Client *c, int bytes) {
    memmove(c->in, c->in + bytes, (size_t)(c->have - bytes));
    c->have -= bytes;
}

/* The subscribers: one thread that counts PUBLISH packets on all of their connections. */
static void *receive(void *unused) {
    (void)unused;
    int ep = epoll_create1(0);
    Client *subscribers = zeroed((size_t)opt.subscribers, sizeof *subscribers);
    for (int i = 0; i < opt.subscribers; i++) {
        subscribers[i].fd = connect_client("sub", i);
        if (subscribers[i].fd < 0 || !subscribe(subscribers[i].fd)) {
            fprintf(stderr, "mqload: subscriber %d was not accepted\n", i);
            exit(1);
        }
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &subscribers[i]};
        epoll_ctl(ep, EPOLL_CTL_ADD, subscribers[i].fd, &e);
    }
    subscribers_ready = 1;
    struct epoll_event events[256];
    while (!stop) {
        int n = epoll_wait(ep, events, 256, 50);
        for (int j = 0; j < n; j++) {
            Client *c = events[j].data.ptr;
            ssize_t got = fill(c);
            if (got == 0) epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
            if (got <= 0) continue;
            int at = 0;
            long arrived = 0;
            for (int end; (end = packet_end(c->in + at, c->have - at)); at += end) arrived += c->in[at] >> 4 == 3;
            delivered += arrived;
            discard(c, at);
        }
    }
    return NULL;
}

/* Every topic has one width, so all packets are of one length. */
static Batches make_batches(void) {
    char topic[64];
    int width = snprintf(topic, sizeof topic, "plant/a/line/%04d/sensor/temp", 0);
    int rest = 2 + width + (opt.qos ? 2 : 0) + opt.v5 + opt.size, header = rest < 128 ? 2 : 3;
    Batches b = {.packet = header + rest, .bytes = opt.batch * (header + rest), .id_at = header + 2 + width};
    b.runs = zeroed((size_t)b.bytes, (size_t)opt.topics);
    for (int i = 0; i < opt.topics * opt.batch; i++) {
        unsigned char *p = b.runs + (size_t)i * (size_t)b.packet;
        snprintf(topic, sizeof topic, "plant/a/line/%04d/sensor/temp", i / opt.batch);
        memset(p, 'x', (size_t)b.packet);
        p[0] = (unsigned char)(0x30 | opt.qos << 1);
        p[1] = (unsigned char)(header == 2 ? rest : (rest & 127) | 128);
        if (header == 3) p[2] = (unsigned char)(rest >> 7);
        p[header] = 0;
        p[header + 1] = (unsigned char)width;
        memcpy(p + header + 2, topic, (size_t)width);
        if (opt.v5) p[b.id_at + (opt.qos ? 2 : 0)] = 0;   /* no properties */
    }
    return b;
}

static void lose(Client *c, Result *r) {
    c->dead = 1;
    r->lost++;
}

static void run_qos0(Client *clients, const Batches *b, uint64_t deadline, Result *r) {
    int *part = zeroed((size_t)opt.clients, sizeof *part);   /* bytes of its batch that a client has written */
    while (r->messages < opt.messages && r->lost < opt.clients && now_ns() < deadline) {
        int progress = 0;
        for (int i = 0; i < opt.clients && r->messages < opt.messages; i++) {
            if (clients[i].dead) continue;
            const unsigned char *run = b->runs + (size_t)(i % opt.topics) * (size_t)b->bytes;
            ssize_t k = send(clients[i].fd, run + part[i], (size_t)(b->bytes - part[i]), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (k < 0) {
                if (errno != EAGAIN) lose(&clients[i], r);
                continue;
            }
            progress = 1;
            part[i] += (int)k;
            if (part[i] == b->bytes) {
                part[i] = 0;
                r->messages += opt.batch;
            }
        }
        if (!progress) usleep(100);
    }
    for (int i = 0; i < opt.clients; i++) {
        if (clients[i].dead) continue;
        const unsigned char *run = b->runs + (size_t)(i % opt.topics) * (size_t)b->bytes;
        ssize_t left = b->bytes - part[i];
        set_blocking(clients[i].fd, 1);
        if (part[i] && send(clients[i].fd, run + part[i], (size_t)left, MSG_NOSIGNAL) == left) r->messages += opt.batch;
        if (send(clients[i].fd, "\xc0\0", 2, MSG_NOSIGNAL) != 2) lose(&clients[i], r);
    }
    unsigned char rest[127];
    for (int i = 0; i < opt.clients; i++)
        if (!clients[i].dead && read_packet(clients[i].fd, 0xd0, rest) != 0) lose(&clients[i], r);
    free(part);
}

static void take_acks(Client *c, uint64_t woke, Result *r) {
    while (!c->dead) {
        ssize_t got = fill(c);
        if (got == 0 || (got < 0 && errno != EAGAIN)) lose(c, r);
        if (got <= 0) return;
        int at = 0;
        for (int end; (end = packet_end(c->in + at, c->have - at)); at += end) {
            const unsigned char *p = c->in + at;
            if (p[0] != 0x40 || end < 4 || r->samples == r->room) continue;
            r->latency[r->samples++] = woke - c->sent_at[p[2] << 8 | p[3]];
            r->messages++;
            r->refused += end > 4 && p[4] >= 0x80;   /* MQTT 5, section 3.4.2.1 */
            c->unacked--;
        }
        discard(c, at);
    }
}

static void send_batches(Client *c, unsigned char *run, const Batches *b, long *sent, Result *r) {
    while (!c->dead && c->unacked + opt.batch <= opt.window && *sent < opt.messages) {
        uint64_t stamp = now_ns();
        for (int i = 0; i < opt.batch; i++) {
            if (++c->next_id == 0) c->next_id = 1;
            run[i * b->packet + b->id_at] = (unsigned char)(c->next_id >> 8);
            run[i * b->packet + b->id_at + 1] = (unsigned char)c->next_id;
            c->sent_at[c->next_id] = stamp;
        }
        if (send(c->fd, run, (size_t)b->bytes, MSG_NOSIGNAL) != b->bytes) { lose(c, r); return; }
        *sent += opt.batch;
        c->unacked += opt.batch;
    }
}

static void run_qos1(Client *clients, const Batches *b, uint64_t deadline, Result *r) {
    struct epoll_event events[512];
    long sent = 0;
    int ep = epoll_create1(0);
    for (int i = 0; i < opt.clients; i++) {
        struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.ptr = &clients[i]};
        epoll_ctl(ep, EPOLL_CTL_ADD, clients[i].fd, &e);
        send_batches(&clients[i], b->runs + (size_t)(i % opt.topics) * (size_t)b->bytes, b, &sent, r);
    }
    while (r->messages < opt.messages && r->lost < opt.clients && now_ns() < deadline) {
        int n = epoll_wait(ep, events, 512, 100);
        uint64_t woke = now_ns();
        for (int j = 0; j < n; j++) {
            Client *c = events[j].data.ptr;
            if (c->dead) continue;
            take_acks(c, woke, r);
            send_batches(c, b->runs + (size_t)((c - clients) % opt.topics) * (size_t)b->bytes, b, &sent, r);
        }
    }
    close(ep);
}

static int read_options(int argc, char **argv) {
    for (int o; (o = getopt(argc, argv, "c:q:w:b:s:T:i:n:p:t:S:5")) != -1;) switch (o) {
        case 'c': opt.clients = atoi(optarg); break;
        case 'q': opt.qos = atoi(optarg); break;
        case 'w': opt.window = atoi(optarg); break;
        case 'b': opt.batch = atoi(optarg); break;
        case 's': opt.size = atoi(optarg); break;
        case 'T': opt.topics = atoi(optarg); break;
        case 'i': opt.prefix = optarg; break;
        case 'n': opt.messages = atol(optarg); break;
        case 'p': opt.port = atoi(optarg); break;
        case 't': opt.max_seconds = atof(optarg); break;
        case 'S': opt.subscribers = atoi(optarg); break;
        case '5': opt.v5 = 1; break;
        default: return 0;
    }
    return optind == argc && (opt.qos == 0 || opt.qos == 1) && opt.batch >= 1 && (!opt.qos || opt.window >= opt.batch) &&
           opt.window < IDS && opt.clients >= 1 && opt.subscribers >= 0 && opt.messages >= 1 && opt.messages <= MAX_MESSAGES &&
           opt.topics >= 1 && opt.topics <= MAX_TOPICS && opt.size >= 1 && opt.size <= MAX_SIZE &&
           opt.max_seconds > 0 && opt.max_seconds <= KEEPALIVE && strlen(opt.prefix) <= MAX_ID;
}

int main(int argc, char **argv) {
    if (!read_options(argc, argv)) {
        fprintf(stderr, "mqload: bad arguments; the head of mqload.c lists them\n");
        return 2;
    }
    pthread_t receiver;
    if (opt.subscribers) {
        if (pthread_create(&receiver, NULL, receive, NULL)) { fprintf(stderr, "mqload: no thread\n"); return 1; }
        while (!subscribers_ready) usleep(1000);
    }
    Client *clients = zeroed((size_t)opt.clients, sizeof *clients);
    uint64_t start = now_ns();
    for (int i = 0; i < opt.clients; i++) {
        clients[i].fd = connect_client("", i);
        if (clients[i].fd < 0) { fprintf(stderr, "mqload: client %d was not accepted\n", i); return 1; }
        clients[i].sent_at = zeroed(IDS, sizeof(uint64_t));
    }
    double connects = opt.clients / ((double)(now_ns() - start) / 1e9);

    Batches batches = make_batches();
    Result r = {.room = opt.messages + (long)opt.clients * opt.window};
    r.latency = zeroed((size_t)r.room, sizeof *r.latency);
    uint64_t begin = now_ns(), deadline = begin + (uint64_t)(opt.max_seconds * 1e9);
    if (opt.qos) run_qos1(clients, &batches, deadline, &r);
    else run_qos0(clients, &batches, deadline, &r);
    if (opt.subscribers) while (delivered < r.messages * opt.subscribers && now_ns() < deadline) usleep(100);
    double seconds = (double)(now_ns() - begin) / 1e9;
    if (opt.subscribers) {
        stop = 1;
        pthread_join(receiver, NULL);
    }

    printf("{\"connects_per_s\": %.0f, \"messages\": %ld, \"seconds\": %.3f, \"messages_per_s\": %.0f, \"refused\": %ld, "
           "\"lost_connections\": %d", connects, r.messages, seconds, (double)r.messages / seconds, r.refused, r.lost);
    if (opt.subscribers) printf(", \"delivered\": %ld", (long)delivered);
    if (r.samples) {
        qsort(r.latency, (size_t)r.samples, sizeof *r.latency, by_value);
        printf(", \"latency_us\": {\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p999\": %.1f}",
               (double)r.latency[r.samples / 2] / 1e3, (double)r.latency[r.samples * 9 / 10] / 1e3,
               (double)r.latency[r.samples * 99 / 100] / 1e3, (double)r.latency[r.samples * 999 / 1000] / 1e3);
    }
    printf("}\n");
    return 0;
}
