/* The load generator: one thread, epoll, every byte of every answer compared.

   usage: load PORT [name=value ..]

   clients=64      connections
   events=10       events per stream; 0: one JSON answer per request
   gap=0           microseconds between two events
   batch=1         events per send of the upstream
   seconds=2       closed loop: no further request is begun after that; 0: as many requests as `requests` says
   requests=0      as many in all, then end
   ramp=0          seconds over which the connections are opened
   pad=0           bytes of each request, head and body together
   unique=0        1: no two requests alike: a field X-Request-Id, bodies of different length; the answers' heads differ as well
   first=0         the first stream's number
   same=0          1: every request asks for the same stream; when an event was sent, which may be long ago, is then of no account
   vary=0          1: streams of different length, 1 to `events` events, more of them short than long
   keep=0          1: stop after the first event of each stream, say "ready", and stay until a line comes on standard input
   comments=0      1: comments may stand before events; say "held" when each client has a response head
   loose=0         1: only numbers and order of events are compared (for gateways that write the JSON anew)
   limit=60        seconds until it gives up

   The environment variable BENCH_KEY is the API key that it sends.
   One JSON object on standard output at the end (cpu_s: what the load generator itself took); exit status 1 if a byte was wrong, an answer failed or time ran out. */

#include "common.h"

#define LINE 4096
#define SAMPLES 2000000u
#define READ_SIZE (256 * 1024)
#define MOST_PAD 3000

enum state { CLOSED, HEAD, SIZE, DATA, DATA_END, LAST_END, LENGTH, UNTIL_CLOSE };

struct client {
    int fd, fresh, first, comment, done, finished;
    int digits, cr; /* of a chunk's size line; the CR of a line end has come */
    enum state state;
    unsigned id, n, seq;
    uint64_t began, last;
    size_t left;   /* of the chunk, or of the body */
    size_t filled; /* of the event in `line` */
    size_t json_at;
    char line[LINE];
};

struct samples {
    uint32_t *us_x10; /* tenths of a microsecond */
    unsigned count;
};

static unsigned clients = 64, events = 10, gap, batch = 1, requests, pad, unique, first_id, same, vary, keep, comments, loose;
static double seconds = 2, ramp, limit = 60;
static unsigned port, begun, completed, failed, reconnects, wrong, headed, firsts, open_clients;
static uint64_t carried, body_bytes, comment_count, start_ns, stop_ns, last_ns, first_first_ns, last_first_ns;
static struct client *all;
static struct samples latency, ttfb, whole, gaps, *every[] = {&latency, &ttfb, &whole, &gaps};
static int poller;
static const char *key;
static char *input;
static struct sockaddr_in where = {.sin_family = AF_INET};

static void sample(struct samples *s, uint64_t ns) {
    if (s->count < SAMPLES) s->us_x10[s->count++] = ns / 100 > UINT32_MAX ? UINT32_MAX : (uint32_t)(ns / 100);
}

static void tell(struct client *c, const char *what) {
    static unsigned told;
    if (told++ < 5) fprintf(stderr, "request %u, event %u: %s\n", c->id, c->seq, what);
}

static void complain(struct client *c, const char *what) {
    wrong++;
    tell(c, what);
}

static void request(struct client *c, uint64_t now);

static void shut(struct client *c) {
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
        open_clients--;
    }
    c->state = CLOSED;
}

static void begin(struct client *c, uint64_t now) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    set_nodelay(c->fd);
    open_clients++;
    c->fresh = 1;
    c->state = CLOSED;
    c->began = now;
    if (connect(c->fd, (struct sockaddr *)&where, sizeof where) && errno != EINPROGRESS) die("connect");
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
}

static int may_begin(uint64_t now) { return seconds > 0 ? now < stop_ns : begun < requests; }

static void next_request(struct client *c, uint64_t now) {
    c->finished = 0;
    if (may_begin(now)) {
        if (c->fd < 0) {
            reconnects++;
            begin(c, now);
        } else
            request(c, now);
        return;
    }
    c->finished = 1;
    shut(c);
}

