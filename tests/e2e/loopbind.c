/* LD_PRELOAD: whoever binds to all addresses binds to 127.0.0.1. Orthanc 1.10 cannot be told where to listen. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <sys/socket.h>

int bind(int socket, const struct sockaddr *address, socklen_t length) {
  static int (*real)(int, const struct sockaddr *, socklen_t);
  if (!real) real = dlsym(RTLD_NEXT, "bind");
  if (address && address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
    struct sockaddr_in own = *(const struct sockaddr_in *)address;
    if (own.sin_addr.s_addr == htonl(INADDR_ANY)) own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return real(socket, (struct sockaddr *)&own, sizeof own);
  }
  return real(socket, address, length);
}
