/* An audience that costs little: thousands of connections in one process, which only count what they are told.

   Reads a file with what each connection says first (4 bytes little-endian length, then the bytes), opens them all, prints
   "ready" once each has been told READY, and then takes commands, a line each:
     go      begin to count            stop    print what was counted as JSON and stop counting
     quiet N the first N read nothing any more
     expect N  print "reached" once N were counted since "go"
   A delivery is one MARK in what comes in; after it stand 16 digits, the nanoseconds of CLOCK_MONOTONIC at which it was
   published. With a CURSOR, each answer is a poll's: it is whole with its Content-Length, and the request is said again with
   the text after CURSOR, up to a quote, in the place of the text "@@@".

   gcc -O2 -o audience audience.c;  audience PORT FILE READY MARK [CURSOR]

   At most OPENING connections wait for READY at the same time, 200 without that variable.
*/
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 20, TAIL = 512, BUCKETS = 4096 };

struct viewer {
    int fd, ready, tail_size;
    char *first;
    int first_size;
    char *answer;              /* of a poll, as far as it has come */
    int answer_size, answer_room;
    char tail[TAIL];
};

static struct viewer *viewers;
static int count, opening = 200, opened, ready_count, counting, epoll;
static const char *ready_text, *mark, *cursor;
static size_t ready_size, mark_size;
static struct sockaddr_in address;
static char buffer[BUFFER + TAIL];
static unsigned long long deliveries, expected, lost, histogram[BUCKETS], began;

static unsigned long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

/* Buckets of a latency in nanoseconds: 64 to each doubling of a microsecond. */
static int bucket(unsigned long long latency)
{
    unsigned long long micro = latency / 1000;
    if (micro < 64) return micro;
    int shift = 63 - __builtin_clzll(micro) - 6, place = (shift + 1) * 64 + ((micro >> shift) & 63);
    return place < BUCKETS ? place : BUCKETS - 1;
}

static double bucket_ms(int place)
{
    if (place < 64) return place / 1000.0;
    int shift = place / 64 - 1;
    return (double)((64ULL + place % 64) << shift) / 1000.0;
}

static double percentile(double share)
{
    unsigned long long seen = 0, all = 0;
    for (int i = 0; i < BUCKETS; i++) all += histogram[i];
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += histogram[i]) >= all * share && seen) return bucket_ms(i);
    return 0;
}

static void open_next(void)
{
    struct viewer *viewer = &viewers[opened++];
    viewer->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(viewer->fd, (struct sockaddr *)&address, sizeof address) < 0) { perror("connect"); exit(1); }
    int one = 1;
    setsockopt(viewer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (write(viewer->fd, viewer->first, viewer->first_size) != viewer->first_size) { perror("write"); exit(1); }
    fcntl(viewer->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = viewer };
    epoll_ctl(epoll, EPOLL_CTL_ADD, viewer->fd, &event);
}

static void note(const char *data, size_t size)
{
    unsigned long long time = counting ? now() : 0;
    for (const char *at = data, *end = data + size; (at = memmem(at, end - at, mark, mark_size)); ) {
        at += mark_size;
        if (end - at < 16) return;
        if (counting) {
            unsigned long long published = 0;
            for (int i = 0; i < 16; i++) published = published * 10 + (at[i] - '0');
            deliveries++;
            histogram[bucket(time > published ? time - published : 0)]++;
        }
    }
}

/* A poll's answer: once it is whole, ask again. */
static void take_answer(struct viewer *viewer, const char *data, int size)
{
    if (viewer->answer_size + size >= viewer->answer_room) {
        viewer->answer_room = (viewer->answer_size + size) * 2 + 1024;
        viewer->answer = realloc(viewer->answer, viewer->answer_room);
    }
    memcpy(viewer->answer + viewer->answer_size, data, size);
    viewer->answer_size += size;
    viewer->answer[viewer->answer_size] = 0;
    char *head = strstr(viewer->answer, "\r\n\r\n"), *length = strcasestr(viewer->answer, "\r\nContent-Length: ");
    if (!head || !length || viewer->answer_size < head + 4 - viewer->answer + atoi(length + 18)) return;
    char *place = strstr(head, cursor), request[8192];
    if (!place) { lost++; viewer->answer_size = 0; return; }
    place += strlen(cursor);
    int value = strcspn(place, "\""), before = strstr(viewer->first, "@@@") - viewer->first;
    int total = snprintf(request, sizeof request, "%.*s%.*s%s", before, viewer->first, value, place,
                         viewer->first + before + 3);
    note(viewer->answer, viewer->answer_size);
    viewer->answer_size = 0;
    if (write(viewer->fd, request, total) != total) lost++;
    if (!viewer->ready) { viewer->ready = 1; ready_count++; }
}