/* No two alike, and no order in them. */
static uint64_t mixed(unsigned number) { return (number + 1) * 0x9e3779b97f4a7c15u; }

/* A request with *room* bytes of padding in its prompt. */
static int compose(const struct client *c, char text[LINE], int room) {
    char body[LINE], field[64] = "";
    int len = sprintf(body, "{\"model\":\"bench\",\"stream\":%s,\"messages\":[{\"role\":\"user\",\"content\":\"" ORDER, events ? "true" : "false", c->id,
                      c->n, gap, batch, unique, (unsigned)room);
    memset(body + len, 'x', (size_t)room);
    len += room;
    len += sprintf(body + len, "\"}]}");
    if (unique) sprintf(field, "X-Request-Id: %016llx%08x\r\n", (unsigned long long)mixed(c->id), c->id);
    return snprintf(text, LINE,
                    "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nContent-Type: application/json\r\nAccept: */*\r\n%s"
                    "Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
                    port, field, key, len, body);
}

static void request(struct client *c, uint64_t now) {
    char text[LINE];
    int len, room = 0;
    c->id = first_id + (same ? 0 : begun);
    begun++;
    c->n = events;
    if (vary) {
        unsigned most = events >> (mixed(c->id) >> 61);
        c->n = most ? 1 + (unsigned)(mixed(c->id) >> 24 & 0xffffff) % most : 1;
    }
    if (unique) room = (int)(mixed(c->id) >> 54);
    if (pad) room = (int)pad - compose(c, text, 0);
    len = compose(c, text, room < 0 ? 0 : room < MOST_PAD ? room : MOST_PAD);
    c->state = HEAD;
    c->fresh = c->first = c->comment = c->done = c->digits = c->cr = 0;
    c->seq = 0;
    c->filled = 0;
    c->json_at = 0;
    c->began = now;
    c->last = 0;
    if (send(c->fd, text, (size_t)len, MSG_NOSIGNAL) != len) {
        tell(c, "the request was not taken");
        failed++;
        shut(c);
    }
}

static void complete(struct client *c, uint64_t now, int close_it) {
    completed++;
    last_ns = now;
    sample(&whole, now - c->began);
    if (close_it) shut(c);
    next_request(c, now);
}

static void fail(struct client *c, const char *what, uint64_t now) {
    tell(c, what);
    failed++;
    shut(c);
    if (failed < 50) next_request(c, now);
    else c->finished = 1;
}

/* Whether this is the event that is due. */
static void event(struct client *c, const char *at, uint64_t now) {
    uint64_t stamp;
    const char *digits = at;
    if (!loose) {
        digits = at + PREFIX_LEN;
        if (memcmp(at, PREFIX, PREFIX_LEN) || digits[8] != '.' || digits[15] != '.' || memcmp(digits + STAMP_LEN, SUFFIX, SUFFIX_LEN))
            complain(c, "an event differs");
    }
    stamp = get_digits(digits + 16, 19);
    if (get_digits(digits, 8) != c->id || get_digits(digits + 9, 6) != c->seq || stamp > now) complain(c, "not the event that was due");
    else sample(&latency, now - stamp);
    if (c->last) sample(&gaps, now - c->last);
    else {
        firsts++;
        if (!first_first_ns) first_first_ns = now;
        last_first_ns = now;
    }
    c->last = now;
    c->seq++;
    carried++;
}

static void line(struct client *c, uint64_t now) {
    char *mark;
    c->line[c->filled] = 0;
    if (!strncmp(c->line, "data: [DONE]", 12)) c->done = 1;
    else if ((mark = strchr(c->line, '@')) && mark[1] >= '0' && mark[1] <= '9') event(c, mark + 1, now);
}

static void loose_body(struct client *c, const char *at, size_t len, uint64_t now) {
    for (; len--; at++) {
        if (c->filled < LINE - 1) c->line[c->filled++] = *at;
        if (*at == '\n') {
            line(c, now);
            c->filled = 0;
        }
    }
}

