"""The report page of a run: one HTML file that shows what came out and whether it can be trusted.

run directory -> facts -> sections (HTML, SVG) -> page -> RUN/report.html
"""

from da3stream.report.writing import write_report

__all__ = ["write_report"]
