"""Tables as Markdown, LaTeX (booktabs), HTML and CSV."""

import csv
import html
import io
import re
from collections.abc import Iterator, Sequence

from distill.comparison.forms import Cell, Form
from distill.text import harmless, spreadsheet

SPECIAL = {
    **{char: f"\\{char}" for char in "_%&#${}"}, "\\": r"\textbackslash{}", "~": r"\textasciitilde{}",
    **{"^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "–": "--"},
    **{"±": r"$\pm$", "†": r"$^\dagger$", "‡": r"$^\ddagger$", "×": r"$\times$"},
}  # fmt: skip
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse;border-top:2px solid;border-bottom:2px solid}thead{border-bottom:1px solid}"
    "th,td{padding:.2rem .7rem;text-align:left;vertical-align:top}tr.part{border-top:1px solid #8888}sup,i{opacity:.6}"
    "section{overflow-x:auto;margin-bottom:2.5rem}p{margin:.2rem 0;opacity:.8;font-size:.85em}"
)


def latex_text(text: str) -> str:
    """``text`` with what LaTeX would read as commands spelt out.

    Examples:
        >>> print(latex_text("lr_img, 80 % & more"))
        lr\\_img, 80 \\% \\& more
    """
    return "".join(SPECIAL.get(char, char) for char in harmless(text))


def latex(form: Form) -> str:
    """A ``table`` that needs the packages booktabs and xcolor; the notes stand below it."""

    def shown(cell: Cell) -> str:
        text = latex_text(cell.text)
        above = f"$^{{{cell.runs.replace('x', chr(92) + 'times ')}}}$" if cell.runs else ""
        text = rf"\textcolor{{gray}}{{\textit{{{text}}}}}" if cell.grey else text
        return (rf"\textbf{{{text}}}" if cell.bold else text) + latex_text(cell.mark) + above

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    body: list[str] = []
    for row in form.rows:
        body += [r"\midrule"] if _begins(form, row, bool(body)) else []
        body.append(line([shown(cell) for cell in row]))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(form.title)}}}",
        rf"\begin{{tabular}}{{{'l' * len(form.columns)}}}",
        r"\toprule",
        line([latex_text(name) for name in form.columns]),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize {latex_text(note)}" for note in form.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def markdown(forms: Sequence[Form]) -> str:
    """All tables, one below another."""
    parts = [f"## {_plain(form.title)}\n\n{lines(form)}\n{below(form)}" for form in forms]
    return "\n\n".join(parts) + "\n"


def below(form: Form) -> str:
    """The notes of a table as a Markdown list."""
    return "".join(f"\n- {_plain(note)}" for note in form.notes)


def lines(form: Form) -> str:
    """A table in Markdown, without title and notes."""

    def shown(cell: Cell) -> str:
        above = f" <sup>{cell.runs}</sup>" if cell.runs else ""
        around = "**" * cell.bold + "*" * cell.grey
        text = f"[{_plain(cell.text)}]({cell.link})" if cell.link else _plain(cell.text)
        return around + text + around + cell.mark + above

    head = [f"| {' | '.join(map(_plain, form.columns))} |", "|" + "---|" * len(form.columns)]
    return "\n".join([*head, *(f"| {' | '.join(map(shown, row))} |" for row in form.rows)])


def page(forms: Sequence[Form]) -> str:
    """All tables as one HTML file that needs no other."""

    def shown(cell: Cell) -> str:
        text = html.escape(harmless(cell.text))
        text = f"<i>{text}</i>" if cell.grey else text
        return (f"<b>{text}</b>" if cell.bold else text) + cell.mark + (f"<sup>{cell.runs}</sup>" if cell.runs else "")

    def table(form: Form) -> Iterator[str]:
        head = "".join(f"<th>{html.escape(harmless(name))}</th>" for name in form.columns)
        yield f"<section><h2>{html.escape(harmless(form.title))}</h2><table><thead><tr>{head}</tr></thead><tbody>"
        for number, row in enumerate(form.rows):
            part = ' class="part"' if _begins(form, row, number > 0) else ""
            yield f"<tr{part}>{''.join(f'<td>{shown(cell)}</td>' for cell in row)}</tr>"
        yield (
            "</tbody></table>" + "".join(f"<p>{html.escape(harmless(note))}</p>" for note in form.notes) + "</section>"
        )

    start = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>distill: comparison</title><style>{STYLE}</style>'
    )
    return (
        "\n".join([start, "<h1>Comparison</h1>", *(line for form in forms for line in table(form)), "</html>"]) + "\n"
    )


def sheet(form: Form) -> str:
    """CSV; a family, which stands once, in every row, and the runs and marks of a cell in brackets behind it."""

    def shown(cell: Cell) -> str:
        if re.fullmatch(r"[+-][\d.]+( to [+-][\d.]+)?", cell.text):
            return cell.text  # a difference is no formula
        more = " ".join(filter(None, (cell.mark, cell.runs, "published" * cell.grey)))
        return str(spreadsheet(harmless(cell.text) + (f" ({more})" if more else "")))

    file, kind = io.StringIO(), ""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([spreadsheet(name) for name in form.columns])
    for row in form.rows:
        kind = row[0].text or kind
        writer.writerow([shown(Cell(kind) if form.families else row[0]), *map(shown, row[1:])])
    return file.getvalue()


def _plain(text: str) -> str:
    """Text of which Markdown makes no markup."""
    return html.escape(harmless(text), quote=False).replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def _begins(form: Form, row: Sequence[Cell], later: bool) -> bool:
    """Whether a family begins, after another."""
    return form.families and later and bool(row[0].text)
