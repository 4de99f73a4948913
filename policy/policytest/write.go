package policytest

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/noxaudit/noxaudit/internal/escape"
	"github.com/noxaudit/noxaudit/policy"
)

// Suite is what became of one file: results, or the error of Load, of its policies or of Run.
type Suite struct {
	Path     string // of the file of cases
	Policies string // of the document they are about; may be empty where Err is set
	Err      error
	Results  []Result
	Untested []string // policies that no case is about, sorted
}

// Passed reports whether there is a file, every one is valid and every case passed.
func Passed(suites []Suite) bool {
	c := count(suites)
	return c.Files > 0 && c.Invalid == 0 && c.Failed == 0
}

type counts struct {
	Files   int `json:"files"`
	Invalid int `json:"invalid"` // files
	Cases   int `json:"cases"`
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
}

func count(suites []Suite) counts {
	c := counts{Files: len(suites)}
	for _, s := range suites {
		if s.Err != nil {
			c.Invalid++
		}
		for _, r := range s.Results {
			c.Cases++
			if r.Passed {
				c.Passed++
			} else {
				c.Failed++
			}
		}
	}
	return c
}

// problem is why a file is invalid. Its place may be in the policies that it is about.
type problem struct {
	Path    string `json:"path"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func (p problem) String() string {
	if p.Line == 0 {
		return p.Path + ": " + p.Message
	}
	return p.Path + ":" + policy.Problem{Line: p.Line, Column: p.Column, Message: p.Message, Hint: p.Hint}.String()
}

func (s Suite) problems() []problem {
	out := []problem{}
	var load *policy.LoadError
	switch {
	case s.Err == nil:
	case errors.As(s.Err, &load):
		for _, p := range load.Problems {
			out = append(out, problem{load.Origin.Path, p.Line, p.Column, p.Message, p.Hint})
		}
		if load.More > 0 {
			out = append(out, problem{Path: load.Origin.Path, Message: fmt.Sprintf("%d more problems", load.More)})
		}
	default:
		out = append(out, problem{Path: s.Path, Message: s.Err.Error()})
	}
	return out
}

// WriteText writes a line for each case, what differs below one that failed, and the counts at the end.
// Everything of outside origin is escaped.
func WriteText(w io.Writer, suites []Suite) error {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(escape.Visible(fmt.Sprintf(format, args...)) + "\n") }
	indented := func(indent, format string, args ...any) { b.WriteString(indent); line(format, args...) }
	for _, s := range suites {
		line("%s", s.Path)
		for _, p := range s.problems() {
			indented("  INVALID  ", "%s", p)
		}
		for _, r := range s.Results {
			if r.Passed {
				indented("  ok    ", "%s", r.Name)
				continue
			}
			indented("  FAIL  ", "%s (line %d)", r.Name, r.Line)
			for i, d := range r.Differences {
				indented("          ", "%s: want %s, got %s", d.what(), d.Want, d.Got)
				if d.Reason != "" && (i+1 == len(r.Differences) || r.Differences[i+1].Reason != d.Reason) { // once, below all of one policy
					indented("            ", "%s", d.Reason)
				}
			}
		}
		if len(s.Untested) > 0 {
			indented("  note  ", "no case is about %s", strings.Join(s.Untested, ", "))
		}
	}
	c := count(suites)
	fmt.Fprintf(&b, "\n%s in %s: %d passed, %d failed", plural(c.Cases, "case"), plural(c.Files, "file"), c.Passed, c.Failed)
	if c.Invalid > 0 {
		fmt.Fprintf(&b, "; %s not valid", plural(c.Invalid, "file"))
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (d Difference) what() string {
	if d.Policy == "" {
		return d.Member
	}
	return d.Policy + ": " + d.Member
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// WriteJSON writes one object of the schema "noxaudit.policy-test/1".
func WriteJSON(w io.Writer, suites []Suite) error {
	type file struct {
		Path     string    `json:"path"`
		Policies string    `json:"policies,omitempty"`
		Valid    bool      `json:"valid"`
		Problems []problem `json:"problems"`
		Untested []string  `json:"untested"` // policies that no case is about
		Cases    []Result  `json:"cases"`
	}
	out := struct {
		Schema string `json:"schema"`
		Passed bool   `json:"passed"`
		Counts counts `json:"counts"`
		Files  []file `json:"files"`
	}{"noxaudit.policy-test/1", Passed(suites), count(suites), []file{}}
	for _, s := range suites {
		out.Files = append(out.Files, file{
			s.Path, s.Policies, s.Err == nil, s.problems(), append([]string{}, s.Untested...), append([]Result{}, s.Results...),
		})
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string      `xml:"classname,attr"`
	Name    string      `xml:"name,attr"`
	File    string      `xml:"file,attr,omitempty"`
	Line    int         `xml:"line,attr,omitempty"`
	Failure *junitFault `xml:"failure"`
	Error   *junitFault `xml:"error"`
}

type junitFault struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes the XML that CI systems show as test results: a test suite for each file. A file that is not
// valid is one test with an error.
func WriteJUnit(w io.Writer, suites []Suite) error {
	var out junitSuites
	for _, s := range suites {
		file := escape.Visible(s.Path)
		js := junitSuite{Name: file, Tests: len(s.Results)}
		if ps := s.problems(); len(ps) > 0 {
			js.Tests, js.Errors = js.Tests+1, 1
			var text []string
			for _, p := range ps {
				text = append(text, escape.Visible(p.String()))
			}
			js.Cases = append(js.Cases, junitCase{Class: file, Name: "the file is valid", File: file, Error: &junitFault{text[0], strings.Join(text, "\n")}})
		}
		for _, r := range s.Results {
			c := junitCase{Class: file, Name: escape.Visible(r.Name), File: file, Line: r.Line}
			if !r.Passed {
				js.Failures++
				var text []string
				for _, d := range r.Differences {
					text = append(text, escape.Visible(fmt.Sprintf("%s: want %s, got %s", d.what(), d.Want, d.Got)))
				}
				c.Failure = &junitFault{text[0], strings.Join(text, "\n")}
			}
			js.Cases = append(js.Cases, c)
		}
		out.Tests, out.Failures, out.Errors = out.Tests+js.Tests, out.Failures+js.Failures, out.Errors+js.Errors
		out.Suites = append(out.Suites, js)
	}
	b, err := xml.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, xml.Header+string(b)+"\n")
	return err
}
