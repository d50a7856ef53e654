/* signals.h - signal names and numbers as users write them. Layer: engine. Pure. */
#pragma once

/* "KILL", "SIGKILL", "9", "RTMIN+3"; "" is SIGTERM. -1: unknown. */
int signal_number(const char *text);