static void stream_body(struct client *c, const char *at, size_t len, uint64_t now) {
    while (len) {
        size_t due = c->seq < c->n ? EVENT_LEN : DONE_LEN, take;
        if (comments && !c->filled && (c->comment || *at == ':' || *at == '\n')) { /* a comment's line, or an empty one after it */
            const char *stop = memchr(at, '\n', len);
            comment_count += !c->comment && *at == ':';
            c->comment = !stop;
            take = stop ? (size_t)(stop - at) + 1 : len;
            at += take;
            len -= take;
            continue;
        }
        if (c->done) {
            complain(c, "bytes after the end");
            return;
        }
        if (!c->filled && len >= due) {
            take = due;
            if (c->seq < c->n) event(c, at, now);
            else if (memcmp(at, DONE, DONE_LEN)) complain(c, "the end differs");
            else c->done = 1;
        } else {
            take = due - c->filled < len ? due - c->filled : len;
            memcpy(c->line + c->filled, at, take);
            c->filled += take;
            if (c->filled == due) {
                c->filled = 0;
                if (c->seq < c->n) event(c, c->line, now);
                else if (memcmp(c->line, DONE, DONE_LEN)) complain(c, "the end differs");
                else c->done = 1;
            }
        }
        at += take;
        len -= take;
    }
}

static void json_body(struct client *c, const char *at, size_t len) {
    size_t take = len < LINE - 1 - c->json_at ? len : LINE - 1 - c->json_at;
    memcpy(c->line + c->json_at, at, take);
    c->json_at += take;
}

static void json_end(struct client *c) {
    char expected[LINE], *mark;
    int len = sprintf(expected, JSON_HEAD "%08u" JSON_TAIL, c->id);
    c->line[c->json_at] = 0;
    if (loose) {
        mark = strchr(c->line, '@');
        if (!mark || get_digits(mark + 1, 8) != c->id) complain(c, "not the answer that was due");
    } else if (c->json_at != (size_t)len || memcmp(c->line, expected, (size_t)len))
        complain(c, "the answer differs");
}

static void body(struct client *c, const char *at, size_t len, uint64_t now) {
    body_bytes += len;
    if (!c->first && len) {
        c->first = 1;
        sample(&ttfb, now - c->began);
    }
    if (!events) json_body(c, at, len);
    else if (loose) loose_body(c, at, len, now);
    else stream_body(c, at, len, now);
}

static void end(struct client *c, uint64_t now, int close_it) {
    if (!events) json_end(c);
    else if (!c->done || c->seq != c->n) complain(c, "the stream ended early");
    complete(c, now, close_it);
}

static int has_field(const char *head, const char *name, const char *value) {
    char line[128];
    const char *at, *end;
    sprintf(line, "\r\n%s: %s", name, value);
    if (!(at = strcasestr(head, line))) return 0;
    end = at + strlen(line);
    return !*end || *end == '\r';
}

/* What passes through every proxy of HTTP. */
static void check_head(struct client *c) {
    char number[16];
    if (!has_field(c->line, "content-type", events ? STREAM_TYPE : JSON_TYPE)) complain(c, "not the upstream's Content-Type");
    sprintf(number, "%u", c->id);
    if (unique && !has_field(c->line, UNIQUE_FIELD, number)) complain(c, "the upstream's own field is missing");
}

/* Takes the head if it is whole; how much of the input it took. */
static size_t head(struct client *c, const char *at, size_t len, uint64_t now) {
    size_t take = len < LINE - 1 - c->filled ? len : LINE - 1 - c->filled, before = c->filled;
    char *blank, *length;
    memcpy(c->line + before, at, take);
    c->filled += take;
    c->line[c->filled] = 0;
    blank = strstr(c->line, "\r\n\r\n");
    if (!blank) {
        if (c->filled == LINE - 1) fail(c, "the response's head is too long", now);
        return take;
    }
    *blank = 0;
    if (strncmp(c->line, "HTTP/1.1 200", 12)) {
        *strchrnul(c->line, '\r') = 0;
        fail(c, c->line, now);
        return take;
    }
    if (!loose) check_head(c);
    take = (size_t)(blank - c->line) + 4 - before;
    length = strcasestr(c->line, "\r\ncontent-length:");
    if (strcasestr(c->line, "\r\ntransfer-encoding: chunked")) {
        c->state = SIZE;
        c->left = 0;
    } else if (length) {
        c->state = LENGTH;
        c->left = strtoul(length + sizeof "\r\ncontent-length:" - 1, NULL, 10);
    } else
        c->state = UNTIL_CLOSE;
    c->filled = 0;
    if (++headed == clients && comments) {
        printf("held\n");
        fflush(stdout);
    }
    return take;
}