static void hear(struct viewer *viewer)
{
    memcpy(buffer, viewer->tail, viewer->tail_size);
    ssize_t got = recv(viewer->fd, buffer + viewer->tail_size, BUFFER, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        lost++;
        epoll_ctl(epoll, EPOLL_CTL_DEL, viewer->fd, NULL);
        close(viewer->fd);
        return;
    }
    if (cursor) { take_answer(viewer, buffer, got); return; }
    size_t size = viewer->tail_size + got;
    if (!viewer->ready && memmem(buffer, size, ready_text, ready_size)) { viewer->ready = 1; ready_count++; }
    note(buffer, size);
    size_t keep = size < mark_size + 15 ? size : mark_size + 15;  /* less than a delivery, which would count twice */
    if (!viewer->ready && keep < ready_size) keep = size < ready_size ? size : ready_size;
    viewer->tail_size = keep;
    memcpy(viewer->tail, buffer + size - keep, keep);
}

/* Say now and then that we are there: an unasked pong (RFC 6455 section 5.5.3), for servers that ping. */
static void sign_of_life(void)
{
    static unsigned long long last;
    if (!last) last = now();
    if (cursor || now() - last < 10 * 1000000000ULL) return;
    last = now();
    for (int i = 0; i < opened; i++)
        if (viewers[i].ready && write(viewers[i].fd, "\x8a\x80\0\0\0\0", 6) < 0 && errno != EBADF && errno != EAGAIN) lost++;
}

static void obey(char *line)
{
    int number;
    if (!strncmp(line, "go", 2)) {
        deliveries = lost = 0;
        memset(histogram, 0, sizeof histogram);
        began = now();
        counting = 1;
    } else if (!strncmp(line, "stop", 4)) {
        counting = 0;
        printf("{\"deliveries\": %llu, \"lost\": %llu, \"seconds\": %.3f, \"p50\": %.3f, \"p99\": %.3f}\n", deliveries, lost,
               (now() - began) / 1e9, percentile(0.50), percentile(0.99));
        fflush(stdout);
    } else if (sscanf(line, "expect %d", &number) == 1) {
        expected = number;
    } else if (sscanf(line, "quiet %d", &number) == 1)
        for (int i = 0; i < number && i < count; i++) {
            int small = 4096;
            setsockopt(viewers[i].fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
            epoll_ctl(epoll, EPOLL_CTL_DEL, viewers[i].fd, NULL);
        }
}

int main(int argc, char **argv)
{
    struct rlimit files;
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (argc < 5) { fprintf(stderr, "audience PORT FILE READY MARK [CURSOR]\n"); return 2; }
    address.sin_family = AF_INET;
    address.sin_port = htons(atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ready_text = argv[3];
    ready_size = strlen(ready_text);
    mark = argv[4];
    mark_size = strlen(mark);
    cursor = argc > 5 ? argv[5] : NULL;
    FILE *file = fopen(argv[2], "rb");
    unsigned size;
    while (file && fread(&size, 4, 1, file) == 1) {
        viewers = realloc(viewers, (count + 1) * sizeof *viewers);
        struct viewer *viewer = memset(&viewers[count++], 0, sizeof *viewer);
        viewer->first = calloc(1, size + 1);
        viewer->first_size = size;
        if (fread(viewer->first, 1, size, file) != size) return 2;
    }
    setvbuf(stdin, NULL, _IONBF, 0);  /* what is read ahead would not wake us */
    if (getenv("OPENING")) opening = atoi(getenv("OPENING"));
    epoll = epoll_create1(0);
    struct epoll_event own = { .events = EPOLLIN, .data.ptr = NULL }, events[512];
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &own);
    int told = 0;
    for (;;) {
        while (opened < count && opened - ready_count < opening) open_next();
        if (!told && ready_count == count) { told = 1; puts("ready"); fflush(stdout); }
        sign_of_life();
        int happened = epoll_wait(epoll, events, 512, 1000);
        for (int i = 0; i < happened; i++) {
            if (events[i].data.ptr) { hear(events[i].data.ptr); continue; }
            char line[256];
            if (!fgets(line, sizeof line, stdin)) return 0;
            obey(line);
        }
        if (expected && deliveries >= expected) { expected = 0; puts("reached"); fflush(stdout); }
    }
}
