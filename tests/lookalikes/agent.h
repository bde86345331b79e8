/* The SNMP agent of server.c. */
#include <stddef.h>
#include <stdint.h>

extern _Atomic int agent_pid; /* that it tells */

/* The reply to a request, and its length; 0 where there is nothing to say. */
size_t agent_reply(const uint8_t *request, size_t length, uint8_t *reply, size_t room);
