package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with a document, at its place.
type Problem struct {
	Line, Column int    // from 1
	Message      string // what is wrong; may quote the document, so it is escaped by whoever shows it
	Hint         string // what to write instead; may be empty
}

func (p Problem) String() string {
	s := fmt.Sprintf("%d:%d: %s", p.Line, p.Column, p.Message)
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// maxProblems is how many problems a LoadError lists.
const maxProblems = 100

// LoadError is why a document was refused. Problems holds all there is to repair, by place, but at most
// 100; More counts the others.
type LoadError struct {
	Origin   Origin
	Problems []Problem
	More     int
}

func (e *LoadError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%s", e.Origin.Path, e.Problems[0])
	switch n := len(e.Problems) - 1 + e.More; {
	case n == 1:
		b.WriteString(", and 1 more problem")
	case n > 1:
		fmt.Fprintf(&b, ", and %d more problems", n)
	}
	return b.String()
}

func newLoadError(origin Origin, ps []Problem) *LoadError {
	for i := range ps {
		ps[i].Line, ps[i].Column = max(ps[i].Line, 1), max(ps[i].Column, 1)
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), strings.Compare(a.Message, b.Message))
	})
	ps = slices.Compact(ps)
	e := &LoadError{Origin: origin, Problems: ps}
	if len(ps) > maxProblems {
		e.Problems, e.More = ps[:maxProblems], len(ps)-maxProblems
	}
	return e
}

// suggest finds the word that was probably meant, or "".
func suggest(got string, words []string) string {
	plain := simplify(got)
	if plain == "" || len(plain) > 64 {
		return ""
	}
	best, bestDistance := "", len(plain)/3+2
	for _, w := range words {
		p := simplify(w)
		if p == plain {
			return w
		}
		// "severity" is far from severity_minimum in letters, and near in meaning.
		if len(plain) > 3 && strings.HasPrefix(p, plain) {
			return w
		}
		if d := distance(plain, p); d < bestDistance && d < len(p) {
			best, bestDistance = w, d
		}
	}
	return best
}

// simplify forgets how words are joined: severityMinimum, Severity-Minimum and severity_minimum are one.
func simplify(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToLower(s))
}

// distance is the number of letters to insert, delete or replace between two words.
func distance(a, b string) int {
	ra, rb := []rune(a), []rune(b)
	row := make([]int, len(rb)+1)
	for j := range row {
		row[j] = j
	}
	for i := range ra {
		diagonal := row[0]
		row[0] = i + 1
		for j := range rb {
			above := row[j+1]
			change := diagonal
			if ra[i] != rb[j] {
				change++
			}
			row[j+1] = min(change, above+1, row[j]+1)
			diagonal = above
		}
	}
	return row[len(rb)]
}

// oneOf writes "block, warn or report".
func oneOf(words []string) string {
	if len(words) == 1 {
		return "`" + words[0] + "`"
	}
	var b strings.Builder
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString("`" + w + "`")
	}
	return b.String()
}
