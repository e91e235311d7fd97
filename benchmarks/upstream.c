/* A mock of a streaming inference server, fast enough not to be the bottleneck: one thread, epoll, one send per event.

   usage: upstream PORT          (0: any; prints "port N" when it listens)

   A POST is answered as the order in its body says (see common.h); any other request gets a small JSON 200 that tells how many orders
   there were. */

#include "common.h"

#define INPUT 8192
#define REFUSAL "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"

struct conn {
    int fd;
    unsigned id, n, seq, gap, batch, unique;
    int streaming, queued, want_out;
    uint64_t due;
    struct conn *prev, *next; /* in the queue of those that wait for their next event */
    char *pending;            /* what the socket did not take */
    size_t pending_len, pending_at;
    size_t input_len;
    char input[INPUT];
};

static struct conn *conns[MAX_FD];
static int poller, timer;
static unsigned orders;
/* All streams of a run share one gap, so the queue is in the order of their times. */
static struct conn queue = {.prev = &queue, .next = &queue};
static char *out;

static void unqueue(struct conn *c) {
    if (!c->queued) return;
    c->prev->next = c->next;
    c->next->prev = c->prev;
    c->queued = 0;
}

static void arm(void) {
    struct itimerspec when = {0};
    if (queue.next == &queue) return;
    when.it_value.tv_sec = (time_t)(queue.next->due / 1000000000u);
    when.it_value.tv_nsec = (long)(queue.next->due % 1000000000u);
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void enqueue(struct conn *c) {
    struct conn *after = queue.prev;
    while (after != &queue && after->due > c->due) after = after->prev;
    c->prev = after;
    c->next = after->next;
    after->next->prev = c;
    after->next = c;
    c->queued = 1;
    if (after == &queue) arm();
}

static void drop(struct conn *c) {
    unqueue(c);
    conns[c->fd] = NULL;
    close(c->fd);
    free(c->pending);
    free(c);
}

static void watch(struct conn *c, int want_out) {
    struct epoll_event e = {.events = EPOLLIN | (want_out ? EPOLLOUT : 0), .data.fd = c->fd};
    if (c->want_out == want_out) return;
    c->want_out = want_out;
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

/* 1: taken, 0: the socket is full, -1: gone. */
static int push(struct conn *c, const char *data, size_t len) {
    ssize_t sent = send(c->fd, data, len, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        drop(c);
        return -1;
    }
    if (sent == (ssize_t)len) return 1;
    if (sent < 0) sent = 0;
    c->pending_len = len - (size_t)sent;
    c->pending_at = 0;
    c->pending = realloc(c->pending, c->pending_len);
    memcpy(c->pending, data + sent, c->pending_len);
    watch(c, 1);
    return 0;
}

/* One send: the next batch as one chunk, and after the last event the end of the stream. */
static int push_events(struct conn *c) {
    unsigned count = c->n - c->seq < c->batch ? c->n - c->seq : c->batch;
    char *at = out + sprintf(out, "%zx\r\n", count * EVENT_LEN);
    uint64_t stamp = now_ns();
    while (count--) {
        memcpy(at, PREFIX, PREFIX_LEN);
        at += PREFIX_LEN;
        put_digits(at, c->id, 8);
        at[8] = '.';
        put_digits(at + 9, c->seq++, 6);
        at[15] = '.';
        put_digits(at + 16, stamp, 19);
        at += STAMP_LEN;
        memcpy(at, SUFFIX, SUFFIX_LEN);
        at += SUFFIX_LEN;
    }
    at += sprintf(at, "\r\n");
    if (c->seq == c->n) {
        at += sprintf(at, "%zx\r\n" DONE "\r\n0\r\n\r\n", DONE_LEN);
        c->streaming = 0;
    }
    return push(c, out, (size_t)(at - out));
}

static void go_on(struct conn *c) {
    while (c->streaming) {
        if (push_events(c) != 1) return;
        if (c->gap && c->streaming) {
            c->due += c->gap * 1000ull;
            enqueue(c);
            return;
        }
    }
}

/* As the servers of models begin theirs: uvicorn's fields, the date of each second. */
static size_t head(const struct conn *c) {
    static time_t at;
    static char date[64];
    time_t now = time(NULL);
    char *end = out;
    if (now != at) strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
    at = now;
    end += sprintf(end, "HTTP/1.1 200 OK\r\ndate: %s\r\nserver: uvicorn\r\n", date);
    if (c->unique) end += sprintf(end, UNIQUE_FIELD ": %u\r\n", c->id);
    if (c->n) end += sprintf(end, "cache-control: no-cache\r\ncontent-type: " STREAM_TYPE "\r\ntransfer-encoding: chunked\r\n\r\n");
    else end += sprintf(end, "content-length: %zu\r\ncontent-type: " JSON_TYPE "\r\n\r\n", JSON_LEN);
    return (size_t)(end - out);
}

/* What the order in a body says; 0 if the body is not as it was sent. Without an order there is nothing to compare. */
static int read_order(struct conn *c, const char *body, size_t len) {
    const char *order = memmem(body, len, ORDER_START, sizeof ORDER_START - 1), *end = body + len;
    unsigned pad;
    int used = 0;
    c->id = c->n = c->unique = 0;
    if (!order) {
        c->id = orders;
        return 1;
    }
    orders++;
    if (sscanf(order, "bench id=%u n=%u gap=%u batch=%u unique=%u pad=%u:%n", &c->id, &c->n, &c->gap, &c->batch, &c->unique, &pad, &used) != 6 ||
        !used)
        return 0;
    for (order += used; order < end && *order == 'x'; order++) pad--;
    return order < end && *order == '"' && !pad;
}

static void answer(struct conn *c, const char *body, size_t len) {
    if (!read_order(c, body, len)) {
        push(c, REFUSAL, sizeof REFUSAL - 1);
        return;
    }
    if (c->n) {
        c->seq = 0;
        c->streaming = 1;
        c->due = now_ns();
        if (c->batch < 1 || c->batch > 1024) c->batch = 1;
        if (push(c, out, head(c)) == 1) go_on(c);
        return;
    }
    size_t head_len = head(c);
    push(c, out, head_len + (size_t)sprintf(out + head_len, JSON_HEAD "%08u" JSON_TAIL, c->id));
}

/* One request at a time; the length of its body, or of what there is of a chunked one. */
static void take(struct conn *c) {
    char *end = memmem(c->input, c->input_len, "\r\n\r\n", 4);
    size_t whole;
    if (!end) {
        if (c->input_len == INPUT) drop(c);
        return;
    }
    *end = 0; /* the head as a string */
    char *length = strcasestr(c->input, "\r\ncontent-length:"), *chunked = strcasestr(c->input, "\r\ntransfer-encoding:");
    size_t start = (size_t)(end - c->input) + 4;
    *end = '\r';
    if (chunked) {
        char *last = memmem(c->input + start, c->input_len - start, "\r\n0\r\n\r\n", 7);
        if (!last) return;
        whole = (size_t)(last - c->input) + 7;
    } else {
        whole = start + (length ? strtoul(length + sizeof "\r\ncontent-length:" - 1, NULL, 10) : 0);
        if (whole > INPUT) {
            drop(c);
            return;
        }
        if (c->input_len < whole) return;
    }
    c->input_len = 0; /* nothing is pipelined here */
    answer(c, c->input + start, whole - start);
}

static void readable(struct conn *c) {
    ssize_t got = recv(c->fd, c->input + c->input_len, INPUT - c->input_len, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        drop(c);
        return;
    }
    c->input_len += (size_t)got;
    take(c);
}

static void writable(struct conn *c) {
    while (c->pending_at < c->pending_len) {
        ssize_t sent = send(c->fd, c->pending + c->pending_at, c->pending_len - c->pending_at, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) return;
        if (sent < 0) {
            drop(c);
            return;
        }
        c->pending_at += (size_t)sent;
    }
    watch(c, 0);
    if (!c->queued) go_on(c);
}

static void accept_all(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= MAX_FD) {
            close(fd);
            continue;
        }
        struct conn *c = calloc(1, sizeof *c);
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        set_nodelay(fd);
        c->fd = fd;
        conns[fd] = c;
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

static void tick(void) {
    uint64_t times, now = now_ns();
    if (read(timer, &times, sizeof times) < 0 && errno != EAGAIN) die("timer");
    while (queue.next != &queue && queue.next->due <= now) {
        struct conn *c = queue.next;
        unqueue(c);
        if (!c->want_out) go_on(c); /* else when the socket takes more */
    }
    arm();
}

int main(int argc, char **argv) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof where;
    struct epoll_event events[256], e = {.events = EPOLLIN};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    begin_process();
    out = malloc(1024 * EVENT_LEN + 1024);
    where.sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&where, sizeof where) || listen(listener, 16384)) die("listen");
    getsockname(listener, (struct sockaddr *)&where, &len);
    printf("port %d\n", ntohs(where.sin_port));
    fflush(stdout);

    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    e.data.fd = listener;
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e);
    e.data.fd = timer;
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &e);
    for (;;) {
        int count = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) accept_all(listener);
            else if (fd == timer) tick();
            else {
                if (conns[fd] && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(conns[fd]);
                if (conns[fd] && events[i].events & EPOLLOUT) writable(conns[fd]);
            }
        }
    }
}
