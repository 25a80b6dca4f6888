// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Prints rows, as ../src/meter.rs does. */
#include <stdio.h>

#include "raw.h"

void row_of(const char *program, const char *operation, double x, const char *unit,
	    double value)
{
	printf("row\t%s\t%s\t%.0f\t%s\t%.2f\n", program, operation, x, unit, value);
}

void row(const char *operation, double x, const char *unit, double value)
{
	row_of("C", operation, x, unit, value);
}

void buffer_row_of(const char *program, const struct buffer *buffer, const char *operation,
		   double x, const char *unit, double value)
{
	char name[128];

	snprintf(name, sizeof(name), "%s, %s", operation, buffer->kind);
	row_of(program, name, x, unit, value);
}

void buffer_row(const struct buffer *buffer, const char *operation, size_t size, double value)
{
	buffer_row_of("C", buffer, operation, size, "B", value);
}
