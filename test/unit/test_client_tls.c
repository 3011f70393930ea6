/* links: godwit_client godwit_proto ssl crypto */
/* with: test/lib/fake_broker.c test/lib/client_fixture.c */
/* The client over TLS: a thread takes the TLS off before the fake broker. */
#include "test/lib/client_fixture.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TURN_MS = 20 };

static char cert_path[] = "/tmp/godwit-test-cert-XXXXXX";
static char url[64];
static SSL_CTX *server;
static int listen_fd;
static pthread_t thread;
static atomic_bool stop;

/* ---- a certificate for localhost and 127.0.0.1 ---- */

static void add_names(X509 *cert, const char *names)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;

    X509V3_set_ctx(&context, cert, cert, NULL, NULL, 0);
    extension =
        X509V3_EXT_conf_nid(NULL, &context, NID_subject_alt_name, names);
    cr_assert_not_null(extension);
    cr_assert_eq(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static void make_certificate(const char *names)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    FILE *file = fdopen(mkstemp(cert_path), "w");

    cr_assert(key != NULL && cert != NULL && file != NULL);
    cr_assert_eq(X509_set_version(cert, 2), 1);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    add_names(cert, names);
    cr_assert_gt(X509_sign(cert, key, EVP_sha256()), 0);
    cr_assert_eq(PEM_write_X509(file, cert), 1);
    cr_assert_eq(fclose(file), 0);
    server = SSL_CTX_new(TLS_server_method());
    cr_assert_eq(SSL_CTX_use_certificate(server, cert), 1);
    cr_assert_eq(SSL_CTX_use_PrivateKey(server, key), 1);
    X509_free(cert);
    EVP_PKEY_free(key);
}

/* ---- the thread ---- */

static int connect_plain(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port =
        htons((uint16_t)strtoul(strrchr(broker.url, ':') + 1, NULL, 10));
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static bool send_all(int fd, const char *at, ssize_t len)
{
    while (len > 0) {
        ssize_t put = send(fd, at, (size_t)len, MSG_NOSIGNAL);
        if (put <= 0) {
            return false;
        }
        at += put;
        len -= put;
    }
    return true;
}

/* Blocking reads of what poll said is there are good enough for a test. */
static bool relay_once(SSL *ssl, int secure, int plain)
{
    struct pollfd fds[2] = { { .fd = secure, .events = POLLIN },
                             { .fd = plain, .events = POLLIN } };
    char buffer[16 * 1024];

    if (SSL_pending(ssl) == 0 && poll(fds, 2, TURN_MS) <= 0) {
        return true;
    }
    if (SSL_pending(ssl) > 0 || fds[0].revents != 0) {
        int got = SSL_read(ssl, buffer, sizeof buffer);
        return got > 0 && send_all(plain, buffer, got);
    }
    if (fds[1].revents != 0) {
        ssize_t got = recv(plain, buffer, sizeof buffer, 0);
        return got > 0 && SSL_write(ssl, buffer, (int)got) == (int)got;
    }
    return true;
}

static void serve(int secure)
{
    SSL *ssl = SSL_new(server);

    CHECK(ssl != NULL && SSL_set_fd(ssl, secure) == 1);
    if (SSL_accept(ssl) == 1) {
        int plain = connect_plain();
        while (!atomic_load(&stop) && relay_once(ssl, secure, plain)) {
        }
        (void)close(plain);
    }
    SSL_free(ssl);
}

static void *run(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        struct pollfd fd = { .fd = listen_fd, .events = POLLIN };
        if (poll(&fd, 1, TURN_MS) == 1) {
            int secure = accept(listen_fd, NULL, NULL);
            serve(secure);
            (void)close(secure);
        }
    }
    return NULL;
}

static void start(const char *names)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t len = sizeof address;

    make_certificate(names);
    (void)signal(SIGPIPE, SIG_IGN); /* of the test's own SSL_write */
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(listen_fd, (struct sockaddr *)&address, len), 0);
    cr_assert_eq(listen(listen_fd, 8), 0);
    cr_assert_eq(getsockname(listen_fd, (struct sockaddr *)&address, &len), 0);
    (void)snprintf(url, sizeof url, "wss://127.0.0.1:%u",
                   (unsigned)ntohs(address.sin_port));
    options.url = url;
    options.ca_file = cert_path;
    cr_assert_eq(pthread_create(&thread, NULL, run, NULL), 0);
    fake_broker_play(&broker);
}

