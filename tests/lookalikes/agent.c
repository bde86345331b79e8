/* An SNMP agent for GET of v1 and v2c, with two objects: sysUpTime, and the PID as RavenDB's agent tells it.
 *
 * The reply is written from its end to its start, so that each length is known when it is written; lengths take the long
 * form of three bytes, which BER allows everywhere. RFC 3416, section 4.2.1; RFC 1901; X.690, section 8.1.3.
 */
#include <string.h>
#include <time.h>

#include "agent.h"

#define MOST_OBJECTS 8

enum { INTEGER = 0x02, OCTETS = 0x04, OID = 0x06, SEQUENCE = 0x30, TICKS = 0x43 };
enum { NO_SUCH_OBJECT = 0x80, GET = 0xa0, RESPONSE = 0xa2 };

static const uint8_t UPTIME[] = {0x2b, 6, 1, 2, 1, 1, 3, 0};				       /* 1.3.6.1.2.1.1.3.0 */
static const uint8_t PID[] = {0x2b, 6, 1, 4, 1, 0x82, 0xe5, 0x37, 1, 1, 1, 4}; /* 1.3.6.1.4.1.45751.1.1.1.4 */

_Atomic int agent_pid;

struct part {
	const uint8_t *at, *end;
};

struct reply {
	uint8_t *start, *at; /* written from `at` on; room is left between `start` and `at` */
	int short_of_room;
};

/* Takes an element of this kind off `from`. */
static int next(struct part *from, int tag, struct part *content)
{
	if (from->end - from->at < 2 || from->at[0] != tag)
		return 0;
	size_t length = from->at[1], more = 0;
	if (length & 0x80) {
		more = length & 0x7f;
		if (more > 2 || (size_t)(from->end - from->at) < 2 + more)
			return 0;
		length = 0;
		for (size_t i = 0; i < more; i++)
			length = length << 8 | from->at[2 + i];
	}
	content->at = from->at + 2 + more;
	if ((size_t)(from->end - content->at) < length)
		return 0;
	content->end = from->at = content->at + length;
	return 1;
}

static void put(struct reply *reply, const uint8_t *bytes, size_t length)
{
	if ((size_t)(reply->at - reply->start) < length) {
		reply->short_of_room = 1;
		return;
	}
	reply->at -= length;
	memcpy(reply->at, bytes, length);
}

/* Makes all that was written since `end` the content of an element. */
static void head(struct reply *reply, int tag, const uint8_t *end)
{
	size_t length = (size_t)(end - reply->at);
	uint8_t bytes[] = {(uint8_t)tag, 0x82, (uint8_t)(length >> 8), (uint8_t)length};

	put(reply, bytes, sizeof bytes);
}

static void put_element(struct reply *reply, int tag, struct part content)
{
	const uint8_t *end = reply->at;

	put(reply, content.at, (size_t)(content.end - content.at));
	head(reply, tag, end);
}

static void put_number(struct reply *reply, int tag, uint32_t number)
{
	uint8_t bytes[] = {0, (uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number};

	put_element(reply, tag, (struct part){bytes, bytes + sizeof bytes});
}

static int is(struct part oid, const uint8_t *bytes, size_t length)
{
	return (size_t)(oid.end - oid.at) == length && !memcmp(oid.at, bytes, length);
}

static void put_object(struct reply *reply, struct part oid)
{
	const uint8_t *end = reply->at;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (is(oid, UPTIME, sizeof UPTIME))
		put_number(reply, TICKS, (uint32_t)now.tv_sec * 100 + (uint32_t)now.tv_nsec / 10000000);
	else if (is(oid, PID, sizeof PID))
		put_number(reply, INTEGER, (uint32_t)agent_pid);
	else
		put_element(reply, NO_SUCH_OBJECT, (struct part){oid.at, oid.at});
	put_element(reply, OID, oid);
	head(reply, SEQUENCE, end);
}

size_t agent_reply(const uint8_t *request, size_t length, uint8_t *out, size_t room)
{
	struct part all = {request, request + length}, message, version, community, pdu, id, number, list, pair;
	struct part objects[MOST_OBJECTS];
	struct reply reply = {out, out + room, 0};
	const uint8_t *const end = out + room;
	int count = 0;

	if (!next(&all, SEQUENCE, &message) || !next(&message, INTEGER, &version) ||
	    !next(&message, OCTETS, &community) || !next(&message, GET, &pdu) || !next(&pdu, INTEGER, &id) ||
	    !next(&pdu, INTEGER, &number) || !next(&pdu, INTEGER, &number) || !next(&pdu, SEQUENCE, &list))
		return 0;
	while (count < MOST_OBJECTS && next(&list, SEQUENCE, &pair))
		if (!next(&pair, OID, &objects[count++]))
			return 0;
	while (count)
		put_object(&reply, objects[--count]);
	head(&reply, SEQUENCE, end);
	put_number(&reply, INTEGER, 0); /* error-index */
	put_number(&reply, INTEGER, 0); /* error-status */
	put_element(&reply, INTEGER, id);
	head(&reply, RESPONSE, end);
	put_element(&reply, OCTETS, community);
	put_element(&reply, INTEGER, version);
	head(&reply, SEQUENCE, end);
	if (reply.short_of_room)
		return 0;
	length = (size_t)(end - reply.at);
	memmove(out, reply.at, length);
	return length;
}