static void size_line(struct client *c, char at) {
    int lower = at | 32, digit = at >= '0' && at <= '9' ? at - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
    if (digit >= 0 && !c->cr) {
        c->left = c->left * 16 + (size_t)digit;
        c->digits++;
    } else if (at == '\r' && c->digits && !c->cr)
        c->cr = 1;
    else {
        if (at != '\n' || !c->cr) complain(c, "not the line of a chunk's size");
        c->state = c->left ? DATA : LAST_END;
        c->digits = c->cr = 0;
    }
}

/* Whether the line end is complete. */
static int line_end(struct client *c, char at) {
    if (at == '\r' && !c->cr) {
        c->cr = 1;
        return 0;
    }
    if (at != '\n' || !c->cr) complain(c, "not the end of a chunk");
    c->cr = 0;
    return 1;
}

static void feed(struct client *c, const char *at, size_t len, uint64_t now) {
    while (len && c->state != CLOSED) {
        size_t take = 1;
        switch (c->state) {
        case HEAD: take = head(c, at, len, now); break;
        case SIZE: size_line(c, *at); break;
        case DATA:
        case UNTIL_CLOSE:
        case LENGTH:
            take = c->state == UNTIL_CLOSE || c->left > len ? len : c->left;
            body(c, at, take, now);
            c->left -= take;
            if (!c->left && c->state == DATA) c->state = DATA_END;
            else if (!c->left && c->state == LENGTH) {
                c->state = HEAD;
                end(c, now, 0);
                if (len > take) complain(c, "bytes after the answer");
                return;
            }
            break;
        case DATA_END:
            if (line_end(c, *at)) c->state = SIZE;
            break;
        case LAST_END:
            if (line_end(c, *at)) {
                c->state = HEAD;
                end(c, now, 0);
                if (len > 1) complain(c, "bytes after the answer");
                return;
            }
            break;
        case CLOSED: break;
        }
        at += take;
        len -= take;
    }
}

static void readable(struct client *c) {
    for (;;) {
        ssize_t got = recv(c->fd, input, READ_SIZE, 0);
        uint64_t now = now_ns();
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) {
            if (c->state == UNTIL_CLOSE && !got) end(c, now, 1);
            else if (c->state == HEAD && !c->filled && completed && c->seq == 0 && now - c->began < 1000000) {
                shut(c); /* it closed the connection between two requests: the request is sent again */
                begun--;
                next_request(c, now);
            } else
                fail(c, got ? "the connection was reset" : "the connection was closed", now);
            return;
        }
        feed(c, input, (size_t)got, now);
        if (c->fd < 0 || got < READ_SIZE) return; /* a short read took all there was; what comes later is a new edge */
    }
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void print_samples(const char *name, struct samples *s) {
    if (!s->count) return;
    qsort(s->us_x10, s->count, sizeof *s->us_x10, by_value);
    printf(", \"%s_p50_us\": %.1f, \"%s_p99_us\": %.1f, \"%s_max_us\": %.1f", name, s->us_x10[s->count / 2] / 10.0, name,
           s->us_x10[(unsigned)(s->count * 0.99)] / 10.0, name, s->us_x10[s->count - 1] / 10.0);
}

