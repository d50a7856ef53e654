/* create_check.c - see create_check.h. */
#include "engine/create_check.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "engine/health.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const char *text_of(const json_t *v)
{
	return json_is_string(v) ? json_string_value(v) : "";
}

static bool is_address(const char *text)
{
	struct in6_addr six;
	struct in_addr four;

	return inet_pton(AF_INET, text, &four) == 1 || inet_pton(AF_INET6, text, &six) == 1;
}

static FALLIBLE check_addresses(const json_t *h)
{
	size_t i;
	json_t *v;

	json_array_foreach(json_object_get(h, "Dns"), i, v) if (!is_address(text_of(v))) return FAIL(
	    ERR_INVALID, "invalid DNS server: %s is not an ip address", text_of(v));
	json_array_foreach(json_object_get(h, "ExtraHosts"), i, v)
	{
		const char *colon = strchr(text_of(v), ':');

		if (!colon || colon == text_of(v))
			return FAIL(ERR_INVALID, "bad format for add-host: \"%s\"", text_of(v));
		if (strcmp(colon + 1, "host-gateway") != 0 && !is_address(colon + 1))
			return FAIL(ERR_INVALID, "invalid IP address in add-host: \"%s\"", colon + 1);
	}
	return NULL;
}

static FALLIBLE check_log(const json_t *h)
{
	const char *driver = json_str_at(h, "LogConfig.Type", ""), *key;
	json_t *v;
	uint64_t n;

	json_object_foreach(json_at(h, "LogConfig.Config"), key, v)
	{
		if (strcmp(driver, "none") == 0)
			return FAIL(ERR_INVALID, "unknown log opt '%s' for none log driver", key);
		if (strcmp(key, "max-size") == 0)
			TRY(num_parse_bytes(sv_of(text_of(v)), &n));
		else if (strcmp(key, "max-file") == 0)
			TRY(num_parse(sv_of(text_of(v)), 10, 1, 1000, &n));
		else
			return FAIL(
			    ERR_INVALID,
			    "unknown log opt '%s' for json-file log driver (max-size and max-file are known)",
			    key);
	}
	return NULL;
}

static bool is_word(const char *text, const char *word)
{
	size_t n = strlen(word);

	return strncmp(text, word, n) == 0 && (text[n] == '=' || text[n] == ':');
}

/* Labels do nothing where SELinux is off, as docker has it; there is none of ours where it is on. */
static FALLIBLE check_security(const json_t *h)
{
	static const char *const whole[] = { "no-new-privileges",       "no-new-privileges=true",
					     "no-new-privileges:true",  "no-new-privileges=false",
					     "no-new-privileges:false", "label=disable",
					     "label:disable",           "apparmor=unconfined",
					     "apparmor:unconfined" };
	size_t i, k;
	json_t *v;

	json_array_foreach(json_object_get(h, "SecurityOpt"), i, v)
	{
		const char *text = text_of(v);

		for (k = 0; k < LEN(whole) && strcmp(text, whole[k]) != 0; k++)
			;
		if (k < LEN(whole) || is_word(text, "seccomp"))
			continue;
		if (is_word(text, "apparmor") || is_word(text, "label"))
			return FAIL(ERR_UNSUPPORTED, "--security-opt %s: hoy gives containers no %s", text,
				    text[0] == 'a' ? "AppArmor profile" : "SELinux label");
		return FAIL(ERR_INVALID, "invalid --security-opt 2: \"%s\"", text);
	}
	return NULL;
}

static FALLIBLE device_number(struct sv text, int64_t *out)
{
	uint64_t n;

	*out = -1;
	if (sv_is(text, "*"))
		return NULL;
	TRY(num_parse(text, 10, 0, UINT32_MAX, &n));
	*out = (int64_t)n;
	return NULL;
}

FALLIBLE create_device_rule(const char *text, json_t **out_rule)
{
	struct sv rest = sv_of(text), type = sv_cut(&rest, ' '), major = sv_cut(&rest, ':'),
		  minor = sv_cut(&rest, ' ');
	int64_t a = -1, b = -1;
	bool ok = type.n == 1 && strchr("abc", type.p[0]) && rest.n >= 1 && rest.n <= 3 &&
		  strspn(rest.p, "rwm") == rest.n;
	struct err *e = NULL;

	if (ok)
		e = device_number(major, &a);
	if (ok && !e)
		e = device_number(minor, &b);
	if (!ok || e) {
		err_free(e);
		return FAIL(ERR_INVALID, "invalid device cgroup rule format: '%s'", text);
	}
	*out_rule = json_pack("{s:b, s:o, s:o}", "allow", true, "type", json_stringn(type.p, 1), "access",
			      json_stringn(rest.p, rest.n));
	if (a >= 0)
		(void)json_object_set_new(*out_rule, "major", json_integer(a));
	if (b >= 0)
		(void)json_object_set_new(*out_rule, "minor", json_integer(b));
	return NULL;
}

static FALLIBLE check_devices(const json_t *h)
{
	static const char *const rates[] = { "BlkioDeviceReadBps", "BlkioDeviceWriteBps",
					     "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps" };
	size_t i;
	json_t *v;

	json_array_foreach(json_object_get(h, "DeviceCgroupRules"), i, v)
	{
		auto_json json_t *rule = NULL;

		TRY(create_device_rule(text_of(v), &rule));
	}
	json_array_foreach(json_object_get(h, "BlkioWeightDevice"), i,
			   v) if (json_int_at(v, "Weight", 0) < 10 ||
				  json_int_at(v, "Weight", 0) >
				      1000) return FAIL(ERR_INVALID,
							"Range of blkio weight is from 10 to 1000: %s",
							json_str_at(v, "Path", ""));
	for (size_t k = 0; k < LEN(rates); k++)
		json_array_foreach(json_object_get(h, rates[k]), i,
				   v) if (json_int_at(v, "Rate", -1) <
					  0) return FAIL(ERR_INVALID,
							 "%s: the rate of %s is not a positive number",
							 rates[k], json_str_at(v, "Path", ""));
	return NULL;
}

static FALLIBLE check_names(const json_t *body, const json_t *h)
{
	const char *runtime = json_str_at(h, "Runtime", ""), *isolation = json_str_at(h, "Isolation", "");
	const char *umask = json_str_at(h, "HoyUmask", "");
	int64_t score = json_int_at(h, "OomScoreAdj", 0);
	uint64_t n;

	if (*runtime && strcmp(runtime, "hoy") != 0)
		return FAIL(ERR_INVALID, "unknown or invalid runtime name: %s (hoy has one, its own)",
			    runtime);
	if (*isolation && strcmp(isolation, "default") != 0)
		return FAIL(ERR_INVALID, "invalid isolation \"%s\" on linux", isolation);
	if (score < -1000 || score > 1000)
		return FAIL(ERR_INVALID, "Invalid value %lld, range for oom score adj is [-1000, 1000]",
			    (long long)score);
	TRY(health_check(json_object_get(body, "Healthcheck")));
	return *umask ? num_parse(sv_of(umask), 8, 0, 0777, &n) : NULL;
}

FALLIBLE create_check(const json_t *body, const json_t *host)
{
	TRY(check_addresses(host));
	TRY(check_log(host));
	TRY(check_security(host));
	TRY(check_devices(host));
	return check_names(body, host);
}
