#include "tools/bench/echo.h"

#include "tools/bench/body.h"
#include "tools/godwit/command.h"
#include "tools/godwit/human.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ECHO_BUFFER = 4 * 1024 * 1024 };

static void *send_back(void *arg)
{
    const struct echo *echo = arg;
    char buffer[16 * 1024];
    ssize_t got;

    while ((got = recv(echo->peer, buffer, sizeof buffer, 0)) != 0) {
        ssize_t sent = 0;

        if (got < 0 && errno != EINTR) {
            break;
        }
        if (got > 0 && echo->file != NULL
            && limit_append_one(echo->file, (size_t)got) != EXIT_OK) {
            (void)shutdown(echo->peer, SHUT_RDWR); /* who sends must not wait */
            break;
        }
        while (sent < got) {
            ssize_t n = send(echo->peer, buffer + sent, (size_t)(got - sent),
                             MSG_NOSIGNAL);
            if (n < 0 && errno != EINTR) {
                return NULL;
            }
            sent += n > 0 ? n : 0;
        }
    }
    return NULL;
}

int loopback_pair(int *peer)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct sockaddr *address = (struct sockaddr *)&at;
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int buffer = ECHO_BUFFER;
    int yes = 1;

    *peer = -1;
    if (listener >= 0 && fd >= 0 && bind(listener, address, len) == 0
        && listen(listener, 1) == 0 && getsockname(listener, address, &len) == 0
        && connect(fd, address, len) == 0) {
        *peer = accept(listener, NULL, NULL);
    }
    if (listener >= 0) {
        close(listener);
    }
    if (*peer < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    (void)setsockopt(*peer, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    return fd;
}

int echo_open(struct echo *echo, size_t size, struct limit_file *file)
{
    *echo = (struct echo) { .fd = -1, .peer = -1, .file = file, .size = size };
    echo->out = body_new(size);
    echo->in = malloc(size);
    if (echo->out == NULL || echo->in == NULL) {
        echo_close(echo);
        return fail(EXIT_FAILED, "out of memory");
    }
    echo->fd = loopback_pair(&echo->peer);
    if (echo->fd < 0
        || pthread_create(&echo->thread, NULL, send_back, echo) != 0) {
        if (echo->fd >= 0) {
            close(echo->fd);
            close(echo->peer);
            echo->fd = -1;
        }
        echo_close(echo);
        return fail(EXIT_FAILED, "no connection over loopback for the echo");
    }
    return EXIT_OK;
}

void echo_close(struct echo *echo)
{
    if (echo->fd >= 0) {
        (void)shutdown(echo->fd, SHUT_RDWR);
        (void)shutdown(echo->peer, SHUT_RDWR); /* it may wait for room */
        (void)pthread_join(echo->thread, NULL);
        close(echo->fd);
        close(echo->peer);
        echo->fd = -1;
    }
    free(echo->out);
    free(echo->in);
    echo->out = echo->in = NULL;
}

bool echo_send(struct echo *echo, uint64_t intended_ns)
{
    size_t sent = 0;

    body_set_time(echo->out, intended_ns);
    while (sent < echo->size) {
        ssize_t n = send(echo->fd, echo->out + sent, echo->size - sent,
                         MSG_NOSIGNAL | (sent == 0 ? MSG_DONTWAIT : 0));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return false;
        }
        sent += (size_t)n;
    }
    return true;
}

void echo_take(struct echo *echo, uint64_t counted_from_ns, struct histogram *h)
{
    ssize_t n;

    while ((n = recv(echo->fd, echo->in + echo->got, echo->size - echo->got,
                     MSG_DONTWAIT))
           > 0) {
        uint64_t intended;

        echo->got += (size_t)n;
        if (echo->got < echo->size) {
            continue;
        }
        echo->got = 0;
        intended = body_time(echo->in, echo->size);
        if (intended >= counted_from_ns) {
            histogram_add(h, now_ns() - intended);
        }
    }
}
