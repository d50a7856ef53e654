/*
 * erofs.h - EROFS images that hold the metadata of a layer, while the content stays in the layer's plain tar.
 *
 * The image is a pure function of the tar: the same bytes always give the same image, so a damaged one is
 * found by making it again. Format: docs/formats/layers.md; kernel Documentation/filesystems/erofs.rst.
 * Layer: snapshot, private.  Threads: one.
 */
#pragma once
#include "base/err.h"
#include "codec/digest.h"
#include "codec/zip.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { EROFS_BLOCK = 512, EROFS_SB_AT = 1024 };

/*
 * Reads a plain tar from source to its end marker and writes its image to image_fd (borrowed, empty).
 * out_size: bytes of content. Errors as of extract_tar: ERR_INVALID "NAME escapes the layer"; ERR_CORRUPT;
 * ERR_LIMIT; as the kernel said.
 */
FALLIBLE erofs_index(struct zip_source tar, int image_fd, uint64_t *out_size);
/* Stamps the tar's digest into a finished image. */
FALLIBLE erofs_stamp(int image_fd, const char *diff_id);
/* What an image says of itself: its diff id and bytes of content. ERR_CORRUPT: none of ours. */
FALLIBLE erofs_look(int image_fd, char out_diff_id[DIGEST_MAX], uint64_t *out_size);
/*
 * The layer as a detached mount, read only: owned fd, or -errno (-ENOTBLK: the kernel, or the file system of
 * these files, knows no mounts of files). Both fds are borrowed and not needed any more afterwards.
 */
int erofs_mount(int image_fd, int tar_fd);
/* Whether mount_fd is the mount of the layer with this digest, as the kernel tells by the image's uuid. */
bool erofs_is_mount_of(int mount_fd, const char *hex);
