"""Other people's test suites, run natively and in views, and compared outcome by outcome.

None of them is part of this repository: `make ltp LTP=DIR`, `make pjdfstest PJD=DIR`,
`make git-tests GIT=DIR`, `make fuse-foreign LIBFUSE=DIR` and `make cpython` are told where one is. A *suite*
(ltp, pjdfstest, cpython, git, fuse) knows its tests and how to read what they say; a *setting* (settings.py)
is an identity and a view, or a mount (mounted.py), in which one test runs; compare.py runs each test in all
of them and tells where a view gave something else than the native run. What is known and explained
(explained.py) is counted apart.
"""
