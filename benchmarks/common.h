/* What load.c and upstream.c agree on: the request's order for a stream, and the bytes of its events. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* The order travels in the prompt, because that passes through every gateway unchanged: which stream, how many events,
   microseconds between two sends, events per send; whether the answer's head is to be like no other; and how many x follow up to
   the closing quote, so that a body which lost a byte is found out. No events: one JSON answer. */
#define ORDER "bench id=%08u n=%06u gap=%010u batch=%04u unique=%u pad=%04u:"
#define ORDER_START "bench id="

/* A field that OpenAI's servers send, with the stream's number for its value: in the heads that are like no other. */
#define UNIQUE_FIELD "openai-processing-ms"
#define STREAM_TYPE "text/event-stream; charset=utf-8"
#define JSON_TYPE "application/json"

/* An event: PREFIX id(8) . seq(6) . nanoseconds(19) SUFFIX. The time is CLOCK_MONOTONIC just before its send. */
#define PREFIX                                                                                                                              \
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"bench\","                               \
    "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"@"
#define SUFFIX "@\"},\"finish_reason\":null}]}\n\n"
#define PREFIX_LEN (sizeof PREFIX - 1)
#define SUFFIX_LEN (sizeof SUFFIX - 1)
#define STAMP_LEN (8 + 1 + 6 + 1 + 19)
#define EVENT_LEN (PREFIX_LEN + STAMP_LEN + SUFFIX_LEN)
/* How a stream ends: with its reason, or no cache would keep it. */
#define DONE                                                                                                                                \
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"bench\","                               \
    "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"                                                                  \
    "data: [DONE]\n\n"
#define DONE_LEN (sizeof DONE - 1)

/* The JSON answer: the same in two parts, the stream's number between them. */
#define JSON_HEAD                                                                                                                           \
    "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":0,\"model\":\"bench\",\"choices\":[{\"index\":0,"                \
    "\"message\":{\"role\":\"assistant\",\"content\":\"@"
#define JSON_TAIL "@\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":1,\"total_tokens\":9}}"
#define JSON_LEN (sizeof JSON_HEAD - 1 + 8 + sizeof JSON_TAIL - 1)

#define MAX_FD 65536

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void put_digits(char *at, uint64_t value, int width) {
    while (width--) {
        at[width] = (char)('0' + value % 10);
        value /= 10;
    }
}

/* The number, or UINT64_MAX where there is something that is no digit. */
static inline uint64_t get_digits(const char *at, int width) {
    uint64_t value = 0;
    for (; width--; at++) {
        if (*at < '0' || *at > '9') return UINT64_MAX;
        value = value * 10 + (uint64_t)(*at - '0');
    }
    return value;
}

__attribute__((noreturn)) static inline void die(const char *what) {
    perror(what);
    exit(2);
}

/* Ends with its parent, whatever happens to that, and may open as many sockets as the system allows. */
static inline void begin_process(void) {
    struct rlimit files;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < MAX_FD ? files.rlim_max : MAX_FD;
    setrlimit(RLIMIT_NOFILE, &files);
}

static inline void set_nodelay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}
