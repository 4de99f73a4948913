package github

import (
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	gogithub "github.com/google/go-github/v62/github"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/name"
)

// GitHub's limits. Summary and text are documented in characters, but refused by bytes ("exceeds a maximum
// bytesize of 65535"), so bytes are what is counted.
const (
	titleRunes      = 255
	textBytes       = 65535
	messageBytes    = 64000 // documented as 64 KB, which may be either
	actionsMost     = 3
	labelRunes      = 20
	descriptionMost = 40
	identifierMost  = 20
)

// shown is a check as GitHub will take it: whatever is too long is cut, and says so.
type shown struct {
	title, summary string
	text           *string // nil: none
	details        *string // nil: none
	annotations    []*gogithub.CheckRunAnnotation
	actions        []*gogithub.CheckRunAction
}

func fit(c gate.Check) shown {
	var s shown
	s.title = cutRunes(c.Title, titleRunes)
	if s.title == "" {
		s.title = CheckName // GitHub wants one
	}
	var unplaced, surplus int
	for _, a := range c.Annotations {
		switch fitted, ok := annotation(a); {
		case !ok:
			unplaced++
		case len(s.annotations) == annotationsMost:
			surplus++
		default:
			s.annotations = append(s.annotations, fitted)
		}
	}
	var note string
	if unplaced > 0 {
		note += fmt.Sprintf("\n\n_Annotations left out because their path is not one of this repository: %d._", unplaced)
	}
	if surplus > 0 {
		note += fmt.Sprintf("\n\n_Annotations left out beyond the first %d: %d._", annotationsMost, surplus)
	}
	summary := c.Summary
	if summary == "" {
		summary = s.title
	}
	s.summary = cutMarkdown(summary, textBytes-len(note)) + note
	if c.Text != "" {
		text := cutMarkdown(c.Text, textBytes)
		s.text = &text
	}
	if u, err := url.Parse(c.DetailsURL); err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" {
		s.details = &c.DetailsURL
	}
	for _, a := range c.Actions {
		// A cut identifier would be another one.
		if a.Identifier == "" || a.Label == "" || utf8.RuneCountInString(a.Identifier) > identifierMost || len(s.actions) == actionsMost {
			continue
		}
		s.actions = append(s.actions, &gogithub.CheckRunAction{
			Label: cutRunes(a.Label, labelRunes), Description: cutRunes(a.Description, descriptionMost), Identifier: a.Identifier,
		})
	}
	return s
}

// annotation brings one note into GitHub's form; false when its path cannot be one of the repository.
func annotation(a gate.Annotation) (*gogithub.CheckRunAnnotation, bool) {
	if clean, err := name.CleanPath(a.Path); err != nil || clean != a.Path {
		return nil, false
	}
	start := max(a.StartLine, 1)
	end := max(a.EndLine, start)
	level := a.Level
	if level != "failure" && level != "warning" && level != "notice" {
		level = "warning"
	}
	title, message := cutRunes(a.Title, titleRunes), cutText(a.Message, messageBytes)
	if message == "" {
		message = title
	}
	if message == "" {
		message = CheckName
	}
	out := &gogithub.CheckRunAnnotation{Path: &a.Path, StartLine: &start, EndLine: &end, AnnotationLevel: &level, Message: &message}
	if title != "" {
		out.Title = &title
	}
	if start == end && a.StartColumn > 0 && a.EndColumn >= a.StartColumn {
		out.StartColumn, out.EndColumn = &a.StartColumn, &a.EndColumn
	}
	return out, true
}

// cutRunes keeps most characters, the last of which says that there were more.
func cutRunes(s string, most int) string {
	s = strings.ToValidUTF8(s, "�")
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

const cutNote = "… (cut: GitHub takes no more)"

// cutText keeps most bytes, with a note at the end when there were more.
func cutText(s string, most int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= most {
		return s
	}
	return runeBoundary(s, most-len(cutNote)) + cutNote
}

// cutMarkdown is cutText for Markdown: it ends at the end of a line where one is near, and closes what the cut left
// open, so that the note stays readable.
func cutMarkdown(s string, most int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= most {
		return s
	}
	const note = "\n\n**Cut here: GitHub takes no more. The details page has all of it.**"
	const closing = 200 // room for what has to be closed
	kept := runeBoundary(s, most-len(note)-closing)
	if i := strings.LastIndexByte(kept, '\n'); i > len(kept)-4096 && i > 0 {
		kept = kept[:i]
	}
	var end strings.Builder
	if fence := openFence(kept); fence != "" {
		end.WriteString("\n" + fence)
	}
	open := strings.Count(kept, "<details") - strings.Count(kept, "</details>")
	for range min(max(open, 0), 10) {
		end.WriteString("\n</details>")
	}
	if end.Len() > closing {
		end.Reset()
	}
	return kept + end.String() + note
}

// openFence is what closes the code block that s ends in; "" when it ends in none.
func openFence(s string) string {
	open := ""
	for line := range strings.Lines(s) {
		line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " ")
		mark := line[:len(line)-len(strings.TrimLeft(line, "`~"))]
		switch {
		case open == "" && (strings.HasPrefix(mark, "```") || strings.HasPrefix(mark, "~~~")):
			open = strings.Repeat(mark[:1], len(mark)-len(strings.TrimLeft(mark, mark[:1])))
		case open != "" && strings.HasPrefix(mark, open) && strings.TrimSpace(line) == mark:
			open = ""
		}
	}
	return open
}

// runeBoundary is the longest prefix of at most n bytes that ends between characters.
func runeBoundary(s string, n int) string {
	n = max(n, 0)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
