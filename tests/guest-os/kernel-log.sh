# shellcheck shell=bash
# Sourced: what the kernel's log says of a fault in the kernel, or in a module.

complaints='WARNING:|BUG:|Oops|Kernel panic|Internal error|Unable to handle kernel|general protection'
complaints+='|Call [Tt]race:|UBSAN:|KASAN:|KFENCE:|refcount_t:|list_(add|del) corruption|DMA-API: (debugging out|[^ ]+ [^ ]+: )'
complaints+='|possible (circular|recursive) lock|suspicious RCU|inconsistent lock state|kmemleak: ([0-9]+ new|.*disabled)|ODEBUG:'
complaints+='|page allocation failure|blocked for more than|self-detected stall|detected (expedited )?stalls'
complaints+='|scheduling while atomic|sleeping function called|pagealloc: (memory corruption|single bit error)'
complaints+='|arm-smmu-v3 .*event 0x'
# A log with holes tells nothing.
complaints+='|printk messages dropped|lockdep is turned off'

# Where a test has a device reach for what is not its own: between these two lines,
# which it writes itself, the IOMMU has to say so, and nowhere else.
intrusion='/guest: intrusion begins$/,/guest: intrusion ends$/'

complaint() { # FILE: the first line of it that is a complaint
    sed -E "$intrusion{/arm-smmu-v3 /d}" "$1" | grep -Em 1 "$complaints" || true
}

around_complaint() { # FILE: the lines before it, and those that say who called
    sed -E "$intrusion{/arm-smmu-v3 /d}" "$1" | grep -Em 1 -B 12 -A 40 "$complaints" || true
}

said_of_intrusion() { # REGULAR-EXPRESSION FILE
    sed -n "$intrusion p" "$2" | grep -Eq "$1"
}