static void report(int timed_out) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"requests\": %u, \"events\": %llu, \"bytes\": %llu, \"seconds\": %.4f, \"failed\": %u, \"wrong\": %u, \"reconnects\": %u, "
           "\"timed_out\": %s, \"comments\": %llu, \"first_first_ns\": %llu, \"last_first_ns\": %llu, \"cpu_s\": %.6f",
           completed, (unsigned long long)carried, (unsigned long long)body_bytes,
           (double)((last_ns ? last_ns : now_ns()) - start_ns) / 1e9, failed, wrong, reconnects, timed_out ? "true" : "false",
           (unsigned long long)comment_count, (unsigned long long)first_first_ns, (unsigned long long)last_first_ns,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    print_samples("latency", &latency);
    print_samples("ttfb", &ttfb);
    print_samples("request", &whole);
    print_samples("gap", &gaps);
    printf("}\n");
    fflush(stdout);
}

static void option(const char *text) {
    const char *value = strchr(text, '=');
    const struct {
        const char *name;
        unsigned *number;
        double *real;
    } known[] = {{"clients", &clients, 0}, {"events", &events, 0}, {"gap", &gap, 0},     {"batch", &batch, 0},       {"requests", &requests, 0},
                 {"pad", &pad, 0},         {"unique", &unique, 0}, {"first", &first_id, 0}, {"same", &same, 0}, {"vary", &vary, 0}, {"keep", &keep, 0},
                 {"comments", &comments, 0}, {"loose", &loose, 0},
                 {"seconds", 0, &seconds}, {"ramp", 0, &ramp},     {"limit", 0, &limit}};
    for (size_t i = 0; value && i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == (size_t)(value - text) && !strncmp(text, known[i].name, (size_t)(value - text))) {
            if (known[i].number) *known[i].number = (unsigned)atoi(value + 1);
            else *known[i].real = atof(value + 1);
            return;
        }
    fprintf(stderr, "load: no option %s\n", text);
    exit(2);
}

int main(int argc, char **argv) {
    struct epoll_event got[256];
    unsigned opened = 0, finished = 0;
    uint64_t now;

    begin_process();
    if (argc < 2) {
        fprintf(stderr, "usage: load PORT [name=value ..]\n");
        return 2;
    }
    key = getenv("BENCH_KEY") ? getenv("BENCH_KEY") : "sk-bench";
    port = (unsigned)atoi(argv[1]);
    where.sin_port = htons((uint16_t)port);
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 2; i < argc; i++) option(argv[i]);
    if (requests) seconds = 0;
    if (keep || comments) seconds = 0, requests = clients;
    all = calloc(clients, sizeof *all);
    input = malloc(READ_SIZE);
    for (size_t i = 0; i < sizeof every / sizeof *every; i++) every[i]->us_x10 = malloc(SAMPLES * sizeof(uint32_t));
    poller = epoll_create1(EPOLL_CLOEXEC);
    start_ns = now_ns();
    stop_ns = start_ns + (uint64_t)(seconds * 1e9);

    while (finished < clients) {
        now = now_ns();
        if ((double)(now - start_ns) > limit * 1e9) break;
        while (opened < clients && (double)(now - start_ns) >= ramp * 1e9 * opened / clients) {
            all[opened].fd = -1;
            begin(&all[opened++], now);
        }
        int wait = opened < clients ? 1 : 100;
        int count = epoll_wait(poller, got, 256, wait);
        for (int i = 0; i < count; i++) {
            struct client *c = got[i].data.ptr;
            if (c->fd < 0) continue;
            if (c->fresh && got[i].events & EPOLLOUT) {
                c->fresh = 0;
                next_request(c, now_ns());
                if (c->finished) finished++;
            }
            if (c->fd >= 0 && got[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                int was = c->finished;
                readable(c);
                if (c->finished && !was) finished++;
            }
        }
        if (keep && firsts == clients) {
            char answer[16];
            printf("ready\n");
            fflush(stdout);
            if (read(0, answer, sizeof answer) < 0) die("stdin");
            break;
        }
    }
    report(!keep && finished < clients);
    return wrong || failed || (!keep && finished < clients) || (keep && firsts < clients);
}
