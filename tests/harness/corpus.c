/*
 * corpus.c - a fuzz target as an ordinary test: everything in tests/corpus/<target> goes through it. Compiled once per
 * target, with FUZZ_NAME and its entry as FUZZ_ENTRY.
 */
#include "base/mem.h"
#include "base/own.h"
#include "harness/t.h"
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>

int FUZZ_ENTRY(const uint8_t *data, size_t size);

#define TEXT_(x)   #x
#define TEXT(x)    TEXT_(x)
#define REPLAY_(x) TEST(x)
#define REPLAY(x)  REPLAY_(x)

REPLAY(FUZZ_NAME)
{
	const char *root = getenv("T_SOURCE");
	auto_free char *dir = xasprintf("%s/tests/corpus/" TEXT(FUZZ_NAME), root ? root : ".");
	DIR *d = opendir(dir);
	size_t n = 0;

	if (!d)
		t_skip("a corpus: tests/corpus/" TEXT(FUZZ_NAME));
	for (struct dirent *e; (e = readdir(d));) {
		auto_free char *path = xasprintf("tests/corpus/" TEXT(FUZZ_NAME) "/%s", e->d_name),
			       *text = NULL;
		size_t size;

		if (e->d_name[0] == '.')
			continue;
		text = t_source_file(path, &size);
		(void)FUZZ_ENTRY((const uint8_t *)text, size);
		n++;
	}
	(void)closedir(d);
	CHECK(n > 0);
}
