"""The bytes of one source file: opened, unpacked up to a limit, and as UTF-8 text in blocks."""

import codecs
import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa

from jobs.config.file_reading import FileReading
from jobs.config.source_files import open_source_file
from jobs.errors import UserError

BLOCK_BYTES = 8 << 20  # of text that is parsed at once, and the longest row
FIRST_BYTES = 1 << 16  # of text in which the header is looked for first
_BOM = codecs.BOM_UTF8
GIB = 1 << 30
DAMAGED = (pa.ArrowException, OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError)  # what unpackers raise


@dataclass(frozen=True)
class SourceFile:
    """A file under `root`, and how it is read."""

    root: str
    name: str
    mapping: FileReading

    @property
    def compression(self) -> str | None:
        """'gzip' or 'zip', by the ending of the name, or None."""
        return {"gz": "gzip", "zip": "zip"}.get(self.name.rpartition(".")[2].lower())

    @property
    def is_utf8(self) -> bool:
        """Whether the text needs no other decoding."""
        return codecs.lookup(self.mapping.encoding).name in ("utf-8", "utf-8-sig")

    def error(self, reason: str, line: int | None = None) -> UserError:
        """Return an error in this file."""
        return UserError(f"land: file {self.name}{f', line {line}' if line else ''}: {reason}")

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Open the file as it is stored, for reading at any place. Raises UserError where it is not there any more."""
        return open_source_file(self.root, self.name)

    def read_blocks(self, n_bytes: int) -> Iterator[bytes]:
        """Yield the unpacked bytes in blocks of about `n_bytes`. Raises UserError where they become more than the limit."""
        with self.open() as stored:
            n_read = 0
            stream = _unpack(self, stored)
            while block := stream.read(n_bytes):
                n_read += len(block)
                if self.compression and n_read > self.mapping.max_gib * GIB:
                    raise self.error(
                        f"it becomes more than {self.mapping.max_gib:g} GiB when it is unpacked; set max_unpacked_gib higher"
                    )
                yield block

    def read_text(self, n_bytes: int) -> Iterator[bytes]:
        """Yield the text as UTF-8 in blocks of about `n_bytes`, without a byte order mark. UTF-8 itself is not validated."""
        blocks = self.read_blocks(n_bytes)
        if self.is_utf8:
            first = b""
            for block in blocks:
                first += block
                if len(first) >= len(_BOM):
                    break
            yield first.removeprefix(_BOM)
            yield from blocks
            return
        decoder = codecs.getincrementaldecoder(self.mapping.encoding)()
        is_first = True
        for block in blocks:
            text = decoder.decode(block)
            yield (text.removeprefix("\ufeff") if is_first else text).encode()
            is_first = is_first and not text
        yield decoder.decode(b"", final=True).encode()


def _unpack(file: SourceFile, stored: BinaryIO) -> BinaryIO:
    if file.compression == "gzip":
        return pa.CompressedInputStream(stored, "gzip")
    if file.compression == "zip":
        return _open_member(file, stored)
    return stored


def _open_member(file: SourceFile, stored: BinaryIO) -> BinaryIO:
    """Open the only file of a ZIP archive; what macOS adds under __MACOSX is none."""
    archive = zipfile.ZipFile(stored)
    members = [member for member in archive.infolist() if not member.is_dir() and not member.filename.startswith("__MACOSX/")]
    if len(members) != 1:
        raise file.error(f"the ZIP archive holds {len(members)} files; one is expected, so unpack it into the input folder")
    if members[0].flag_bits & 1:
        raise file.error("the ZIP archive has a password; unpack it into the input folder")
    return archive.open(members[0])


def locate_damage(file: SourceFile) -> tuple[int, str]:
    """Return the line, from 1, at which a file stops being text, and why; '' where it is text up to its end."""
    encoding = file.mapping.encoding
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    try:
        with file.open() as stored:
            stream = gzip.GzipFile(fileobj=stored) if file.compression == "gzip" else _unpack(file, stored)
            read = stream.read1 if file.compression == "gzip" else stream.read
            while content := read(FIRST_BYTES):
                line += decoder.decode(content).count("\n")
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return line + error.object[: error.start].decode(encoding, "ignore").count("\n"), f"not {encoding} text"
    except UnicodeError:
        return line, f"not {encoding} text"
    except DAMAGED:
        return line, "the compressed file is truncated or damaged"
    return line, ""
