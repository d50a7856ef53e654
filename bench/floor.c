/*
 * floor.c - what no pull can leave out: read a blob, hash it, inflate it, hash that, write it, sync it. Two threads, the same
 * libraries as hoy. usage: floor BLOB OUT
 */
#include <fcntl.h>
#include <isa-l/igzip_lib.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

enum { SLOTS = 8, SLOT = 1 << 18 };
static unsigned char slots[SLOTS][SLOT], in[SLOT];
static size_t lengths[SLOTS], filled, taken;
static int ended, out_fd;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;

static void need(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static void *second(void *arg)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();

	EVP_DigestInit(md, EVP_sha256());
	for (;;) {
		pthread_mutex_lock(&lock);
		while (filled == taken && !ended)
			pthread_cond_wait(&moved, &lock);
		if (filled == taken)
			break;
		pthread_mutex_unlock(&lock);
		EVP_DigestUpdate(md, slots[taken % SLOTS], lengths[taken % SLOTS]);
		need(write(out_fd, slots[taken % SLOTS], lengths[taken % SLOTS]) == (ssize_t)lengths[taken % SLOTS], "write");
		pthread_mutex_lock(&lock);
		taken++;
		pthread_cond_signal(&moved);
		pthread_mutex_unlock(&lock);
	}
	return arg;
}

static void publish(size_t n)
{
	pthread_mutex_lock(&lock);
	lengths[filled++ % SLOTS] = n;
	pthread_cond_signal(&moved);
	while (filled - taken == SLOTS)
		pthread_cond_wait(&moved, &lock);
	pthread_mutex_unlock(&lock);
}

int main(int argc, char **argv)
{
	int fd = argc == 3 ? open(argv[1], O_RDONLY) : -1, is_zstd = 0;
	struct inflate_state *gz = calloc(1, sizeof *gz);
	ZSTD_DCtx *zstd = ZSTD_createDCtx();
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	pthread_t thread;
	size_t used = 0;
	ssize_t n;

	out_fd = argc == 3 ? open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
	need(fd >= 0 && out_fd >= 0, "usage: floor BLOB OUT");
	isal_inflate_init(gz);
	gz->crc_flag = ISAL_GZIP;
	EVP_DigestInit(md, EVP_sha256());
	pthread_create(&thread, NULL, second, NULL);
	for (int first = 1; (n = read(fd, in, sizeof in)) > 0; first = 0) {
		ZSTD_inBuffer zin = { in, (size_t)n, 0 };

		if (first)
			is_zstd = in[0] == 0x28;
		EVP_DigestUpdate(md, in, (size_t)n);
		gz->next_in = in;
		gz->avail_in = (uint32_t)n;
		for (;;) {
			unsigned char *slot = slots[filled % SLOTS];
			ZSTD_outBuffer zout = { slot, SLOT, used };

			if (is_zstd) {
				need(!ZSTD_isError(ZSTD_decompressStream(zstd, &zout, &zin)), "zstd");
				used = zout.pos;
			} else {
				gz->next_out = slot + used;
				gz->avail_out = (uint32_t)(SLOT - used);
				need(isal_inflate(gz) == ISAL_DECOMP_OK, "gzip");
				used = SLOT - gz->avail_out;
			}
			if (used < SLOT)
				break;
			publish(used);
			used = 0;
		}
	}
	if (used)
		publish(used);
	pthread_mutex_lock(&lock);
	ended = 1;
	pthread_cond_signal(&moved);
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	need(fdatasync(out_fd) == 0, "sync");
	return 0;
}
