// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The trace events' code. */
#include <linux/module.h>

#define CREATE_TRACE_POINTS
#include "trace.h"
