"""Built-in file systems: each is an entry point of pyproject.toml, as anybody's, and imports vuosd.api
alone of ours.

    memory.py    a tree in memory that can be changed
    real.py      a directory of the host, file by file; VUOS's vufusereal
    procinfo.py  generated files: the sample for plugins that show and take values
    archive.py   tar, zip, 7z…, read-only, opened as far as they are read (ratarmountcore)
    stores.py    whatever fsspec opens: http, sftp, s3, zip, memory…
    programs.py  FUSE servers that the system has packages of: ext4, squashfs, sshfs…
    python.py    module:Class or a file, named as the source
"""
