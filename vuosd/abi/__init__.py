"""Linux as data: what the kernel's calls are and what this project does with each. No I/O, no code that acts.

In: nothing. Out: tables, from which the BPF filter, the engine's decoder, the page docs/syscalls and the
tests are derived.

- *row*: one system call (or some argument values of one) with its support level and the reason for it
- *level*: handled (trapped, the engine answers), native (never trapped, by design), refused (an errno, never
  trapped)
- *operation*: what a handled call means to the engine; some 110 calls are some 55 operations with other
  argument layouts
- *argument*: which of the six registers holds the path, the flags, the buffer, … of the operation
- *condition*: what the filter can test in registers, so that calls which cannot matter are never trapped
"""
