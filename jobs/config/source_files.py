"""The files of a source under its input folder."""

from fnmatch import fnmatch

from pyarrow import fs

from jobs.config.source_mapping import TableMapping
from jobs.errors import UserError
from jobs.storage.files import open_filesystem


def find_files(root: str, mapping: TableMapping) -> list[tuple[str, fs.FileInfo]]:
    """Return the files under `root` that the mapping names, as (name relative to root, info), sorted by name.

    Raises UserError where the folder is missing or holds no such file.
    """
    filesystem, base = open_filesystem(root)
    try:
        infos = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
    except (FileNotFoundError, NotADirectoryError, OSError):
        raise UserError(f"land: input folder {root} does not exist; name it with INPUT= or SHOAL_INPUT") from None
    infos_by_name = {info.path.removeprefix(base).lstrip("/"): info for info in infos if info.type == fs.FileType.File}
    files = sorted((name, info) for name, info in infos_by_name.items() if fnmatch(name, mapping.files))
    if not files:
        raise UserError(f"land: no file {mapping.files} ({mapping.table}) in {root}; check INPUT= and the source's mapping")
    return files
