"""Files made on the spot, sound and hostile ones."""

import io
import zipfile
from collections.abc import Sequence

import docx
import openpyxl
from pypdf import PdfWriter

from knowledge_base.documents import Found, Raw


def raw(name: str, content: bytes | str, *, media_type: str = "", sidecar: bytes | str | None = None) -> Raw:
    """A document as a source would hand it over."""
    content = content.encode() if isinstance(content, str) else content
    sidecar = sidecar.encode() if isinstance(sidecar, str) else sidecar
    return Raw(Found(name, f"file:///{name}", name, len(content), "1"), content, media_type, sidecar)


def pdf(pages: Sequence[str], *, title: str = "") -> bytes:
    """A pdf by hand: one line of text a page; an empty one has no text layer."""
    objects = ["<< /Type /Catalog /Pages 2 0 R /Lang (en-GB) >>", ""]
    kids = []
    for text in pages:
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET" if text else "0 0 10 10 re f"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        font = "<< /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(objects)} 0 R "
            f"/Resources << /Font {font} >> >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    objects.append(f"<< /Title ({title}) >>")
    out = io.BytesIO(b"%PDF-1.4\n")
    out.seek(0, 2)
    places = []
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1"))
    start = out.tell()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    out.write(f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n{table}".encode())
    trailer = f"<< /Size {len(places) + 1} /Root 1 0 R /Info {len(objects)} 0 R >>"
    out.write(f"trailer\n{trailer}\nstartxref\n{start}\n%%EOF".encode())
    return out.getvalue()


def locked_pdf(password: str, owner: str) -> bytes:
    """Encrypted; with an empty password anybody may read it."""
    writer = PdfWriter(io.BytesIO(pdf(["Locked words."])))
    writer.encrypt(password, owner, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def word() -> "docx.document.Document":
    """An empty document."""
    return docx.Document()


def saved(document: "docx.document.Document | openpyxl.Workbook") -> bytes:
    """As bytes."""
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def with_member(content: bytes, name: str, text: bytes) -> bytes:
    """An Office file with one part replaced or added."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as after:
        for member in before.namelist():
            if member != name:
                after.writestr(member, before.read(member))
        after.writestr(name, text)
    return out.getvalue()
