"""Small real documents, made by hand: what office programs and others write, and what is broken about files."""
# ruff: noqa: E501 - markup

import io
import zipfile
import zlib

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
P = "http://schemas.openxmlformats.org/presentationml/2006/main"
A = "http://schemas.openxmlformats.org/drawingml/2006/main"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
TYPES = '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'


def zipped(members, **options):
    """A zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content, **options)
    return out.getvalue()


def relations(**targets):
    """A part's relations: kind, or kind_number, and target."""
    each = (f'<Relationship Id="{id}" Type="{R}/{id.split("_")[0]}" Target="{to}"/>' for id, to in targets.items())
    namespace = "http://schemas.openxmlformats.org/package/2006/relationships"
    return f'<Relationships xmlns="{namespace}">{"".join(each)}</Relationships>'


# ---------------------------------------------------------------- PDF


def pdf(*pages, encrypt=False):
    """A PDF: a page is a list of lines, or None for one without text. Encrypted, no password opens it."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids = []
    for page in pages:
        lines = "".join(f"({line}) Tj T* " for line in page or ())
        stream = f"BT /F1 12 Tf 14 TL 50 700 Td {lines}ET".encode() if page else b"0 0 m 100 100 l S"
        objects.append(b"<</Length %d>>stream\n%b\nendstream" % (len(stream), stream))
        resources = b"<</Font<</F1 3 0 R>>>>"
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Resources%b/Contents %d 0 R>>" % (resources, len(objects))
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<</Type/Pages/Kids[%b]/Count %d>>" % (b" ".join(kids), len(kids))
    trailer = b""
    if encrypt:
        objects.append(b"<</Filter/Standard/V 1/R 2/P -4/O(%b)/U(%b)>>" % (b"o" * 32, b"u" * 32))
        trailer = b"/Encrypt %d 0 R/ID[(0123456789abcdef)(0123456789abcdef)]" % len(objects)
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, each in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n%b" % (len(objects) + 1, table)
    out += b"trailer<</Size %d/Root 1 0 R%b>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, trailer, start)
    return bytes(out)


# ---------------------------------------------------------------- office


def word_paragraph(text, style=None, list_level=None):
    properties = f'<w:pStyle w:val="{style}"/>' if style else ""
    if list_level is not None:
        properties += f'<w:numPr><w:ilvl w:val="{list_level}"/><w:numId w:val="1"/></w:numPr>'
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def word_table(*rows):
    cells = ("".join(f"<w:tc>{word_paragraph(cell)}</w:tc>" for cell in row) for row in rows)
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in cells)}</w:tbl>"


def docx(body, **more):
    """A Word document whose styles are named as a German Word names them."""
    styles = (
        '<w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:styleId="Mein"><w:name w:val="Mein Stil"/><w:basedOn w:val="berschrift1"/></w:style>'
        '<w:style w:styleId="Zwei"><w:name w:val="x"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style>'
    )
    note = f'<w:footnote w:id="2">{word_paragraph("A footnote.")}</w:footnote>'
    members = {
        "[Content_Types].xml": TYPES,
        "_rels/.rels": relations(officeDocument="word/document.xml"),
        "word/document.xml": f'<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>',
        "word/_rels/document.xml.rels": relations(styles="styles.xml", footnotes="/word/footnotes.xml"),
        "word/styles.xml": f'<w:styles xmlns:w="{W}">{styles}</w:styles>',
        "word/footnotes.xml": f'<w:footnotes xmlns:w="{W}"><w:footnote w:type="separator"/>{note}</w:footnotes>',
    }
    return zipped(members | more)


def slide(title, text, table=""):
    shapes = "".join(
        f"<p:sp><p:nvSpPr><p:nvPr>{place}</p:nvPr></p:nvSpPr><p:txBody><a:p><a:r><a:t>{words}</a:t></a:r></a:p>"
        "</p:txBody></p:sp>"
        for place, words in (('<p:ph type="title"/>', title), ("", text), ('<p:ph type="sldNum"/>', "7"))
    )
    return f'<p:sld xmlns:p="{P}" xmlns:a="{A}"><p:cSld><p:spTree>{shapes}{table}</p:spTree></p:cSld></p:sld>'


def pptx():
    """Two slides, of which the second stands first; one has notes, the other a table."""
    rows = "".join(
        f"<a:tr>{''.join(f'<a:tc><a:txBody><a:p><a:r><a:t>{x}</a:t></a:r></a:p></a:txBody></a:tc>' for x in row)}</a:tr>"
        for row in ("ab", "cd")
    )
    table = (
        f"<p:graphicFrame><a:graphic><a:graphicData><a:tbl>{rows}</a:tbl></a:graphicData></a:graphic></p:graphicFrame>"
    )
    order = (
        f'<p:sldIdLst xmlns:r="{R}"><p:sldId id="256" r:id="slide_2"/><p:sldId id="257" r:id="slide_1"/></p:sldIdLst>'
    )
    return zipped(
        {
            "[Content_Types].xml": TYPES,
            "_rels/.rels": relations(officeDocument="ppt/presentation.xml"),
            "ppt/presentation.xml": f'<p:presentation xmlns:p="{P}">{order}</p:presentation>',
            "ppt/_rels/presentation.xml.rels": relations(slide_1="slides/slide1.xml", slide_2="slides/slide2.xml"),
            "ppt/slides/slide1.xml": slide("Numbers", "All of them", table),
            "ppt/slides/slide2.xml": slide("Welcome", "Good morning"),
            "ppt/slides/_rels/slide2.xml.rels": relations(notesSlide="../notesSlides/notesSlide1.xml"),
            "ppt/notesSlides/notesSlide1.xml": slide("", "Smile"),
        }
    )


def xlsx(rows=200):
    """A sheet of people with a header, and an empty one."""
    header = "".join(f'<c r="{column}1" t="s"><v>{at}</v></c>' for at, column in enumerate("ABD"))
    body = "".join(
        f'<row r="{row}"><c r="A{row}" t="inlineStr"><is><t>Person number {row}</t></is></c>'
        f'<c r="B{row}" s="1"><v>{45000 + row}</v></c><c r="D{row}"><v>0.30000000000000004</v></c></row>'
        for row in range(2, rows + 2)
    )
    sheets = f'<sheets xmlns:r="{R}"><sheet name="People" r:id="worksheet_1"/><sheet name="Empty" r:id="worksheet_2"/></sheets>'
    strings = "<si><t>Name</t></si><si><r><t>Bo</t></r><r><t>rn</t></r><rPh><t>!</t></rPh></si><si><t>Share</t></si>"
    formats = '<numFmts><numFmt numFmtId="164" formatCode="[$-407]d. mmm yyyy"/></numFmts>'
    used = '<cellXfs><xf numFmtId="0"/><xf numFmtId="164"/></cellXfs>'
    return zipped(
        {
            "[Content_Types].xml": TYPES,
            "_rels/.rels": relations(officeDocument="xl/workbook.xml"),
            "xl/workbook.xml": f'<workbook xmlns="{S}">{sheets}</workbook>',
            "xl/_rels/workbook.xml.rels": relations(
                worksheet_1="worksheets/one.xml",
                worksheet_2="worksheets/two.xml",
                sharedStrings="strings.xml",
                styles="styles.xml",
            ),
            "xl/strings.xml": f'<sst xmlns="{S}">{strings}</sst>',
            "xl/styles.xml": f'<styleSheet xmlns="{S}">{formats}{used}</styleSheet>',
            "xl/worksheets/one.xml": f'<worksheet xmlns="{S}"><sheetData><row r="1">{header}</row>{body}</sheetData></worksheet>',
            "xl/worksheets/two.xml": f'<worksheet xmlns="{S}"><sheetData/></worksheet>',
        }
    )


def odt():
    spaces = (
        'xmlns:office="urn:o" xmlns:text="urn:t" xmlns:table="urn:b" '
        'xmlns:x="urn:oasis:names:tc:opendocument:xmlns:office:1.0"'
    )
    cells = "<table:table-row>" + "".join(
        f"<table:table-cell><text:p>{x}</text:p></table:table-cell>" for x in ("a", "b")
    )
    body = (
        '<text:h text:outline-level="2">Part</text:h><text:p>Two<text:s text:c="3"/>words</text:p>'
        "<text:list><text:list-item><text:p>point</text:p></text:list-item></text:list>"
        f"<table:table>{cells}</table:table-row></table:table>"
    )
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": f"<office:document {spaces}><office:body><office:text>{body}</office:text></office:body>"
            "</office:document>",
        }
    )


def epub():
    package = (
        '<package xmlns="urn:p"><manifest><item id="b" href="two%20b.xhtml"/><item id="a" href="one.xhtml"/></manifest>'
        '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>'
    )
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
            "OEBPS/book.opf": package,
            "OEBPS/one.xhtml": "<html><body><h1>One</h1><p>It begins.</p></body></html>",
            "OEBPS/two b.xhtml": "<html><body><h1>Two</h1><p>It ends.</p></body></html>",
        }
    )


# ---------------------------------------------------------------- hostile


def bomb(expanded, claimed=None):
    """A Word document of some kilobytes that expands to many spaces; its directory may claim something else."""
    content = docx("", **{"word/document.xml": b"<x>" + b" " * (expanded - 3)})
    return content.replace(expanded.to_bytes(4, "little"), (claimed or expanded).to_bytes(4, "little"))


def laughs():
    """A Word document with entities that are made of entities."""
    entities = '<!ENTITY a "ha">' + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    body = f'<!DOCTYPE x [{entities}]><w:document xmlns:w="{W}"><w:body>{word_paragraph("&j;")}</w:body></w:document>'
    return docx("", **{"word/document.xml": body})


def outside():
    """A Word document that asks for a file of the machine it is read on."""
    entity = '<!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'
    body = f'{entity}<w:document xmlns:w="{W}"><w:body>{word_paragraph("&secret;")}</w:body></w:document>'
    return docx("", **{"word/document.xml": body})


def png():
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + zlib.compress(b"\0" * 100)
