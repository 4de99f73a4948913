package simweb

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// line is one line of a diff, with the checks' remarks on it.
type line struct {
	Kind     string // add, del, same, hunk or note
	Old, New int    // line numbers; 0: none on that side
	Text     string
	Remarks  []remark
}

// remark is an annotation with the name of its check.
type remark struct {
	githubsim.Annotation
	Check string
}

// fileDiff is one file of a diff, ready to draw.
type fileDiff struct {
	githubsim.Change
	Lines   []line
	Remarks []remark // on lines that the diff does not show
	Cut     bool
}

// maxLines is how many lines of one file are drawn.
const maxLines = 2000

// diffs lays out changes and puts each annotation under the line where it ends.
func diffs(changes []githubsim.Change, checks []check) []fileDiff {
	var all []fileDiff
	for _, c := range changes {
		f := fileDiff{Change: c, Lines: lines(c.Patch)}
		if len(f.Lines) > maxLines {
			f.Lines, f.Cut = f.Lines[:maxLines], true
		}
		for _, k := range checks {
			for _, a := range k.Annotations {
				if a.Path == c.Path {
					f.put(remark{a, k.Name})
				}
			}
		}
		all = append(all, f)
	}
	return all
}

func (f *fileDiff) put(r remark) {
	for i := range f.Lines {
		if l := &f.Lines[i]; l.New == r.EndLine && l.Kind != "hunk" {
			l.Remarks = append(l.Remarks, r)
			return
		}
	}
	f.Remarks = append(f.Remarks, r)
}

// lines reads a unified diff. What it cannot read it shows as it is.
func lines(patch string) []line {
	var all []line
	was, is := 0, 0
	for text := range strings.Lines(patch) {
		text = strings.TrimRight(text, "\r\n")
		switch {
		case strings.HasPrefix(text, "@@"):
			was, is = hunk(text)
			all = append(all, line{Kind: "hunk", Text: text})
		case strings.HasPrefix(text, "+"):
			all = append(all, line{Kind: "add", New: is, Text: text[1:]})
			is++
		case strings.HasPrefix(text, "-"):
			all = append(all, line{Kind: "del", Old: was, Text: text[1:]})
			was++
		case strings.HasPrefix(text, `\`):
			all = append(all, line{Kind: "note", Text: strings.TrimSpace(text[1:])})
		default:
			all = append(all, line{Kind: "same", Old: was, New: is, Text: strings.TrimPrefix(text, " ")})
			was++
			is++
		}
	}
	return all
}

// hunk reads where a hunk begins: "@@ -was,n +is,n @@".
func hunk(text string) (was, is int) {
	f := strings.Fields(text)
	if len(f) < 3 {
		return 0, 0
	}
	number := func(s string) int {
		s, _, _ = strings.Cut(strings.TrimLeft(s, "+-"), ",")
		n, err := strconv.Atoi(s)
		if err != nil {
			return 0
		}
		return n
	}
	return number(f[1]), number(f[2])
}

// Place is where an annotation is, for people.
func (r remark) Place() string {
	if r.StartLine == r.EndLine {
		return fmt.Sprintf("line %d", r.StartLine)
	}
	return fmt.Sprintf("lines %d to %d", r.StartLine, r.EndLine)
}