static void tear_down(void)
{
    godwit_close(client);
    client = NULL;
    atomic_store(&stop, true);
    (void)pthread_join(thread, NULL);
    (void)close(listen_fd);
    SSL_CTX_free(server);
    (void)unlink(cert_path);
    fixture_tear_down();
}

TestSuite(client_tls, .init = fixture_set_up, .fini = tear_down, .timeout = 60);

Test(client_tls, publishes_arrive_and_are_confirmed)
{
    static char body[100000];
    struct godwit_message message = { .body = body, .body_len = sizeof body };

    start("DNS:localhost,IP:127.0.0.1");
    open_client();
    cr_assert_eq(godwit_wait_connected(client, 5000), GODWIT_OK, "%s",
                 last_error());
    for (int i = 0; i < 100; i++) { /* more than the sockets' buffers hold */
        cr_assert_eq(godwit_publish(client, "topic", &message, NULL, NULL),
                     GODWIT_OK);
    }
    cr_assert_eq(godwit_flush(client, 20000), GODWIT_OK, "%s", last_error());
    fake_broker_stop(&broker);
    cr_assert_eq(broker.stored, 100);
}

static enum godwit_verdict on_delivery(void *arg,
                                       const struct godwit_delivery *delivery)
{
    (void)arg;
    (void)delivery;
    return GODWIT_ACK;
}

Test(client_tls, deliveries_arrive_in_a_callers_loop)
{
    struct godwit_subscription sub = { .group = "group",
                                       .handler = on_delivery };

    start("IP:127.0.0.1");
    broker.deliver_count = 20000; /* many TLS records for each read */
    options.own_thread = false;
    open_client();
    cr_assert_eq(godwit_subscribe(client, &sub), GODWIT_OK);
    for (int i = 0; i < 10000 && atomic_load(&broker.settled) < 20000; i++) {
        (void)godwit_flush(client, 1);
        (void)godwit_wait_connected(client, 1000);
    }
    cr_assert_eq(atomic_load(&broker.settled), 20000);
}

Test(client_tls, a_certificate_for_another_host_is_refused)
{
    start("DNS:elsewhere.example,IP:127.0.0.2");
    open_client();
    cr_assert_eq(godwit_wait_connected(client, 300), GODWIT_TIMEOUT);
    cr_assert_not_null(strstr(last_error(), "TLS certificate: IP address "
                                            "mismatch"),
                       "%s", last_error());
}

Test(client_tls, a_certificate_nobody_vouches_for_is_refused)
{
    start("IP:127.0.0.1");
    options.ca_file = NULL; /* the system's store does not know it */
    open_client();
    cr_assert_eq(godwit_wait_connected(client, 300), GODWIT_TIMEOUT);
    cr_assert_not_null(strstr(last_error(), "TLS certificate: self-signed"),
                       "%s", last_error());
}

Test(client_tls, a_broker_without_tls_is_no_tls_broker)
{
    start("IP:127.0.0.1");
    (void)snprintf(url, sizeof url, "wss://%.50s",
                   broker.url + strlen("ws://"));
    options.connect_timeout_ms = 100;
    broker.http_answer = "HTTP/1.1 400 Bad Request\r\n\r\n";
    broker.http_answer_len = strlen(broker.http_answer);
    open_client();
    cr_assert_eq(godwit_wait_connected(client, 400), GODWIT_TIMEOUT);
    cr_assert_not_null(strstr(last_error(), "connect 127.0.0.1"), "%s",
                       last_error());
}

Test(client_tls, calls_go_over_tls_too)
{
    struct godwit_response response;

    start("IP:127.0.0.1");
    broker.http_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    broker.http_answer_len = strlen(broker.http_answer);
    options.own_thread = false;
    open_client();
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(
            godwit_call(client, "GET", "/health", NULL, &response, 5000),
            GODWIT_OK, "%s", last_error());
        cr_assert_str_eq(response.body, "hi");
        godwit_response_fini(&response);
    }
}
