/* endpoint.c - see endpoint.h. */
#include "engine/endpoint.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/json.h"
#include "network/network.h"
#include <arpa/inet.h>

#define MAC_WISH "HoyMacAddress" /* MacAddress is what it has */

static const json_t *of_network(const json_t *doc, const char *network)
{
	return json_object_get(json_at(doc, "NetworkSettings.Networks"), network);
}

static bool is_of_user(const char *network)
{
	static const char *const ours[] = { "", "bridge", "default", "host", "none" };

	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
		if (strcmp(network, ours[i]) == 0)
			return false;
	return strncmp(network, "container:", 10) != 0;
}

static bool has_card(const char *network)
{
	return strcmp(network, "host") != 0 && strcmp(network, "none") != 0 && strncmp(network, "container:", 10) != 0;
}

/* It goes into /etc/hosts files: one word, one letter is enough. */
static bool is_alias(const char *s)
{
	static const char digits_letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

	return text_is_name(sv_of(s)) || (strlen(s) == 1 && strchr(digits_letters, *s));
}

static FALLIBLE check(const char *network, const json_t *wish)
{
	const char *ip = json_str_at(wish, "IPAMConfig.IPv4Address", "");
	const char *mac = json_str_at(wish, "MacAddress", "");
	auto_list char **names = NULL;
	struct in_addr addr;
	uint8_t bytes[6];

	TRY(json_list_at(wish, "Aliases", &names));
	if (*ip && inet_pton(AF_INET, ip, &addr) != 1)
		return FAIL(ERR_INVALID, "invalid IPv4 address: %s", ip);
	for (size_t i = 0; names && names[i]; i++)
		if (!is_alias(names[i]))
			return FAIL(ERR_INVALID, "invalid network alias: %s", names[i]);
	if (*mac && !network_mac_parse(mac, bytes))
		return FAIL(ERR_INVALID, "invalid MAC address: %s (wanted is one of a card, as 02:42:ac:11:00:02)", mac);
	if (*mac && !has_card(network))
		return FAIL(ERR_INVALID, "conflicting options: mac-address and the network mode (%s)", network);
	if ((*ip || (names && names[0])) && !is_of_user(network))
		return FAIL(ERR_INVALID, "an address or alias can be wanted on networks of your own only, not on %s (see hoy network "
			    "create)", *network ? network : "bridge");
	return NULL;
}

FALLIBLE endpoint_keep(const json_t *body, json_t *doc)
{
	json_t *all = json_at(body, "NetworkingConfig.EndpointsConfig"), *wish, *networks = json_object();
	const char *name;

	json_object_foreach (all, name, wish) {
		struct err *e = check(name, wish);

		if (e) {
			json_decref(networks);
			return e;
		}
		(void)json_object_set_new(networks, name,
					  json_pack("{s:O?, s:O?, s:O?}", "IPAMConfig", json_object_get(wish, "IPAMConfig"), "Aliases",
						    json_object_get(wish, "Aliases"), MAC_WISH, json_object_get(wish, "MacAddress")));
	}
	if (json_object_size(networks) == 0)
		json_decref(networks);
	else
		(void)json_object_set_new(json_object_get(doc, "NetworkSettings"), "Networks", networks);
	return NULL;
}

void endpoint_wishes(const json_t *doc, const char *network, uint32_t *out_ip, uint8_t out_mac[6], char ***names)
{
	const json_t *wish = of_network(doc, network), *alias;
	struct in_addr addr = { 0 };
	size_t i;

	if (inet_pton(AF_INET, json_str_at(wish, "IPAMConfig.IPv4Address", ""), &addr) != 1)
		addr.s_addr = 0;
	*out_ip = addr.s_addr;
	if (!network_mac_parse(json_str_at(wish, MAC_WISH, ""), out_mac))
		memset(out_mac, 0, 6);
	json_array_foreach (json_object_get(wish, "Aliases"), i, alias)
		if (json_is_string(alias))
			text_list_add(names, json_string_value(alias));
}

void endpoint_carry(const json_t *doc, const char *network, json_t *settings)
{
	static const char *const keys[] = { "IPAMConfig", "Aliases", MAC_WISH };

	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		json_t *v = json_object_get(of_network(doc, network), keys[i]);

		if (v)
			(void)json_object_set(settings, keys[i], v);
	}
}
