package web

import (
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/report/figures"
)

// Charts are shapes only: they stretch with their place while strokes keep their width, and their words are HTML
// beside them, so text never shrinks with a chart. They are made of numbers and class names of ours.

// part is a share of a bar.
type part struct {
	Class string
	Of    int
}

// bar divides its whole among parts, with a gap between them; what is left of all is track.
func bar(height, gap int, all int, parts ...part) template.HTML {
	const width = 1000
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="bar" viewBox="0 0 %d %d" preserveAspectRatio="none" aria-hidden="true"><rect class="f-track" width="%d" height="%d"></rect>`, width, height, width, height)
	parts = slices.DeleteFunc(slices.Clone(parts), func(p part) bool { return p.Of <= 0 })
	x := 0
	for i, p := range parts {
		w := 0
		if all > 0 {
			w = max(4, p.Of*width/all) // the smallest share stays to be seen
		}
		w = min(w, width-x)
		draw := w
		if i < len(parts)-1 && w > gap {
			draw = w - gap
		}
		fmt.Fprintf(&b, `<rect class="%s" x="%d" width="%d" height="%d"></rect>`, p.Class, x, draw, height)
		if draw < w {
			fmt.Fprintf(&b, `<rect class="f-gap" x="%d" width="%d" height="%d"></rect>`, x+draw, w-draw, height)
		}
		x += w
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}

// line is a series over its own scale, from zero.
func line(class string, series []int, known int) template.HTML {
	n := len(series)
	if n < 2 || known >= n {
		return ""
	}
	top := max(1, slices.Max(series))
	var points []string
	for i, v := range series[known:] {
		points = append(points, fmt.Sprintf("%d,%d", (known+i)*10, 100-v*96/top))
	}
	first, last := known*10, (n-1)*10
	path := strings.Join(points, " L")
	return template.HTML(fmt.Sprintf(`<svg class="chart" viewBox="0 0 %d 101" preserveAspectRatio="none" aria-hidden="true">`+
		`<path class="area c-%s" d="M%d,100 L%s L%d,100 Z"></path><line class="base" x1="0" y1="100" x2="%d" y2="100"></line><path class="edge c-%s" d="M%s"></path></svg>`,
		last, class, first, path, last, last, class, path))
}

// trendRow is one severity's development.
type trendRow struct {
	Severity finding.Severity
	Chart    template.HTML
	Top, Now int
	From     int
	Change   int // now less from
}

// Arrow says which way it went.
func (t trendRow) Arrow() string {
	switch {
	case t.Change < 0:
		return "↓"
	case t.Change > 0:
		return "↑"
	}
	return ""
}

// Class says whether that is good.
func (t trendRow) Class() string {
	switch {
	case t.Change < 0:
		return "better"
	case t.Change > 0:
		return "worse"
	}
	return "quiet"
}

// Abs is the change without its sign.
func (t trendRow) Abs() int { return max(t.Change, -t.Change) }

func trendRows(t figures.Trend, open figures.BySeverity) []trendRow {
	var out []trendRow
	for _, s := range finding.Severities() {
		series := t.Series[s]
		if s == finding.Info && slices.Max(series) == 0 {
			continue
		}
		r := trendRow{Severity: s, Chart: line(s.String(), series, t.Known), Top: slices.Max(series), Now: open[s]}
		if t.Known < len(series) {
			r.From = series[t.Known]
			r.Change = r.Now - r.From
		}
		out = append(out, r)
	}
	return out
}

// weekRow is a line of the trend as a table.
type weekRow struct {
	Day string
	N   []int // by the severities of the head
}

func trendTable(t figures.Trend, rows []trendRow) []weekRow {
	var out []weekRow
	for i := t.Days - 1; i >= t.Known; i -= 7 {
		r := weekRow{Day: day(t.Date(i))}
		for _, row := range rows {
			r.N = append(r.N, t.Series[row.Severity][i])
		}
		out = append(out, r)
	}
	return out
}

// heat draws one square per repository: each a link that says what it stands for.
func heat(squares []square) template.HTML {
	var b strings.Builder
	b.Grow(len(squares) * 220)
	for _, s := range squares {
		name := template.HTMLEscapeString(s.Name)
		b.WriteString(`<li><a class="sq ` + s.Class + `" href="` + template.HTMLEscapeString(s.Address) + `" title="` + name + `" aria-label="` + name + `"><span aria-hidden="true">` + s.Sign + "</span></a></li>\n")
	}
	return template.HTML(b.String())
}
